"""Covariance matrices of composed kernels as operators: products, columns and diagonal, never stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from surrogate.linalg.operators import Operator, as_columns
from surrogate.linalg.precision import product

if TYPE_CHECKING:
    from typing_extensions import Self

    from surrogate.gp.composition import Kernel

__all__ = ["FeatureSum", "PairOperator", "TiledOperator"]

_TILE = 1024  # rows and columns of a tile: 8 MB for each part of a kernel in float64


class PairOperator(ABC):
    """A matrix of covariances between pairs of points, which is never stored.

    Its subclasses, which are dataclasses, only define the covariance between two sets of points.

    Attributes:
        x: Points of the rows, with shape (n, d).
        others: Points of the columns, with shape (m, d); None if they are the same.
    """

    x: Tensor
    others: Tensor | None

    @abstractmethod
    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariance between points a and b, with shape (len(a), len(b))."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.x), len(self.of_columns)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Device of the points."""
        return self.x.device

    @property
    def of_columns(self) -> Tensor:
        """Points of the columns, with shape (m, d)."""
        return self.x if self.others is None else self.others

    def cross(self, new: Tensor) -> Self:
        """The covariance of values at new points, with shape (m, d), with those at these points: shape (m, n)."""
        return replace(self, x=new, others=self.of_columns)  # type: ignore[type-var]

    def transpose(self) -> Self:
        """The transposed operator."""
        return self if self.others is None else replace(self, x=self.others, others=self.x)  # type: ignore[type-var]

    def column(self, i: int) -> Tensor:
        """Column i, with shape (n,)."""
        return self.between(self.x, self.of_columns[i][None])[:, 0]

    def columns(self, index: Tensor) -> Tensor:
        """The columns with these indices, with shape (n, len(index))."""
        return self.between(self.x, self.of_columns[index])

    def submatrix(self, index: Tensor) -> Tensor:
        """The block of rows and columns with these indices, with shape (len(index), len(index))."""
        return self.between(self.x[index], self.of_columns[index])

    def dense(self) -> Tensor:
        """The matrix itself, with shape (n, m)."""
        return self.between(self.x, self.of_columns)


@dataclass(frozen=True, eq=False)
class TiledOperator(PairOperator):
    """The covariance of values at points x with those at other points, in tiles: O(n m) time, O(tile^2) memory.

    It serves every kernel; `surrogate.linalg.operators.KernelOperator` is faster for a stationary one.

    Attributes:
        kernel: Covariance function.
        x: Points of the rows, with shape (n, d).
        others: Points of the columns, with shape (m, d); None if they are the same.
        precision: Precision of the products, see ``surrogate.linalg.precision``.
    """

    kernel: Kernel
    x: Tensor
    others: Tensor | None = None
    precision: str = "full"

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """The kernel between all rows of a and all rows of b."""
        return self.kernel.covariance(a, b)

    @property
    def outputscale(self) -> float:
        """Largest entry of the diagonal."""
        return float(self.diag().max())

    @property
    def name(self) -> str:
        """Kind of the kernel."""
        return type(self.kernel).__name__

    def to(self, dtype: torch.dtype, *, precision: str = "full") -> TiledOperator:
        """The same matrix in another dtype and precision."""
        others = None if self.others is None else self.others.to(dtype)
        return replace(self, x=self.x.to(dtype), others=others, precision=precision)

    def diag(self) -> Tensor:
        """Diagonal of a square matrix, with shape (n,)."""
        return self.kernel.diagonal(self.x)

    def matmul(self, v: Tensor) -> Tensor:
        """Product with v, with shape (m, k) or (m,)."""
        columns = as_columns(v, self)
        out = columns.new_zeros(len(self.x), columns.shape[1])
        for a, b in self._tiles():
            k = self.kernel.covariance(self.x[a], self.of_columns[b])
            out[a] += product(k, columns[b], self.precision)
            if self.others is None and a != b:
                out[b] += product(k.T, columns[a], self.precision)
        return out.reshape(-1, *v.shape[1:])

    def _tiles(self) -> Iterator[tuple[slice, slice]]:
        """Pairs of slices that cover the matrix, or its upper triangle if it is symmetric."""
        for i in range(0, self.shape[0], _TILE):
            for j in range(i if self.others is None else 0, self.shape[1], _TILE):
                yield slice(i, i + _TILE), slice(j, j + _TILE)


@dataclass(frozen=True, eq=False)
class FeatureSum:
    """K + Phi Phi^T: the covariance of a residual process plus a mean whose coefficients are standard normal.

    Attributes:
        residual: K, an operator with shape (n, n).
        phi: Basis functions of the mean, with shape (n, p).
    """

    residual: Operator
    phi: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.residual.shape

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.residual.dtype

    @property
    def device(self) -> torch.device:
        """Device of the entries."""
        return self.residual.device

    def matmul(self, v: Tensor) -> Tensor:
        """Product with v, with shape (n, k) or (n,)."""
        return self.residual.matmul(v) + self.phi @ (self.phi.T @ v)

    def diag(self) -> Tensor:
        """Diagonal, with shape (n,)."""
        return self.residual.diag() + self.phi.square().sum(1)

    def column(self, i: int) -> Tensor:
        """Column i, with shape (n,)."""
        return self.residual.column(i) + self.phi @ self.phi[i]

    def columns(self, index: Tensor) -> Tensor:
        """The columns with these indices, with shape (n, len(index))."""
        return self.residual.columns(index) + self.phi @ self.phi[index].T

    def submatrix(self, index: Tensor) -> Tensor:
        """The block of rows and columns with these indices, with shape (len(index), len(index))."""
        return self.columns(index)[index]
