"""Features of candidates and labelled points, explicit or given only by a kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from surrogate.linalg.lowrank import ColumnAccess
from surrogate.selection.sketching import ProductSketch

__all__ = [
    "CovarianceFeatures",
    "DenseFeatures",
    "Features",
    "Index",
    "Kernel",
    "KernelFeatures",
    "Projector",
    "covariance_features",
    "linear_features",
    "prediction_features",
]

Index = Tensor | slice
Projector = Callable[[Any], Tensor]


class Features(ABC):
    """n points under a feature map phi with the kernel k(x, x') = phi(x).phi(x').

    The interface on which all selection rules work. Objects used in one call, such as the pool and the labelled points,
    must have the same feature map (not checked), but may have different numbers of points.
    """

    @property
    @abstractmethod
    def rows(self) -> Tensor:
        """A tensor with one row per point, which gives the number of points, the precision and the device."""

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.rows)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the kernel."""
        return self.rows.dtype

    @property
    def device(self) -> torch.device:
        """Device of the features."""
        return self.rows.device

    @property
    def dim(self) -> int | None:
        """Number p of features; None if it is infinite or unknown."""
        return None

    @abstractmethod
    def diag(self) -> Tensor:
        """k(x, x), with shape (n,)."""

    @abstractmethod
    def gram(self, other: Any) -> Tensor:
        """k(x, x') for the m points x' of features of the same kind, with shape (n, m)."""

    @abstractmethod
    def subset(self, index: Index) -> Features:
        """The points with these indices."""

    @abstractmethod
    def to(self, dtype: torch.dtype) -> Features:
        """The same points in another dtype."""

    def dense(self) -> Tensor:
        """phi(x), with shape (n, p).

        Raises:
            ValueError: If ``dim`` is None.
        """
        raise ValueError(_unknown(self))

    def projector(self, p: int, generator: torch.Generator) -> Projector:  # noqa: ARG002
        """A random map psi of such features to (n, p) numbers with E psi(x).psi(x') = k(x, x').

        Raises:
            ValueError: If ``dim`` is None.
        """
        raise ValueError(_unknown(self))

    def stored(self) -> Features:
        """An equivalent object with everything precomputed that columns of the kernel need."""
        return self


def _unknown(features: Features) -> str:
    return (
        f"{type(features).__name__} has no explicit features: leave out the sketch and use a method that needs the "
        "kernel alone: random, maxdiag, maxdet, maxdist, kmeanspp or lcmd"
    )


@dataclass(frozen=True, eq=False)
class DenseFeatures(Features):
    """Features stored as a matrix.

    Attributes:
        matrix: phi(x), with shape (n, p).

    Raises:
        TypeError: If ``matrix`` is not a tensor. ValueError: If it is not a matrix of real numbers.
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.matrix, Tensor):
            msg = f"features must be a torch tensor, got {type(self.matrix).__name__}: torch.as_tensor(x) makes one"
            raise TypeError(msg)
        if self.matrix.ndim != 2 or not self.matrix.is_floating_point():
            msg = f"features must be real with shape (n, p), got {self.matrix.dtype} {tuple(self.matrix.shape)}"
            raise ValueError(msg)

    @property
    def rows(self) -> Tensor:
        """The matrix of features."""
        return self.matrix

    @property
    def dim(self) -> int:
        """Number p of features."""
        return self.matrix.shape[1]

    def diag(self) -> Tensor:
        """Squared norms, with shape (n,)."""
        return torch.linalg.vector_norm(self.matrix, dim=1).square()

    def gram(self, other: DenseFeatures) -> Tensor:
        """Inner products, with shape (n, m)."""
        return self.matrix @ other.matrix.T

    def dense(self) -> Tensor:
        """The matrix itself."""
        return self.matrix

    def subset(self, index: Index) -> DenseFeatures:
        """The rows with these indices."""
        return DenseFeatures(self.matrix[index])

    def to(self, dtype: torch.dtype) -> DenseFeatures:
        """The same features in another dtype."""
        return DenseFeatures(self.matrix.to(dtype))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """Random projections of the features, see `Projection`."""
        sketch = ProductSketch.draw([(self.dim, 1)], p, self.matrix, generator)
        return lambda features: sketch([(features.matrix, torch.ones_like(features.matrix[:, :1]))])


class Kernel(Protocol):
    """A kernel function, such as those of `surrogate.selection.tangent`."""

    def diag(self, x: Tensor) -> Tensor:
        """k(x, x), with shape (n,)."""

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """k(a, b), with shape (n, m)."""


@dataclass(frozen=True, eq=False)
class KernelFeatures(Features):
    """Points under a kernel that has no explicit features.

    Attributes:
        kernel: The kernel.
        x: Points, with shape (n, d).
    """

    kernel: Kernel
    x: Tensor

    @property
    def rows(self) -> Tensor:
        """The points."""
        return self.x

    def diag(self) -> Tensor:
        """k(x, x), with shape (n,)."""
        return self.kernel.diag(self.x)

    def gram(self, other: KernelFeatures) -> Tensor:
        """k(x, x'), with shape (n, m)."""
        return self.kernel.matrix(self.x, other.x)

    def subset(self, index: Index) -> KernelFeatures:
        """The points with these indices."""
        return KernelFeatures(self.kernel, self.x[index])

    def to(self, dtype: torch.dtype) -> KernelFeatures:
        """The same points in another dtype."""
        return KernelFeatures(self.kernel, self.x.to(dtype))


@dataclass(frozen=True, eq=False)
class CovarianceFeatures(Features):
    """Points under a covariance that is given by columns, such as a posterior over the whole pool.

    Attributes:
        access: Access to the covariance of all points.
        index: Indices of these points, with shape (n,).
        variances: Variances of these points, with shape (n,).
    """

    access: ColumnAccess
    index: Tensor
    variances: Tensor

    @property
    def rows(self) -> Tensor:
        """The variances, which have one entry per point."""
        return self.variances

    def diag(self) -> Tensor:
        """Variances, with shape (n,)."""
        return self.variances

    def gram(self, other: CovarianceFeatures) -> Tensor:
        """Covariances, with shape (n, m), from one column of the full covariance for each of the m points."""
        columns = [self.access.column(int(j))[self.index] for j in other.index]
        return torch.stack(columns, 1).to(self.dtype)

    def subset(self, index: Index) -> CovarianceFeatures:
        """The points with these indices."""
        return CovarianceFeatures(self.access, self.index[index], self.variances[index])

    def to(self, dtype: torch.dtype) -> CovarianceFeatures:
        """The same covariance, with results in another dtype."""
        return replace(self, variances=self.variances.to(dtype))


def linear_features(x: Tensor) -> DenseFeatures:
    """The inputs as features, k = x.x', independent of any model. Standardise x first."""
    return DenseFeatures(x)


def prediction_features(samples: Tensor) -> DenseFeatures:
    """Features whose kernel is the empirical covariance of predictions by an ensemble, trees or posterior draws.

    Args:
        samples: Predictions, with shape (m, n), one row per member or draw, at least two.

    Returns:
        Deviations from the mean divided by sqrt(m - 1), as features with shape (n, m).

    Raises:
        ValueError: If there are fewer than two rows.

    References:
        Kirsch (2023), arXiv:2302.08981.
    """
    if samples.ndim != 2 or len(samples) < 2:
        msg = f"samples must have shape (m, n) with m >= 2, got {tuple(samples.shape)}"
        raise ValueError(msg)
    return DenseFeatures((samples - samples.mean(0)).T / (len(samples) - 1) ** 0.5)


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns of a matrix, or of a lazy matrix of `linear_operator`."""

    covariance: Any

    def diag(self) -> Tensor:
        return self.covariance.diagonal()

    def column(self, i: int) -> Tensor:
        column = self.covariance[:, i]
        return column if isinstance(column, Tensor) else column.to_dense()


def covariance_features(covariance: Any) -> CovarianceFeatures:
    """Points under a known covariance, such as that of a surrogate or of gpytorch, or any matrix.

    Args:
        covariance: A matrix with shape (n, n), a gpytorch `MultivariateNormal` (its lazy covariance is used, and its
            matrix never formed if gpytorch can give columns), a lazy matrix of `linear_operator`, or anything with
            ``diag()`` and ``column(i)`` such as `surrogate.selection.posterior.uncertainty_gram`. It must already be
            conditioned on the labels; use it in mode P, without labelled points.

    Raises:
        TypeError: If it is none of these.
    """
    lazy = getattr(covariance, "lazy_covariance_matrix", covariance)
    if hasattr(lazy, "column") and hasattr(lazy, "diag"):
        access = lazy
    elif hasattr(lazy, "diagonal") and hasattr(lazy, "__getitem__"):
        access = _Columns(lazy)
    else:
        msg = f"expected a matrix, a MultivariateNormal or access by columns, got {type(covariance).__name__}"
        raise TypeError(msg)
    variances = access.diag().detach()
    return CovarianceFeatures(access, torch.arange(len(variances), device=variances.device), variances)
