"""Symmetric weights of the entries of a covariance matrix, as in the gradient of a marginal likelihood.

A gradient is the sum of W_ij dK_ij over all i and j. W is represented by a matrix A with the same sums for symmetric
matrices, which saves half of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array

__all__ = ["FullWeights", "LowerWeights", "Weighted", "Weights"]

Matrix = TypeVar("Matrix", Array, Tensor)


class Weighted(NamedTuple, Generic[Matrix]):
    """Sums of weighted entries from which the gradient of a stationary kernel follows.

    Attributes:
        total: Sum of W times the correlations.
        product: G = A times the slopes of the correlations, with shape (n, n).
        rows: Sums over the rows of G, with shape (n,).
        columns: Sums over the columns of G, with shape (n,).
    """

    total: float
    product: Matrix
    rows: Matrix
    columns: Matrix


class Weights(Protocol[Matrix]):
    """Weights W as a matrix A: sum(W * dK) = ``multiplicity`` * sum(A * dK) for symmetric dK with zero diagonal."""

    multiplicity: ClassVar[float]

    @property
    def matrix(self) -> Matrix:
        """A, with shape (n, n)."""

    def total(self, entries: Matrix) -> float:
        """Sum of W times a symmetric matrix with shape (n, n)."""

    def times(self, entries: Matrix) -> Weights[Matrix]:
        """W multiplied elementwise by a symmetric matrix."""

    def weighted(self, correlation: Matrix, slope: Matrix) -> Weighted[Matrix]:
        """Weighted sums of a correlation matrix and its slopes, which may be one array; may overwrite A."""

    def full(self) -> Matrix:
        """W itself, with shape (n, n)."""

    def grouped(self, members: Matrix) -> Array:
        """M^T W M for members M with shape (n, c): sums of W over groups of rows and columns, with shape (c, c)."""

    def copy(self) -> Weights[Matrix]:
        """A copy, for callers that overwrite the weights."""


@dataclass(frozen=True, eq=False)
class LowerWeights:
    """W stored as its lower triangle, with zeros above the diagonal, in numpy; never overwritten.

    Attributes:
        matrix: With shape (n, n), by rows.
    """

    matrix: Array
    multiplicity: ClassVar[float] = 2.0

    def total(self, entries: Array) -> float:
        """See ``Weights``."""
        return float(2.0 * np.vdot(self.matrix, entries) - self.matrix.diagonal() @ entries.diagonal())

    def times(self, entries: Array) -> LowerWeights:
        """See ``Weights``."""
        return LowerWeights(np.multiply(self.matrix, entries))

    def weighted(self, correlation: Array, slope: Array) -> Weighted[Array]:
        """See ``Weights``."""
        product = np.multiply(self.matrix, slope)
        rows = product.sum(1)
        half = rows.sum() if slope is correlation else np.vdot(self.matrix, correlation)
        return Weighted(2.0 * half - self.matrix.diagonal().sum(), product, rows, product.sum(0))

    def full(self) -> Array:
        """See ``Weights``."""
        return self.matrix + np.tril(self.matrix, -1).T

    def grouped(self, members: Array) -> Array:
        """See ``Weights``; O(n^2 c)."""
        half = members.T @ (self.matrix @ members)
        return half + half.T - members.T @ (self.matrix.diagonal()[:, None] * members)

    def copy(self) -> LowerWeights:
        """See ``Weights``."""
        return self


@dataclass(frozen=True, eq=False)
class FullWeights:
    """W stored as W itself, or as its lower triangle with doubled off-diagonal entries, in torch.

    Attributes:
        matrix: With shape (n, n).
    """

    matrix: Tensor
    multiplicity: ClassVar[float] = 1.0

    def total(self, entries: Tensor) -> float:
        """See ``Weights``."""
        return float(torch.sum(self.matrix * entries))

    def times(self, entries: Tensor) -> FullWeights:
        """See ``Weights``."""
        return FullWeights(self.matrix * entries)

    def weighted(self, correlation: Tensor, slope: Tensor) -> Weighted[Tensor]:
        """See ``Weights``; overwrites A."""
        total = None if slope is correlation else torch.sum(self.matrix * correlation)
        product = self.matrix.mul_(slope)
        return Weighted(float(product.sum() if total is None else total), product, product.sum(1), product.sum(0))

    def full(self) -> Tensor:
        """See ``Weights``."""
        return 0.5 * (self.matrix + self.matrix.T)

    def grouped(self, members: Tensor) -> Array:
        """See ``Weights``; O(n^2 c)."""
        half = (members.T @ (self.matrix @ members)).cpu().numpy()
        return 0.5 * (half + half.T)

    def copy(self) -> FullWeights:
        """See ``Weights``."""
        return FullWeights(self.matrix.clone())
