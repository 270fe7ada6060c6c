"""The predictive density of points given their nearest neighbours, at the density of the full data set."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.optimise import rescue
from surrogate.gp.scales import Observations, as_tensor
from surrogate.gp.solvers.local import BLOCK, nearest_others
from surrogate.linalg.stationary import Stationary, correlations

__all__ = ["NeighbourEvidence"]


@dataclass(frozen=True, eq=False)
class NeighbourEvidence:
    """Log predictive density of points given their nearest neighbours, nearly their leave-one-out density.

    ``objective(theta)`` is minus the sum over b targets of log p(y_i | y of the m nearest others), with the output
    scale profiled, times n / b, so that it has the weight of n points. Neighbours are fixed; choose them again if the
    lengthscales have changed much.

    It is the conditional likelihood of Vecchia (1988), https://www.jstor.org/stable/2345768, but with neighbours from
    the whole data set instead of from earlier points in an ordering. Every factor is then a prediction at the density
    of the full data, which matters if the kernel is not quite right.

    Attributes:
        kernel: Correlation function.
        x: With shape (b, m + 1, d): the neighbours of each target, and the target last.
        y: With shape (b, m + 1).
        n: Number of points in the data set.
        noise: Mean noise variance where it is known: then s^2 = noise / eta instead of the profiled one.
        relative_noise: See ``Observations``, with shape (b, m + 1); None where all points have the same noise.
    """

    kernel: Stationary
    x: Tensor
    y: Tensor
    n: int
    noise: float | None = None
    relative_noise: Tensor | None = None

    @classmethod
    def of(
        cls,
        kernel: Stationary,
        data: Observations,
        *,
        targets: Tensor,
        m: int,
        lengthscale: Array,
        noise: float | None = None,
    ) -> NeighbourEvidence:
        """The evidence with the m points nearest to each target in units of the lengthscales; O(b n d).

        Args:
            kernel: Correlation function.
            data: All the points.
            targets: Indices, with shape (b,).
            m: Number of neighbours.
            lengthscale: Lengthscales, with shape (d,).
            noise: Mean noise variance where it is known.

        Raises:
            ValueError: If ``m`` is not in 1..n - 1.
        """
        z = data.x / as_tensor(lengthscale, data.x)
        rows = torch.cat([nearest_others(z, targets, m), targets[:, None]], 1)
        near = data.rows(rows)
        return cls(kernel, near.x, near.y, len(data), noise, near.relative_noise)

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Negative log density in nats, times n / b, and its gradient: O(b m^2 (m / 3 + d)).

        With b the last column of K^-1 and e = b.y / b_m the error of the prediction, whose variance is 1 / b_m,
        d log p = sum_ij dK_ij [e alpha_i b_j / s^2 - (1 / b_m + e^2 / s^2) b_i b_j / 2], alpha = K^-1 y.

        Raises:
            torch.linalg.LinAlgError: If some K is not positive definite in floating point.
        """
        t = torch.as_tensor(theta, dtype=self.x.dtype, device=self.x.device)
        parts = self._parts(t[0].exp())
        solved = [self._solve(x / t[1:].exp(), y, noise) for x, y, noise in parts]
        last = torch.cat([b[:, -1] for b, _, _, _ in solved])
        error = torch.cat([(b * part[1]).sum(1) for (b, _, _, _), part in zip(solved, parts, strict=True)]) / last
        mean_square = (error.square() * last).mean().clamp(min=1e-300)
        s2 = mean_square if self.noise is None else self.noise * torch.exp(-t[0])
        value = 0.5 * (torch.log(2.0 * math.pi * s2) + mean_square / s2 - last.log().mean())
        gradient = torch.zeros_like(t)
        gradient[0] = 0.5 * len(last) * (mean_square / s2 - 1.0)  # due to s^2 = noise / eta; 0 if s^2 is profiled
        for (b, alpha, h, z), (_, _, noise), e in zip(solved, parts, error.split(self._size), strict=True):
            w = (e / s2)[:, None] * alpha - 0.5 * (1.0 / b[:, -1:] + (e.square() / s2)[:, None]) * b
            gradient[0] -= (noise * w * b).sum()
            g = torch.einsum("bi,bj->bij", w, b).mul_(h)
            rows = (g.sum(1) + g.sum(2))[:, :, None]
            gradient[1:] -= (rows * z.square()).sum((0, 1)) - 2.0 * (z * torch.bmm(g, z)).sum((0, 1))
        return self.n * float(value), self.n / len(self.y) * gradient.cpu().numpy()

    @property
    def _size(self) -> int:
        """Number of targets in a block."""
        return max(1, BLOCK // self.x.shape[1] ** 2)

    def _parts(self, eta: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Points, values and noise variances, in blocks of targets."""
        noise = (eta if self.relative_noise is None else eta * self.relative_noise).expand_as(self.y)
        return list(zip(*(part.split(self._size) for part in (self.x, self.y, noise)), strict=True))

    def _solve(self, z: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The last columns of K^-1, K^-1 y, the slopes h and the centred points."""
        k, h = correlations(self.kernel, z)
        k = k.clone() if h is k else k
        k.diagonal(dim1=1, dim2=2).add_(noise)
        lower = torch.linalg.cholesky(k)
        unit = torch.zeros_like(y)
        unit[:, -1] = 1.0
        both = torch.cholesky_solve(torch.stack([unit, y], -1), lower)
        return both[..., 0], both[..., 1], h, z - z[:, -1:]

    def variance(self, theta: Array) -> Tensor:
        """Variance of each target given its neighbours, including noise, in units of s^2, with shape (b,).

        Repeated rows may make K singular in floating point; the noise is then raised tenfold until it is not. As long
        as the noise is below rounding, this does not affect other variances.

        Raises:
            FloatingPointError: If K cannot be factored with any noise.
        """
        eta = math.exp(theta[0])
        return rescue(lambda factor: self._variance(np.exp(theta[1:]), eta * factor)).value

    def _variance(self, lengthscale: Array, eta: float) -> Tensor:
        scale, parts = as_tensor(lengthscale, self.x), self._parts(as_tensor(np.array(eta), self.x))
        return 1.0 / torch.cat([self._solve(x / scale, y, noise)[0][:, -1] for x, y, noise in parts])
