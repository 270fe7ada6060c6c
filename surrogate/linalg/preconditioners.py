"""Low-rank preconditioners P = F F^T + noise of kernel matrices: solves, log-determinants and draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from surrogate.linalg.lowrank import LowRank, accelerated_cholesky
from surrogate.linalg.operators import Operator

__all__ = ["DiagonalPreconditioner", "NystromPreconditioner", "Preconditioner"]


class Preconditioner(Protocol):
    """A positive definite approximation P of K + noise that is cheap to solve with."""

    def solve(self, v: Tensor) -> Tensor:
        """P^-1 v, with shape (n, k)."""

    def logdet(self) -> float:
        """Natural logarithm of the determinant of P."""

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        """Draws from N(0, P), with shape (n, count)."""

    def to(self, dtype: torch.dtype) -> Preconditioner:
        """The same preconditioner in another dtype, for the corrections of a refinement."""


@dataclass(frozen=True, eq=False)
class DiagonalPreconditioner:
    """A diagonal preconditioner, sufficient if only the noise differs between points.

    Attributes:
        diagonal: With shape (n,), positive.
    """

    diagonal: Tensor

    def solve(self, v: Tensor) -> Tensor:
        """P^-1 v, with shape (n, k)."""
        return v / self.diagonal[:, None]

    def logdet(self) -> float:
        """Natural logarithm of the determinant of P."""
        return float(self.diagonal.double().log().sum())

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        """Draws from N(0, P), with shape (n, count)."""
        normal = _normal(len(self.diagonal), count, self.diagonal, generator)
        return normal * self.diagonal.sqrt()[:, None]

    def to(self, dtype: torch.dtype) -> DiagonalPreconditioner:
        """The same preconditioner in another dtype."""
        return DiagonalPreconditioner(self.diagonal.to(dtype))


@dataclass(frozen=True, eq=False)
class NystromPreconditioner:
    """P = F F^T + D for a low-rank factor F of the kernel and the variances D of the noise.

    With G = D^-1/2 F = U S and the QR factorisation [S; I] = [T; R^-1] R,

        (G G^T + I)^-1 = (I - U U^T) + U (I - T T^T) U^T:

    The product G^T G is never formed, so the condition number of the factor is not squared and no shift is needed. T
    has k rows and is kept in float64. The part of a vector in the span of U is projected out twice, because any
    rounding error in it would be multiplied by 1 / D instead of 1 / (eigenvalue + D). In float32, with n = 36,000 and a
    noise of 5e-4 of the variance, conjugate gradients with the one-step formula I - (U T) (U T)^T reached a residual of
    10.

    Attributes:
        factor: F with shape (n, k), and its pivots.
        noise: Variances D, with shape (n,).
        basis: U, with shape (n, k).
        inner: T, with shape (k, k), in float64.
        triangle: R, with shape (k, k), in float64.

    References:
        Blucher, Mueller & Chmiela (2023), doi:10.1021/acs.jctc.2c01304; Frangella, Tropp & Udell (2023),
        arXiv:2110.02820. They form F^T F + noise and repair its Cholesky factorisation if it fails. For why two
        projections are enough: Giraud, Langou, Rozloznik & van den Eshof (2005), doi:10.1007/s00211-005-0615-4
    """

    factor: LowRank
    noise: Tensor
    basis: Tensor
    inner: Tensor
    triangle: Tensor

    @classmethod
    def of(cls, factor: LowRank | Tensor, noise: float | Tensor) -> NystromPreconditioner:
        """The preconditioner for a factor F, with shape (n, k), and noise variances, one or (n,); O(n k^2).

        Raises:
            ValueError: If a variance is not positive.
        """
        low_rank = factor if isinstance(factor, LowRank) else LowRank(factor, None)
        f = low_rank.factor
        variances = torch.as_tensor(noise, dtype=f.dtype, device=f.device).expand(len(f))
        if not bool((variances > 0).all()):
            msg = f"the noise variance must be positive, got {float(variances.min())}"
            raise ValueError(msg)
        basis, small = torch.linalg.qr(f / variances.sqrt()[:, None])
        eye = torch.eye(small.shape[1], dtype=torch.float64, device=f.device)
        q, r = torch.linalg.qr(torch.cat([small.double(), eye]))
        return cls(low_rank, variances, basis, q[: len(small)], r)

    @classmethod
    def build(
        cls, operator: Operator, noise: float | Tensor, *, rank: int, generator: torch.Generator
    ) -> NystromPreconditioner:
        """The preconditioner from up to ``rank`` columns of K with random pivots; O(n rank^2) besides the columns."""
        return cls.of(accelerated_cholesky(operator, min(rank, operator.shape[0]), generator=generator), noise)

    @property
    def rank(self) -> int:
        """Number of columns of the low-rank factor."""
        return self.factor.factor.shape[1]

    def to(self, dtype: torch.dtype) -> NystromPreconditioner:
        """The same preconditioner in another dtype, for the corrections of a refinement."""
        low_rank = LowRank(self.factor.factor.to(dtype), self.factor.pivots)
        return replace(self, factor=low_rank, noise=self.noise.to(dtype), basis=self.basis.to(dtype))

    def solve(self, v: Tensor) -> Tensor:
        """P^-1 v, with shape (n, k), or (n,) for a vector; O(n rank) a column."""
        root = self.noise.sqrt() if v.ndim == 1 else self.noise.sqrt()[:, None]
        w = v / root
        along = self.basis.T @ w
        rest = w - self.basis @ along
        kept = along.double()
        kept = (kept - self.inner @ (self.inner.T @ kept)).to(along.dtype)
        return (rest + self.basis @ (kept - self.basis.T @ rest)) / root

    def complement(self) -> Tensor:
        """W with P^-1 = D^-1 - W W^T, with shape (n, rank): O(n rank^2)."""
        return (self.basis @ self.inner.to(self.basis.dtype)) / self.noise.sqrt()[:, None]

    def logdet(self) -> float:
        """Natural logarithm of the determinant of P."""
        diagonal = 2.0 * self.triangle.diagonal().abs().log().sum()
        return float(diagonal + self.noise.double().log().sum())

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        """Draws from N(0, P), with shape (n, count)."""
        f = self.factor.factor
        low = f @ _normal(self.rank, count, f, generator)
        return low + _normal(len(f), count, f, generator) * self.noise.sqrt()[:, None]

    def inverse_diag(self) -> Tensor:
        """Diagonal of P^-1, with shape (n,)."""
        return 1.0 / self.noise - self.complement().square().sum(1)

    def grow(self, operator: Operator, rank: int, *, generator: torch.Generator) -> NystromPreconditioner:
        """A preconditioner with ``rank`` columns: the present ones and further ones drawn by random pivots."""
        larger = accelerated_cholesky(operator, rank, generator=generator, start=self.factor)
        return NystromPreconditioner.of(larger, self.noise)


def _normal(n: int, count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(n, count, dtype=like.dtype, device=like.device, generator=generator)
