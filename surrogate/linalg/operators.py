"""Matrices accessed by products, diagonal and columns: kernel matrices (never stored), features, stored matrices."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from surrogate.linalg.lowrank import BlockAccess, LinearMap
from surrogate.linalg.precision import PRECISIONS, product
from surrogate.linalg.stationary import CORRELATIONS, Stationary, squared_difference, squared_distance

__all__ = ["DenseOperator", "FeatureOperator", "KernelOperator", "LowOperator", "Operator", "as_columns"]

_TILE = {"cuda": 16384, "cpu": 384}  # rows and columns of a tile: 1 GB of float32, 1.2 MB of float64


class Operator(LinearMap, BlockAccess, Protocol):
    """The interface of a symmetric matrix K with shape (n, n) for the solvers: products, diagonal and columns."""


class LowOperator(Operator, Protocol):
    """Interface of a matrix whose products may have a lower precision than its entries, for refinement."""

    precision: str

    @property
    def outputscale(self) -> float:
        """Largest entry of the diagonal."""

    @property
    def name(self) -> str:
        """Name of the kernel."""

    def to(self, dtype: torch.dtype, *, precision: str = "full") -> LowOperator:
        """The same matrix in another dtype and precision."""


def as_columns(v: Tensor, operator: Operator, name: str = "v") -> Tensor:
    """A vector or a matrix v as a matrix that ``operator`` can multiply.

    Raises:
        ValueError: If its number of rows is not the operator's number of columns.
        TypeError: If its dtype is not the operator's.
    """
    if v.ndim not in (1, 2) or v.shape[0] != operator.shape[1]:
        msg = f"{name} must have shape ({operator.shape[1]},) or ({operator.shape[1]}, k), got {tuple(v.shape)}"
        raise ValueError(msg)
    if v.dtype != operator.dtype:
        msg = f"{name} must have the operator's dtype {operator.dtype}, got {v.dtype}: convert one of them with .to"
        raise TypeError(msg)
    return v[:, None] if v.ndim == 1 else v


@dataclass(frozen=True, eq=False)
class DenseOperator:
    """A stored matrix, which must be symmetric for solvers and factorisations (not checked).

    Attributes:
        matrix: With shape (n, m).
    """

    matrix: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.matrix.dtype

    @property
    def device(self) -> torch.device:
        """Device of the entries."""
        return self.matrix.device

    def matmul(self, v: Tensor) -> Tensor:
        """Product with v, with shape (m, k) or (m,)."""
        return (self.matrix @ as_columns(v, self)).reshape(-1, *v.shape[1:])

    def transpose(self) -> DenseOperator:
        """The transposed matrix."""
        return DenseOperator(self.matrix.T)

    def diag(self) -> Tensor:
        """Diagonal, with shape (n,)."""
        return self.matrix.diagonal()

    def column(self, i: int) -> Tensor:
        """Column i, with shape (n,)."""
        return self.matrix[:, i]

    def columns(self, index: Tensor) -> Tensor:
        """The columns with these indices, with shape (n, len(index))."""
        return self.matrix[:, index]

    def submatrix(self, index: Tensor) -> Tensor:
        """The block of rows and columns with these indices, with shape (len(index), len(index))."""
        return self.matrix[index][:, index]


@dataclass(frozen=True, eq=False)
class FeatureOperator:
    """K = Phi Phi^T for features Phi, never formed; O(n p) per product.

    Attributes:
        features: Phi, with shape (n, p).
    """

    features: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.features.shape[0], self.features.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the features."""
        return self.features.dtype

    @property
    def device(self) -> torch.device:
        """Device of the entries."""
        return self.features.device

    def matmul(self, v: Tensor) -> Tensor:
        """Product with v, with shape (n, k) or (n,)."""
        return (self.features @ (self.features.T @ as_columns(v, self))).reshape(v.shape)

    def transpose(self) -> FeatureOperator:
        """The operator itself, because K is symmetric."""
        return self

    def diag(self) -> Tensor:
        """Squared norms of the features, with shape (n,)."""
        return self.features.square().sum(1)

    def column(self, i: int) -> Tensor:
        """Column i, with shape (n,)."""
        return self.features @ self.features[i]

    def columns(self, index: Tensor) -> Tensor:
        """The columns with these indices, with shape (n, len(index))."""
        return self.features @ self.features[index].T

    def submatrix(self, index: Tensor) -> Tensor:
        """The block of rows and columns with these indices, with shape (len(index), len(index))."""
        return self.features[index] @ self.features[index].T


@dataclass(frozen=True, eq=False)
class Scaling:
    """Coordinates in which a stationary kernel has unit lengthscales, z = (x - center) / lengthscale.

    Attributes:
        center: With shape (d,): subtracted first, so that distances between large coordinates lose no digits.
        lengthscale: Lengthscales, with shape (d,).
    """

    center: Tensor
    lengthscale: Tensor

    def scaled(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """z of the points x, both with shape (n, d)."""
        return ((x.double() - self.center) / self.lengthscale).to(dtype)


@dataclass(frozen=True, eq=False)
class KernelOperator:
    """The kernel matrix K_ij = outputscale k(|x_i - x'_j|^2 / lengthscale^2), computed in tiles.

    The matrix is never stored: a product with k columns costs O(n m (d + k)) time and O(tile^2) memory. If both sets of
    points are the same, only half of the tiles are computed. On CUDA in float32 a fused Triton program computes the
    products, if Triton can be imported (see `surrogate.linalg.fused`). Use ``of`` to make one.

    Attributes:
        kernel: Correlation function.
        scaled: Centred points divided by lengthscales, with shape (n, d).
        others: Points of the columns, likewise, with shape (m, d); None if they are the same.
        scaling: From points to scaled ones.
        outputscale: Variance, the value of the diagonal.
        block: Rows and columns of a tile.
        precision: Precision of products with vectors, one of ``PRECISIONS``; the kernel itself is always computed in
            ``dtype``.
        tiled: Whether to use tiles even if there is a fused program; for comparisons.
    """

    kernel: Stationary
    scaled: Tensor
    others: Tensor | None
    scaling: Scaling
    outputscale: float
    block: int
    precision: str = "full"
    tiled: bool = False

    @classmethod
    def of(
        cls,
        kernel: str | Stationary,
        x: Tensor,
        *,
        lengthscale: Tensor | float = 1.0,
        outputscale: float = 1.0,
        block: int | None = None,
        dtype: torch.dtype | None = None,
        precision: str = "full",
    ) -> KernelOperator:
        """The kernel matrix of the points x, with shape (n, d).

        Args:
            kernel: A correlation function, or the name of one in ``CORRELATIONS``.
            x: Points, which also set the device.
            lengthscale: One lengthscale, or one per dimension with shape (d,).
            outputscale: Variance.
            block: Rows and columns of a tile; None for 384 on the CPU and 16,384 on CUDA.
            dtype: torch.float64 or torch.float32; None for that of x.
            precision: Precision of the products, one of ``PRECISIONS``.

        Raises:
            ValueError: If the name, the shape, the precision or a scale is invalid.
            TypeError: If the dtype is neither float64 nor float32.
        """
        dtype = x.dtype if dtype is None else dtype
        _check(kernel, x, dtype, precision)
        d = x.shape[1]
        scale = torch.as_tensor(lengthscale, dtype=torch.float64, device=x.device).expand(d)
        if not bool((scale > 0).all()) or not 0 < outputscale < math.inf or (block is not None and block < 1):
            msg = f"lengthscale, outputscale and block must be positive, got {lengthscale}, {outputscale} and {block}"
            raise ValueError(msg)
        scaling = Scaling(x.mean(0).double(), scale)
        stationary = CORRELATIONS[kernel] if isinstance(kernel, str) else kernel
        tile = _TILE.get(x.device.type, _TILE["cpu"]) if block is None else block
        return cls(stationary, scaling.scaled(x, dtype), None, scaling, float(outputscale), tile, precision)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.scaled), len(_columns(self))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the kernel and of the vectors."""
        return self.scaled.dtype

    @property
    def device(self) -> torch.device:
        """Device of the points."""
        return self.scaled.device

    @property
    def name(self) -> str:
        """Name of the correlation function."""
        return self.kernel.name

    def to(self, dtype: torch.dtype, *, precision: str = "full") -> KernelOperator:
        """The same kernel in another dtype and precision, as the inner operator of iterative refinement."""
        _check(self.kernel, self.scaled, dtype, precision)
        others = None if self.others is None else self.others.to(dtype)
        return replace(self, scaled=self.scaled.to(dtype), others=others, precision=precision)

    def cross(self, x: Tensor) -> KernelOperator:
        """The rectangular kernel, with shape (m, n), between new points x, with shape (m, d), and these points."""
        return replace(self, scaled=self.scaling.scaled(x, self.dtype), others=_columns(self))

    def selected(self, index: Tensor) -> KernelOperator:
        """The square kernel matrix of some of the points, with shape (k, k)."""
        return replace(self, scaled=self.scaled[index], others=None)

    def to_columns(self, index: Tensor) -> KernelOperator:
        """Some of the columns as an operator, with shape (n, k)."""
        return replace(self, others=_columns(self)[index])

    def transpose(self) -> KernelOperator:
        """Rows and columns exchanged."""
        return self if self.others is None else replace(self, scaled=self.others, others=self.scaled)

    def diag(self) -> Tensor:
        """Diagonal of a square kernel, with shape (n,)."""
        if self.others is None:
            return self.scaled.new_full((len(self.scaled),), self.outputscale)
        r2 = (self.scaled - self.others).square().sum(1)
        return self.outputscale * self.kernel.correlation(r2)

    def column(self, i: int) -> Tensor:
        """Column i, with shape (n,), computed from differences, so it is exact on the diagonal."""
        r2 = (self.scaled - _columns(self)[i]).square().sum(1)
        return self.outputscale * self.kernel.correlation(r2)

    def columns(self, index: Tensor) -> Tensor:
        """Some of the columns, with shape (n, len(index)), from differences: exact for repeated points."""
        r2 = squared_difference(self.scaled, _columns(self)[index])
        return self.kernel.correlation(r2).mul_(self.outputscale)

    def submatrix(self, index: Tensor) -> Tensor:
        """The block of rows and columns with these indices, with shape (len(index), len(index))."""
        return self.selected(index).dense()

    def dense(self) -> Tensor:
        """The matrix itself, with shape (n, m)."""
        return self.columns(torch.arange(self.shape[1], device=self.device))

    def matmul(self, v: Tensor) -> Tensor:
        """Product with v, with shape (m, k) or (m,)."""
        columns = as_columns(v, self)
        if _is_fused(self):
            from surrogate.linalg.fused import kernel_product

            out = kernel_product(self.kernel.name, self.scaled, _columns(self), columns, precision=self.precision)
            return out.mul_(self.outputscale).reshape(-1, *v.shape[1:])
        out = columns.new_zeros(self.shape[0], columns.shape[1])
        for a, b in _tiles(self):
            k = self.kernel.correlation(_distances(self, a, b))
            out[a] += product(k, columns[b], self.precision)
            if self.others is None and a != b:
                out[b] += product(k.T, columns[a], self.precision)
        return out.mul_(self.outputscale).reshape(-1, *v.shape[1:])

    def gradient(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of sum_c u_c^T K v_c with respect to the logarithms of the lengthscales and the outputscale.

        With K^-1 y or with probes for u and v these are the terms of the gradient of a marginal likelihood. Uses dK / d
        log(lengthscale_j) = H (z_j - z'_j)^2, whose three terms are products of H with vectors: O(n m (d + k)) time,
        and no array of size n m d. Always in full precision.

        Args:
            u: Vectors with shape (n, k) or (n,).
            v: Vectors with shape (m, k) or (m,).

        Returns:
            Derivatives with respect to the lengthscales, with shape (d,), and to the outputscale, with shape ().
        """
        u, v = as_columns(u, self.transpose(), "u"), as_columns(v, self)
        total = self.scaled.new_zeros(self.scaled.shape[1])
        value = self.scaled.new_zeros(())
        for a, b in _tiles(self):
            k, h = self.kernel.evaluate(_distances(self, a, b))
            weight = u[a] @ v[b].T
            if self.others is None and a != b:
                weight += v[a] @ u[b].T
            value += (weight * k).sum()
            weight *= h
            left, right = self.scaled[a], _columns(self)[b]
            total += weight.sum(1) @ left.square() + weight.sum(0) @ right.square()
            total -= 2.0 * ((weight @ right) * left).sum(0)
        return total * self.outputscale, value * self.outputscale


def _columns(k: KernelOperator) -> Tensor:
    """Scaled points of the columns, with shape (m, d)."""
    return k.scaled if k.others is None else k.others


def _is_fused(k: KernelOperator) -> bool:
    """Whether a Triton program computes the product: on CUDA, in float32, for named kernels."""
    known = CORRELATIONS.get(k.kernel.name) is k.kernel
    on_card = not k.tiled and k.device.type == "cuda" and k.dtype == torch.float32
    return known and on_card and importlib.util.find_spec("triton") is not None


def _tiles(k: KernelOperator) -> Iterator[tuple[slice, slice]]:
    """Pairs of slices that cover the matrix, or its upper triangle if it is symmetric."""
    for i in range(0, k.shape[0], k.block):
        first = i if k.others is None else 0
        for j in range(first, k.shape[1], k.block):
            yield slice(i, i + k.block), slice(j, j + k.block)


def _distances(k: KernelOperator, a: slice, b: slice) -> Tensor:
    """Squared distances of a tile, set to zero on the diagonal of the matrix, where rounding matters most."""
    r2 = squared_distance(k.scaled[a], _columns(k)[b])
    if k.others is None and a == b:
        r2.fill_diagonal_(0.0)
    return r2


def _check(kernel: str | Stationary, x: Tensor, dtype: torch.dtype, precision: str) -> None:
    if isinstance(kernel, str) and kernel not in CORRELATIONS:
        msg = f"kernel must be one of {sorted(CORRELATIONS)} or a Stationary, got {kernel!r}"
        raise ValueError(msg)
    if x.ndim != 2:
        msg = f"x must have shape (n, d), got {tuple(x.shape)}"
        raise ValueError(msg)
    if dtype not in (torch.float64, torch.float32):
        msg = (
            f"dtype must be torch.float64 or torch.float32, got {dtype}; set precision= to compute "
            "products in a lower one"
        )
        raise TypeError(msg)
    if precision not in PRECISIONS:
        msg = f"precision must be one of {sorted(PRECISIONS)}, got {precision!r}"
        raise ValueError(msg)
