"""Matrices built from others and accessed by diagonal and columns: scaled, summed, conditioned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.linalg.lowrank import ColumnAccess
from surrogate.linalg.stationary import Stationary

__all__ = ["Conditioned", "Correlated", "PosteriorAccess", "Scaled", "Summed", "conditioned", "scaled"]


@dataclass(frozen=True, eq=False)
class Correlated:
    """A stationary covariance, K_ij = v k(|z_i - z_j|^2); a column costs O(n d).

    Attributes:
        correlation: The correlation function k.
        z: Points in units of the lengthscales, with shape (n, d).
        variance: v.
    """

    correlation: Stationary
    z: Tensor
    variance: float

    def diag(self) -> Tensor:
        """Diagonal of K, with shape (n,)."""
        return torch.full_like(self.z[:, 0], self.variance)

    def column(self, i: int) -> Tensor:
        """Column i of K, with shape (n,)."""
        r2 = (self.z - self.z[i]).square().sum(1)
        return self.variance * self.correlation.correlation(r2)


@dataclass(frozen=True, eq=False)
class PosteriorAccess:
    """Posterior covariance of a Gaussian process, K = prior - A^T A + B^T B; a column costs O(m (n + p)).

    Attributes:
        prior: Covariance of the residual before the data, with shape (m, m).
        half: A, with shape (n, m): reduction of the covariance by the n data.
        left: B, with shape (p, m): uncertainty due to the p fitted coefficients of the mean.
    """

    prior: ColumnAccess
    half: Tensor
    left: Tensor

    def diag(self) -> Tensor:
        """Posterior variances, with shape (m,)."""
        return (self.prior.diag() - self.half.square().sum(0) + self.left.square().sum(0)).clamp(min=0.0)

    def column(self, i: int) -> Tensor:
        """Posterior covariances with point i, with shape (m,)."""
        return self.prior.column(i) - self.half.T @ self.half[:, i] + self.left.T @ self.left[:, i]


@dataclass(frozen=True, eq=False)
class Scaled:
    """K_ij = w_i w_j B_ij: the kernel of functions multiplied by weights w with shape (n,)."""

    base: ColumnAccess
    weights: Tensor

    def diag(self) -> Tensor:
        """Diagonal of K, with shape (n,)."""
        return self.weights.square() * self.base.diag()

    def column(self, i: int) -> Tensor:
        """Column i of K, with shape (n,)."""
        return self.weights * self.weights[i] * self.base.column(i)


def scaled(base: ColumnAccess, weights: Tensor) -> Scaled:
    """K_ij = w_i w_j B_ij; if B is itself scaled, the weights are multiplied."""
    if isinstance(base, Scaled):
        return Scaled(base.base, base.weights * weights)
    return Scaled(base, weights)


@dataclass(frozen=True, eq=False)
class Summed:
    """Sum of kernels, the kernel of a sum of independent functions."""

    parts: tuple[ColumnAccess, ...]

    def diag(self) -> Tensor:
        """Diagonal of K, with shape (n,)."""
        return torch.stack([part.diag() for part in self.parts]).sum(0)

    def column(self, i: int) -> Tensor:
        """Column i of K, with shape (n,)."""
        return torch.stack([part.column(i) for part in self.parts]).sum(0)


@dataclass(frozen=True, eq=False)
class Conditioned:
    """Covariance of the last n of n + k functions given the first k, K = base - F F^T; O(n k) more per column.

    Attributes:
        base: Kernel of all functions, with shape (k + n, k + n).
        factor: F, with shape (k + n, k).
    """

    base: ColumnAccess
    factor: Tensor

    def diag(self) -> Tensor:
        """Conditional variances, with shape (n,)."""
        k = self.factor.shape[1]
        return (self.base.diag() - self.factor.square().sum(1))[k:].clamp(min=0.0)

    def column(self, i: int) -> Tensor:
        """Conditional covariances with function k + i, with shape (n,)."""
        k = self.factor.shape[1]
        return (self.base.column(k + i) - self.factor @ self.factor[k + i])[k:]


def conditioned(base: ColumnAccess, k: int, *, jitter: float = 1e-9) -> Conditioned:
    """The kernel given the first k functions.

    Args:
        base: Kernel of k + n functions.
        k: Number of functions to condition on.
        jitter: Relative variance that each of them keeps, because two of them may be equal.
    """
    columns = torch.stack([base.column(i) for i in range(k)], 1)
    known = columns[:k] + torch.diag(jitter * columns[:k].diagonal().clamp(min=1e-300))
    return Conditioned(base, torch.linalg.solve_triangular(torch.linalg.cholesky(known), columns.T, upper=False).T)
