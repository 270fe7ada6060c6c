"""The process given all points, by a Cholesky factor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.gp.optimise import rescue
from surrogate.gp.scales import Observations, ScaledProcess
from surrogate.gp.solvers.cholesky import cholesky_in_place

__all__ = ["ExactPosterior", "exact_posterior"]


_TILE = 4_000_000  # kernel values computed at a time


@dataclass(frozen=True, eq=False)
class ExactPosterior:
    """The process given all points, by a Cholesky factor.

    Attributes:
        process: Kernel and hyperparameters, with the eta and s used.
        x: Points, with shape (n, d).
        lower: L with L L^T = k(X, X) + eta R, with shape (n, n).
        weights: (k(X, X) + eta R)^-1 (y - constant), with shape (n,).
        ones: L^-1 1, with shape (n,).
        constant: Constant of the mean.
        log_likelihood: Log marginal likelihood in nats, with the best constant.
        residual: Relative residual of the weights.
        status: How it was computed.
    """

    process: ScaledProcess
    x: Tensor
    lower: Tensor
    weights: Tensor
    ones: Tensor
    constant: float
    log_likelihood: float
    residual: float
    status: str

    def mean(self, new: Tensor) -> Tensor:
        """Posterior mean, with shape (b,), for new points with shape (b, d): O(b n d)."""
        return self.constant + self.process.operator(self.x).cross(new).matmul(self.weights)

    def variance(self, new: Tensor) -> Tensor:
        """Posterior variance of the function without noise, with shape (b,): O(b n^2)."""
        k = self.process.operator(self.x).cross(new).transpose()
        parts = [new.new_empty(0)]
        for rows in torch.arange(len(new), device=new.device).split(max(1, _TILE // len(self.x))):
            half = torch.linalg.solve_triangular(self.lower, k.columns(rows), upper=False)
            slack = 1.0 - self.ones @ half  # variance due to the unknown constant
            prior = self.process.kernel.diagonal(new[rows])
            parts.append(prior - half.square().sum(0) + slack.square() / self.ones.square().sum())
        return self.process.variance * torch.cat(parts).clamp(min=0.0)


def exact_posterior(process: ScaledProcess, data: Observations, *, calibration: Tensor | None = None) -> ExactPosterior:
    """The posterior given the points, by Cholesky: O(n^3 / 3) time and one n x n matrix.

    If the factorisation fails eta is raised tenfold until it works, which the result's ``process`` and ``status`` show.

    Args:
        process: Kernel and hyperparameters. A missing scale is estimated from the data.
        data: Points and values, in float64.
        calibration: Indices of points whose leave-one-out errors set a missing scale, so that they agree with their
            variances; None for the scale of maximum likelihood.

    Raises:
        FloatingPointError: If the matrix cannot be factored with any noise.
    """

    def lower(factor: float) -> Tensor:
        return cholesky_in_place(data.add_noise(_covariance(process, data.x), process.eta * factor))

    found = rescue(lower)
    return _condition(process.with_(eta=process.eta * found.factor), data, found.value, calibration)


def _covariance(process: ScaledProcess, x: Tensor) -> Tensor:
    """k(X, X), computed in blocks of rows to keep temporaries small."""
    operator = process.operator(x)
    k = x.new_empty(len(x), len(x))
    for rows in torch.arange(len(x), device=x.device).split(max(1, _TILE // len(x))):
        k[rows] = operator.columns(rows).T
    return k


def _condition(process: ScaledProcess, data: Observations, lower: Tensor, calibration: Tensor | None) -> ExactPosterior:
    x, y = data.x, data.y
    n = len(y)
    half = torch.linalg.solve_triangular(lower, torch.stack([y, torch.ones_like(y)], 1), upper=False)
    constant = float(half[:, 0] @ half[:, 1] / half[:, 1].square().sum())
    rest = half[:, 0] - constant * half[:, 1]
    q = max(float(rest.square().sum()), 1e-300)
    weights = torch.linalg.solve_triangular(lower.T, rest[:, None], upper=True)[:, 0]
    if process.scale is None:
        s2 = q / n if calibration is None else _left_out_square(lower, weights, calibration)
        process = process.with_(scale=math.sqrt(max(s2, 1e-300)))
    s2 = process.variance
    value = -0.5 * (n * math.log(2.0 * math.pi * s2) + q / s2) - float(lower.diagonal().log().sum())
    product = process.operator(x).matmul(weights) + data.times_noise(weights, process.eta) - (y - constant)
    residual = float(product.norm() / max(float((y - constant).norm()), 1e-300))
    status = f"Cholesky factor of {n} points, eta = {process.eta:.3g}"
    return ExactPosterior(process, x, lower, weights, half[:, 1], constant, value, residual, status)


def _left_out_square(lower: Tensor, weights: Tensor, rows: Tensor) -> float:
    """Mean square of leave-one-out errors over their variances, alpha_i^2 / (K^-1)_ii, of some points: O(n^2) each.

    Rasmussen & Williams (2006), eq. 5.12, http://gaussianprocess.org/gpml/chapters/RW5.pdf.
    """
    unit = lower.new_zeros(len(lower), len(rows))
    unit[rows, torch.arange(len(rows), device=lower.device)] = 1.0
    inverse_diagonal = torch.linalg.solve_triangular(lower, unit, upper=False).square().sum(0)
    return float((weights[rows].square() / inverse_diagonal).mean())
