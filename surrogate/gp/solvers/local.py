"""Gaussian processes conditioned on the nearest neighbours of each point.

The m nearest of n points give nearly as much information on a point as all n, at O(m^3) instead of O(n^3). Variances
are never below the exact ones, because fewer data leave more variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surrogate.gp.composition import Kernel
from surrogate.gp.scales import Observations, ScaledProcess, scale_and_size
from surrogate.linalg.stationary import squared_distance

__all__ = [
    "BLOCK",
    "half_solve",
    "LocalPosterior",
    "local_posterior",
    "local_prediction",
    "nearest",
    "nearest_others",
    "predict_locally",
]


BLOCK = 4_000_000
"""Kernel values computed at a time: 32 MB in float64."""


def nearest(
    x: Tensor, targets: Tensor, m: int, distance: Callable[[Tensor, Tensor], Tensor] = squared_distance
) -> Tensor:
    """Indices of the m points of x nearest to each target, in descending order of distance, with shape (b, m).

    By brute force in blocks: O(b n d).

    Args:
        x: Points, with shape (n, d).
        targets: Targets, with shape (b, d).
        m: Number of points.
        distance: Function from shapes (b, d) and (n, d) to (b, n).

    Raises:
        ValueError: If ``m`` is not in 1..n.
    """
    if not 1 <= m <= len(x):
        msg = f"m must be in 1..{len(x)}, got {m}"
        raise ValueError(msg)
    block = max(1, BLOCK // len(x))
    parts = [distance(part, x).topk(m, dim=1, largest=False).indices.flip(1) for part in torch.split(targets, block)]
    return torch.cat(parts) if parts else torch.empty(0, m, dtype=torch.int64, device=x.device)


def nearest_others(
    x: Tensor, targets: Tensor, m: int, distance: Callable[[Tensor, Tensor], Tensor] = squared_distance
) -> Tensor:
    """Indices of the m nearest other points, for some of the points, with shape (b, m).

    Args:
        x: All points, with shape (n, d).
        targets: Indices, with shape (b,).
        m: Number of neighbours, at most n - 1.
        distance: See ``nearest``.

    Raises:
        ValueError: If ``m`` is not in 1..n - 1.
    """
    if not 1 <= m < len(x):
        msg = f"m must be in 1..{len(x) - 1}, got {m}"
        raise ValueError(msg)
    rows = nearest(x, x[targets], m + 1, distance)
    own = rows == targets[:, None]
    own[~own.any(1), -1] = True  # if more than m + 1 points coincide, the point itself may not be among these
    return rows[~own].reshape(len(targets), m)


def half_solve(k: Tensor, noise: Tensor, right: Tensor) -> Tensor:
    """L^-1 right with L L^T = K + noise, of a batch of points and their neighbours: O(b m^3 / 3).

    Args:
        k: Covariances of neighbours, with shape (b, m, m), overwritten.
        noise: Their noise variances, with shape (b, m).
        right: With shape (b, m, c).
    """
    k.diagonal(dim1=1, dim2=2).add_(noise)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(k), right, upper=False)


def local_prediction(
    kernel: Kernel, x: Tensor, y: Tensor, new: Tensor, rows: Tensor, *, noise: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of g at new points, each given its own m points, in units of s: O(b m^3 / 3).

    Args:
        kernel: Covariance function.
        x: Points, with shape (n, d).
        y: Values, with shape (n,).
        new: New points, with shape (b, d).
        rows: Indices of the points on which each is conditioned, with shape (b, m), the nearest last.
        noise: Noise variance in units of s^2, or variances with shape (n,).

    Returns:
        Two tensors with shape (b,). The variance is never below that given all n points.
    """
    m = rows.shape[1]
    noises = torch.as_tensor(noise, dtype=x.dtype, device=x.device).expand(len(x))
    means, variances = [x.new_empty(0)], [x.new_empty(0)]
    size = max(1, BLOCK // (m + 1) ** 2)
    for part, index in zip(new.split(size), rows.split(size), strict=True):
        k = kernel.covariances(torch.cat([x[index], part[:, None]], 1)).clone()
        cross, prior = k[:, :m, m:].clone(), k[:, m, m].clone()
        half = half_solve(k[:, :m, :m].contiguous(), noises[index], torch.cat([cross, y[index][..., None]], -1))
        means.append((half[..., 0] * half[..., 1]).sum(1))
        variances.append((prior - half[..., 0].square().sum(1)).clamp(min=0.0))
    return torch.cat(means), torch.cat(variances)


def predict_locally(process: ScaledProcess, data: Observations, new: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Mean and variance at new points given their m nearest neighbours, in units of s: O(b (n d + m^3 / 3)).

    Args:
        process: Kernel and hyperparameters.
        data: Data with centred values.
        new: New points, with shape (b, d).
        m: Number of neighbours; at most the number of points.
    """
    kernel, m = process.kernel, min(m, len(data))
    parts = []
    for part in new.split(max(1, BLOCK // (m + 1) ** 2)):  # in blocks of neighbours
        rows = nearest(data.x, part, m, kernel.distance)
        parts.append(local_prediction(kernel, data.x, data.y, part, rows, noise=data.noise(process.eta)))
    if not parts:
        return new.new_empty(0), new.new_empty(0)
    return torch.cat([mean for mean, _ in parts]), torch.cat([variance for _, variance in parts])


@dataclass(frozen=True, eq=False)
class LocalPosterior:
    """A posterior that conditions each new point on its nearest neighbours, when predicting.

    Predictions at different points come from different data, so they have no joint covariance, and the mean is slightly
    discontinuous.

    Attributes:
        process: Kernel and hyperparameters.
        data: All points, with values relative to the constant.
        neighbours: Number m of neighbours.
        constant: Constant of the mean.
        factor: Factor on the variance, from held-out errors.
        residual: nan, because no system is solved for all points.
        status: How it was computed.
    """

    process: ScaledProcess
    data: Observations
    neighbours: int
    constant: float
    factor: float
    residual: float
    status: str

    def mean(self, new: Tensor) -> Tensor:
        """Posterior mean, with shape (b,), for new points with shape (b, d): O(b (n d + m^3 / 3))."""
        return self.constant + predict_locally(self.process, self.data, new, self.neighbours)[0]

    def variance(self, new: Tensor) -> Tensor:
        """Posterior variance of the function without noise, with shape (b,): O(b (n d + m^3 / 3))."""
        return self.process.variance * self.factor * predict_locally(self.process, self.data, new, self.neighbours)[1]


def local_posterior(
    process: ScaledProcess, data: Observations, *, neighbours: int = 256, calibration: Tensor
) -> LocalPosterior:
    """The posterior whose predictions are conditioned on nearest neighbours, with the mean of the values as prior mean.

    Args:
        process: Kernel and hyperparameters. A given scale is kept.
        data: At least 2 points with values, in float64.
        neighbours: Number m of neighbours for each prediction.
        calibration: Indices of points whose leave-one-out errors calibrate the variances.
    """
    constant = data.level(process.eta)
    rest = replace(data, y=data.y - constant)
    kernel, m = process.kernel, min(neighbours, len(data) - 1)
    rows = nearest_others(data.x, calibration, m, kernel.distance)
    noise = data.noise(process.eta)
    mean, variance = local_prediction(kernel, data.x, rest.y, data.x[calibration], rows, noise=noise)
    own = noise[calibration] if isinstance(noise, Tensor) else noise
    s, factor = scale_and_size(rest.y[calibration] - mean, variance, own, scale=process.scale)
    status = f"{m} nearest of {len(data)} points for each prediction"
    return LocalPosterior(process.with_(scale=s), rest, m, constant, factor, float("nan"), status)
