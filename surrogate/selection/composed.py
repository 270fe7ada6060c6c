"""Features made of other features: conditioned, weighted, sums and products of kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.selection.features import Features, Index, Projector

__all__ = ["PosteriorFeatures", "ProductFeatures", "SumFeatures", "WeightedFeatures"]


@dataclass(frozen=True, eq=False)
class PosteriorFeatures(Features):
    """A kernel conditioned on observations: k(x, x') - a(x).a(x').

    Attributes:
        base: The kernel before conditioning.
        half: a = L^-1 k(X, x) for the factor L of the covariance of the observations, with shape (n, m).
    """

    base: Features
    half: Tensor

    @property
    def rows(self) -> Tensor:
        """The matrix ``half``, which has one row per point."""
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
        """The same features in another dtype."""
        return PosteriorFeatures(self.base.to(dtype), self.half.to(dtype))

    def stored(self) -> PosteriorFeatures:
        """The same features, with the columns of the base precomputed."""
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
        """The ``rows`` of the base features."""
        return self.base.rows

    @property
    def dim(self) -> int | None:
        """Number of features of the base."""
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
        """The same features in another dtype."""
        return WeightedFeatures(self.base.to(dtype), self.weights.to(dtype))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """w times the projection of the base."""
        project = self.base.projector(p, generator)
        return lambda features: project(features.base).mul_(features.weights[..., None])

    def stored(self) -> WeightedFeatures:
        """The same features, with the columns of the base precomputed."""
        return WeightedFeatures(self.base.stored(), self.weights)


@dataclass(frozen=True, eq=False)
class SumFeatures(Features):
    """The sum of several kernels, such as those of an ensemble: concatenated features.

    Attributes:
        parts: Features of the same points.
    """

    parts: tuple[Features, ...]

    @property
    def rows(self) -> Tensor:
        """The ``rows`` of the first part of the sum."""
        return self.parts[0].rows

    @property
    def dim(self) -> int | None:
        """Sum of the numbers of features of the parts."""
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
        """The same features in another dtype."""
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
        """The same features, with the columns of the parts precomputed."""
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
        """The ``rows`` of the left factor."""
        return self.left.rows

    @property
    def dim(self) -> int | None:
        """Product of the numbers of features."""
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
        """The same features in another dtype."""
        return ProductFeatures(self.left.to(dtype), self.right.to(dtype))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """sqrt(p) times the product of independent projections of the two."""
        left, right = (part.projector(p, generator) for part in (self.left, self.right))
        return lambda features: left(features.left).mul_(right(features.right)).mul_(p**0.5)

    def stored(self) -> ProductFeatures:
        """The same features, with the columns of both precomputed."""
        return ProductFeatures(self.left.stored(), self.right.stored())
