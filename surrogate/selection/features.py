"""Points in a feature space: kernels over candidates and labelled points, with or without explicit features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from surrogate.linalg.lowrank import ColumnAccess
from surrogate.selection.sketching import ProductSketch
from surrogate.selection.tangent import frozen_copy, layer_factors

__all__ = [
    "CovarianceFeatures",
    "DenseFeatures",
    "FactoredFeatures",
    "Features",
    "GradientFeatures",
    "Kernel",
    "KernelFeatures",
    "PosteriorFeatures",
    "ProductFeatures",
    "SumFeatures",
    "WeightedFeatures",
    "covariance_features",
    "last_layer_features",
    "linear_features",
    "prediction_features",
]

Index = Tensor | slice
Projector = Callable[[Any], Tensor]


class Features(ABC):
    """n points under a feature map phi with the kernel k(x, x') = phi(x).phi(x').

    Whatever chooses a batch works on this. Objects that meet in one call, such as the pool and the labelled points,
    must come from the same feature map (not checked); their numbers of points may differ.
    """

    @property
    @abstractmethod
    def rows(self) -> Tensor:
        """Some tensor with one row per point: tells their number, the precision and the device."""

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
        """Where the numbers are."""
        return self.rows.device

    @property
    def dim(self) -> int | None:
        """Number p of features; None if there are infinitely many or they are not known."""
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
        """The same points in another precision."""

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
        """The same kernel after computing once what its columns need."""
        return self


def _unknown(features: Features) -> str:
    return (
        f"{type(features).__name__} has no explicit features: leave out the sketch and use a method that needs the "
        "kernel alone: random, maxdiag, maxdet, maxdist, kmeanspp or lcmd"
    )


@dataclass(frozen=True, eq=False)
class DenseFeatures(Features):
    """Stored features.

    Attributes:
        matrix: phi(x), with shape (n, p).

    Raises:
        ValueError: If it is not a matrix of real numbers.
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or not self.matrix.is_floating_point():
            msg = f"features must be real with shape (n, p), got {self.matrix.dtype} {tuple(self.matrix.shape)}"
            raise ValueError(msg)

    @property
    def rows(self) -> Tensor:
        """The features."""
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
        """In another precision."""
        return DenseFeatures(self.matrix.to(dtype))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """Random projections of the features, see `Projection`."""
        sketch = ProductSketch.draw([(self.dim, 1)], p, self.matrix, generator)
        return lambda features: sketch([(features.matrix, torch.ones_like(features.matrix[:, :1]))])


@dataclass(frozen=True, eq=False)
class FactoredFeatures(Features):
    """Sums of outer products, phi = (u_1 (x) v_1, u_2 (x) v_2, ...), kept as factors.

    k(x, x') = sum_l <u_l, u'_l> <v_l, v'_l>; a column costs O(n) times the sum of the widths of the factors, where the
    features themselves would be as many as the sum of the products of these widths.

    Attributes:
        factors: Pairs (u, v) with shapes (n, a_l) and (n, b_l).
    """

    factors: tuple[tuple[Tensor, Tensor], ...]

    @property
    def rows(self) -> Tensor:
        """The first factor."""
        return self.factors[0][0]

    @property
    def dim(self) -> int:
        """Number of features."""
        return sum(u.shape[1] * v.shape[1] for u, v in self.factors)

    def diag(self) -> Tensor:
        """Sums of products of squared norms, with shape (n,)."""
        return torch.stack([u.square().sum(1) * v.square().sum(1) for u, v in self.factors]).sum(0)

    def gram(self, other: FactoredFeatures) -> Tensor:
        """Sums of products of inner products, with shape (n, m)."""
        total = self.rows.new_zeros(self.n, other.n)
        for (u, v), (s, t) in zip(self.factors, other.factors, strict=True):
            total.addcmul_(u @ s.T, v @ t.T)
        return total

    def dense(self) -> Tensor:
        """The outer products, with shape (n, dim): large."""
        return torch.cat([(u[:, :, None] * v[:, None, :]).flatten(1) for u, v in self.factors], 1)

    def subset(self, index: Index) -> FactoredFeatures:
        """The points with these indices."""
        return FactoredFeatures(tuple((u[index], v[index]) for u, v in self.factors))

    def to(self, dtype: torch.dtype) -> FactoredFeatures:
        """In another precision."""
        return FactoredFeatures(tuple((u.to(dtype), v.to(dtype)) for u, v in self.factors))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """Sums of products of independent random projections of the factors, see `ProductSketch`.

        psi = sum_l (u_l R_l) * (v_l S_l) / sqrt(p), as in Holzmueller et al. (2023), arXiv:2203.09410, sec. 3.2.4. We
        depart from it where a factor has one column: its product with the other is projected at once, with less noise.
        O(n p) times the sum of the widths, against the product of them for a projection of the features themselves.
        """
        sketch = self.sketch(p, generator)
        return lambda features: sketch(features.factors)

    def sketch(self, p: int, generator: torch.Generator) -> ProductSketch:
        """The map behind `projector`."""
        return ProductSketch.draw([(u.shape[1], v.shape[1]) for u, v in self.factors], p, self.rows, generator)


@dataclass(frozen=True, eq=False)
class GradientFeatures(Features):
    """Gradients of a network with respect to its parameters: its finite-width tangent kernel, computed when needed.

    Holds the network and the inputs only; blocks of points pass through the network when a kernel or a sketch is asked
    for, so that a pool of a million points needs no more memory than its sketch.

    Attributes:
        module: A frozen copy of a network whose parameters are those of `nn.Linear` layers.
        x: Its inputs, with shape (n, d).
        scales: Constants (c_w, c_b) per linear layer of the tangent parametrisation, None for ones.
        last: Only this many of the last layers, None for all.
        block: Points that pass at once.
    """

    module: nn.Module
    x: Tensor
    scales: tuple[tuple[float, float], ...] | None = None
    last: int | None = None
    block: int = 1024

    @classmethod
    def of(
        cls,
        module: nn.Module,
        x: Tensor,
        *,
        scales: Sequence[tuple[float, float]] | None = None,
        last: int | None = None,
    ) -> GradientFeatures:
        """Features of points x under a network; a copy of it is kept, and neither is changed.

        Args:
            module: Any network whose parameters are those of `nn.Linear` layers, each used once; the activations are
                free. With k outputs the kernel is the sum over outputs.
            x: Inputs, with shape (n, d).
            scales: Constants c of y = c_w W x + c_b b per linear layer. Gradients of plain `nn.Linear` layers are those
                with c = 1; a network trained with learning rates c times the common one has these c.
            last: Only the last layers: 1 gives the last-layer kernel.

        Raises:
            ValueError: If the network has other parameters, or the number of scales is not that of its layers.
        """
        twin = frozen_copy(module, x.dtype).to(x.device)
        features = cls(twin, x.detach(), None if scales is None else tuple(scales), last)
        features.subset(slice(0, 1)).stored()  # refuses what cannot be computed now rather than within a selection
        return features

    @property
    def rows(self) -> Tensor:
        """The inputs."""
        return self.x

    @property
    def dim(self) -> int:
        """Number of parameters that are differentiated."""
        return self.subset(slice(0, 1)).stored().dim

    def blocks(self) -> Iterator[tuple[slice, FactoredFeatures]]:
        """Slices of the points and their gradients."""
        for start in range(0, self.n, self.block):
            part = slice(start, min(start + self.block, self.n))
            factors = layer_factors(self.module, self.x[part], scales=self.scales, last=self.last)
            yield part, FactoredFeatures(tuple(factors))

    def stored(self) -> FactoredFeatures:
        """The factors of all points: n times the sum of the widths of the layers."""
        parts = [features.factors for _, features in self.blocks()]
        return FactoredFeatures(
            tuple((torch.cat(us), torch.cat(vs)) for us, vs in map(_pairs, zip(*parts, strict=True)))
        )

    def diag(self) -> Tensor:
        """Squared norms of the gradients, with shape (n,)."""
        return torch.cat([features.diag() for _, features in self.blocks()])

    def gram(self, other: GradientFeatures) -> Tensor:
        """Inner products of gradients, with shape (n, m)."""
        right = other.stored()
        return torch.cat([features.gram(right) for _, features in self.blocks()])

    def dense(self) -> Tensor:
        """The gradients themselves, with shape (n, dim): large."""
        return torch.cat([features.dense() for _, features in self.blocks()])

    def subset(self, index: Index) -> GradientFeatures:
        """The points with these indices."""
        return replace(self, x=self.x[index])

    def to(self, dtype: torch.dtype) -> GradientFeatures:
        """Computed in another precision."""
        return replace(self, module=frozen_copy(self.module, dtype), x=self.x.to(dtype))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """As `FactoredFeatures.projector`, by blocks."""
        sketch = self.subset(slice(0, 1)).stored().sketch(p, generator)

        def blockwise(features: GradientFeatures) -> Tensor:
            out = features.x.new_empty(features.n, p)
            for part, gradients in features.blocks():
                sketch(gradients.factors, out[part])
            return out

        return blockwise


def _pairs(column: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [u for u, _ in column], [v for _, v in column]


class Kernel(Protocol):
    """A kernel function, such as those of `surrogate.selection.tangent`."""

    def diag(self, x: Tensor) -> Tensor:
        """k(x, x), with shape (n,)."""

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """k(a, b), with shape (n, m)."""


@dataclass(frozen=True, eq=False)
class KernelFeatures(Features):
    """Points under a kernel whose features are infinitely many.

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
        """In another precision."""
        return KernelFeatures(self.kernel, self.x.to(dtype))


@dataclass(frozen=True, eq=False)
class CovarianceFeatures(Features):
    """Some of the points of a covariance that is reached by columns, such as a posterior over the whole pool.

    Attributes:
        access: Access to the covariance of all points.
        index: Which of them these are, with shape (n,).
        variances: Its diagonal there, with shape (n,).
    """

    access: ColumnAccess
    index: Tensor
    variances: Tensor

    @property
    def rows(self) -> Tensor:
        """The variances."""
        return self.variances

    def diag(self) -> Tensor:
        """Variances, with shape (n,)."""
        return self.variances

    def gram(self, other: CovarianceFeatures) -> Tensor:
        """Covariances, with shape (n, m); one column of the whole for each of the m points."""
        columns = [self.access.column(int(j))[self.index] for j in other.index]
        return torch.stack(columns, 1).to(self.dtype)

    def subset(self, index: Index) -> CovarianceFeatures:
        """The points with these indices."""
        return CovarianceFeatures(self.access, self.index[index], self.variances[index])

    def to(self, dtype: torch.dtype) -> CovarianceFeatures:
        """The same with results in another precision."""
        return replace(self, variances=self.variances.to(dtype))


@dataclass(frozen=True, eq=False)
class PosteriorFeatures(Features):
    """A kernel less what is known: k(x, x') - a(x).a(x').

    Attributes:
        base: The kernel before.
        half: a = L^-1 k(X, x) for the factor L of the covariance of the observations, with shape (n, m).
    """

    base: Features
    half: Tensor

    @property
    def rows(self) -> Tensor:
        """The halves."""
        return self.half

    def diag(self) -> Tensor:
        """Posterior variances, with shape (n,)."""
        return (self.base.diag() - self.half.square().sum(1)).clamp(min=0.0)

    def gram(self, other: PosteriorFeatures) -> Tensor:
        """Posterior covariances, with shape (n, m)."""
        return self.base.gram(other.base) - self.half @ other.half.T

    def subset(self, index: Index) -> PosteriorFeatures:
        """The points with these indices."""
        return PosteriorFeatures(self.base.subset(index), self.half[index])

    def to(self, dtype: torch.dtype) -> PosteriorFeatures:
        """In another precision."""
        return PosteriorFeatures(self.base.to(dtype), self.half.to(dtype))

    def stored(self) -> PosteriorFeatures:
        """With the columns of the base computed."""
        return PosteriorFeatures(self.base.stored(), self.half)


@dataclass(frozen=True, eq=False)
class WeightedFeatures(Features):
    """w(x) phi(x): the kernel w(x) k(x, x') w(x').

    Attributes:
        base: phi.
        weights: w, with shape (n,), or () for a common factor.
    """

    base: Features
    weights: Tensor

    @property
    def rows(self) -> Tensor:
        """Those of the base."""
        return self.base.rows

    @property
    def dim(self) -> int | None:
        """That of the base."""
        return self.base.dim

    def diag(self) -> Tensor:
        """w^2 k(x, x), with shape (n,)."""
        return self.weights.square() * self.base.diag()

    def gram(self, other: WeightedFeatures) -> Tensor:
        """w k w', with shape (n, m)."""
        return self.weights[..., None] * self.base.gram(other.base) * other.weights

    def dense(self) -> Tensor:
        """w phi, with shape (n, p)."""
        return self.weights[..., None] * self.base.dense()

    def subset(self, index: Index) -> WeightedFeatures:
        """The points with these indices."""
        return WeightedFeatures(self.base.subset(index), self.weights[index] if self.weights.ndim else self.weights)

    def to(self, dtype: torch.dtype) -> WeightedFeatures:
        """In another precision."""
        return WeightedFeatures(self.base.to(dtype), self.weights.to(dtype))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """w times that of the base."""
        project = self.base.projector(p, generator)
        return lambda features: project(features.base).mul_(features.weights[..., None])

    def stored(self) -> WeightedFeatures:
        """With the columns of the base computed."""
        return WeightedFeatures(self.base.stored(), self.weights)


@dataclass(frozen=True, eq=False)
class SumFeatures(Features):
    """The sum of kernels, such as those of the members of an ensemble: the features side by side.

    Attributes:
        parts: Features of the same points.
    """

    parts: tuple[Features, ...]

    @property
    def rows(self) -> Tensor:
        """Those of the first part."""
        return self.parts[0].rows

    @property
    def dim(self) -> int | None:
        """Sum of those of the parts."""
        dims = [part.dim for part in self.parts]
        return None if None in dims else sum(d for d in dims if d is not None)

    def diag(self) -> Tensor:
        """Sum of the diagonals, with shape (n,)."""
        return torch.stack([part.diag() for part in self.parts]).sum(0)

    def gram(self, other: SumFeatures) -> Tensor:
        """Sum of the kernels, with shape (n, m)."""
        total = self.parts[0].gram(other.parts[0])
        for mine, theirs in zip(self.parts[1:], other.parts[1:], strict=True):
            total = total + mine.gram(theirs)
        return total

    def dense(self) -> Tensor:
        """Features of all parts, with shape (n, p)."""
        return torch.cat([part.dense() for part in self.parts], 1)

    def subset(self, index: Index) -> SumFeatures:
        """The points with these indices."""
        return SumFeatures(tuple(part.subset(index) for part in self.parts))

    def to(self, dtype: torch.dtype) -> SumFeatures:
        """In another precision."""
        return SumFeatures(tuple(part.to(dtype) for part in self.parts))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """Sum of independent projections of the parts."""
        maps = [part.projector(p, generator) for part in self.parts]

        def project(features: SumFeatures) -> Tensor:
            total = maps[0](features.parts[0])
            for one, part in zip(maps[1:], features.parts[1:], strict=True):
                total += one(part)
            return total

        return project

    def stored(self) -> SumFeatures:
        """With the columns of the parts computed."""
        return SumFeatures(tuple(part.stored() for part in self.parts))


@dataclass(frozen=True, eq=False)
class ProductFeatures(Features):
    """The product of two kernels.

    Attributes:
        left: Features.
        right: Other features of the same points.
    """

    left: Features
    right: Features

    @property
    def rows(self) -> Tensor:
        """Those of the left."""
        return self.left.rows

    @property
    def dim(self) -> int | None:
        """Product of the two."""
        return None if self.left.dim is None or self.right.dim is None else self.left.dim * self.right.dim

    def diag(self) -> Tensor:
        """Product of the diagonals, with shape (n,)."""
        return self.left.diag() * self.right.diag()

    def gram(self, other: ProductFeatures) -> Tensor:
        """Product of the kernels, with shape (n, m)."""
        return self.left.gram(other.left) * self.right.gram(other.right)

    def dense(self) -> Tensor:
        """Outer products, with shape (n, p): large."""
        return (self.left.dense()[:, :, None] * self.right.dense()[:, None, :]).flatten(1)

    def subset(self, index: Index) -> ProductFeatures:
        """The points with these indices."""
        return ProductFeatures(self.left.subset(index), self.right.subset(index))

    def to(self, dtype: torch.dtype) -> ProductFeatures:
        """In another precision."""
        return ProductFeatures(self.left.to(dtype), self.right.to(dtype))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """sqrt(p) times the product of independent projections of the two."""
        left, right = (part.projector(p, generator) for part in (self.left, self.right))
        return lambda features: left(features.left).mul_(right(features.right)).mul_(p**0.5)

    def stored(self) -> ProductFeatures:
        """With the columns of both computed."""
        return ProductFeatures(self.left.stored(), self.right.stored())


def linear_features(x: Tensor) -> DenseFeatures:
    """The inputs as features, k = x.x': depends on no model. Standardise x first."""
    return DenseFeatures(x)


def last_layer_features(
    module: nn.Module, x: Tensor, *, scales: Sequence[tuple[float, float]] | None = None, last: int = 1
) -> DenseFeatures:
    """Gradients with respect to the last layers of a network, [c_w h, c_b] for one layer and one output.

    Args and Raises: As `GradientFeatures.of`.
    """
    return DenseFeatures(GradientFeatures.of(module, x, scales=scales, last=last).dense())


def prediction_features(samples: Tensor) -> DenseFeatures:
    """Empirical covariance of predictions: of the members of an ensemble, trees, or draws from a posterior.

    Args:
        samples: Predictions, with shape (m, n), one row per member or draw, at least two.

    Returns:
        Deviations from the mean over sqrt(m - 1), as features with shape (n, m).

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
    """Columns of a matrix, or of a lazy one as `linear_operator` makes them."""

    covariance: Any

    def diag(self) -> Tensor:
        return self.covariance.diagonal()

    def column(self, i: int) -> Tensor:
        column = self.covariance[:, i]
        return column if isinstance(column, Tensor) else column.to_dense()


def covariance_features(covariance: Any) -> CovarianceFeatures:
    """Points under a known covariance: of a surrogate, of gpytorch, or any matrix.

    Args:
        covariance: A matrix with shape (n, n), a gpytorch `MultivariateNormal` (its lazy covariance is used, and its
            matrix never formed if gpytorch can give columns), a lazy matrix of `linear_operator`, or anything with
            ``diag()`` and ``column(i)`` such as `surrogate.selection.posterior.uncertainty_gram`. It is conditioned
            on the labels already: use it in mode P, without labelled points.

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
