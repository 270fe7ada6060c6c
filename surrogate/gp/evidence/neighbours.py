"""The predictive density of points given their nearest neighbours, at the density of the full data set."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.solvers.local import BLOCK, correlations, nearest
from surrogate.linalg.stationary import Stationary

__all__ = ["NeighbourLikelihood"]


@dataclass(frozen=True, eq=False)
class NeighbourLikelihood:
    """Log predictive density of some points, each given its nearest neighbours: their leave-one-out density, nearly.

    ``objective(theta)`` is minus the sum over b targets of log p(y_i | y of the m nearest others), with the output
    scale profiled, times n / b, so that it counts as much as n points. Neighbours are frozen: renew them when the
    lengthscales have moved by a factor.

    It is the conditional likelihood of Vecchia (1988), https://www.jstor.org/stable/2345768, with neighbours from the
    whole data set in place of those earlier in an ordering: every factor is then a prediction at the density at which
    predictions will be made, which is what decides where the kernel is not quite right.

    Attributes:
        kernel: Correlation function.
        x: With shape (b, m + 1, d): the neighbours of each target, and the target last.
        y: With shape (b, m + 1).
        n: Number of points in the data set.
        noise: Noise variance where it is known: then s^2 = noise / eta instead of the profiled one.
    """

    kernel: Stationary
    x: Tensor
    y: Tensor
    n: int
    noise: float | None = None

    @classmethod
    def of(
        cls,
        kernel: Stationary,
        x: Tensor,
        y: Tensor,
        *,
        targets: Tensor,
        m: int,
        lengthscale: Array,
        noise: float | None = None,
    ) -> NeighbourLikelihood:
        """With the m points nearest to each target in units of the lengthscales; O(b n d).

        Args:
            kernel: Correlation function.
            x: All points, with shape (n, d).
            y: With shape (n,).
            targets: Indices, with shape (b,).
            m: Number of neighbours.
            lengthscale: With shape (d,).
            noise: Noise variance where it is known.

        Raises:
            ValueError: If ``m`` is not in 1..n - 1.
        """
        if not 1 <= m < len(x):
            msg = f"m must be in 1..{len(x) - 1}, got {m}"
            raise ValueError(msg)
        z = x / torch.as_tensor(lengthscale, dtype=x.dtype, device=x.device)
        found = nearest(z, z[targets], m + 1)
        # The target itself goes last. Where more than m + 1 points coincide with it, it may not be among those found.
        own = found == targets[:, None]
        own[~own.any(1), -1] = True
        others = found[~own].reshape(len(targets), m)
        rows = torch.cat([others, targets[:, None]], 1)
        return cls(kernel, x[rows], y[rows], len(x), noise)

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Negative log density in nats, times n / b, and its gradient: O(b m^2 (m / 3 + d)).

        With b the last column of K^-1 and e = b.y / b_m the error of the prediction, whose variance is 1 / b_m,
        d log p = sum_ij dK_ij [e alpha_i b_j / s^2 - (1 / b_m + e^2 / s^2) b_i b_j / 2], alpha = K^-1 y.

        Raises:
            torch.linalg.LinAlgError: If some K is not positive definite in floating point.
        """
        t = torch.as_tensor(theta, dtype=self.x.dtype, device=self.x.device)
        size = max(1, BLOCK // self.x.shape[1] ** 2)
        parts = list(zip(self.x.split(size), self.y.split(size), strict=True))
        solved = [self._solve(x / t[1:].exp(), y, t[0].exp()) for x, y in parts]
        last = torch.cat([b[:, -1] for b, _, _, _ in solved])
        error = torch.cat([(b * y).sum(1) for (b, _, _, _), (_, y) in zip(solved, parts, strict=True)]) / last
        mean_square = (error.square() * last).mean().clamp(min=1e-300)
        s2 = mean_square if self.noise is None else self.noise * torch.exp(-t[0])
        value = 0.5 * (torch.log(2.0 * math.pi * s2) + mean_square / s2 - last.log().mean())
        gradient = torch.zeros_like(t)
        gradient[0] = 0.5 * len(last) * (mean_square / s2 - 1.0)  # of s^2 = noise / eta; 0 where s^2 is profiled
        for (b, alpha, h, z), e in zip(solved, error.split(size), strict=True):
            w = (e / s2)[:, None] * alpha - 0.5 * (1.0 / b[:, -1:] + (e.square() / s2)[:, None]) * b
            gradient[0] -= t[0].exp() * (w * b).sum()
            g = torch.einsum("bi,bj->bij", w, b).mul_(h)
            rows = (g.sum(1) + g.sum(2))[:, :, None]
            gradient[1:] -= (rows * z.square()).sum((0, 1)) - 2.0 * (z * torch.bmm(g, z)).sum((0, 1))
        return self.n * float(value), self.n / len(self.y) * gradient.cpu().numpy()

    def _solve(self, z: Tensor, y: Tensor, eta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The last columns of K^-1, K^-1 y, the slopes h and the centred points."""
        k, h = correlations(self.kernel, z)
        k = k.clone() if h is k else k
        k.diagonal(dim1=1, dim2=2).add_(eta)
        lower = torch.linalg.cholesky(k)
        unit = torch.zeros_like(y)
        unit[:, -1] = 1.0
        both = torch.cholesky_solve(torch.stack([unit, y], -1), lower)
        return both[..., 0], both[..., 1], h, z - z[:, -1:]

    def variance(self, theta: Array) -> Tensor:
        """Variance of each target given its neighbours, noise included, in units of s^2, with shape (b,).

        Rows that repeat may leave K singular in floating point: the noise is then ten times as large, as often as it
        takes. Where it is below rounding this changes no variance that is not.

        Raises:
            torch.linalg.LinAlgError: If K cannot be factored with any noise up to that of the kernel.
        """
        t = torch.as_tensor(theta, dtype=self.x.dtype, device=self.x.device)
        eta = t[0].exp()
        while True:
            try:
                return self._variance(t, eta)
            except torch.linalg.LinAlgError:
                if not float(eta) < 0.1:
                    raise
            eta = 10.0 * eta

    def _variance(self, t: Tensor, eta: Tensor) -> Tensor:
        size = max(1, BLOCK // self.x.shape[1] ** 2)
        parts = zip(self.x.split(size), self.y.split(size), strict=True)
        return torch.cat([1.0 / self._solve(x / t[1:].exp(), y, eta)[0][:, -1] for x, y in parts])
