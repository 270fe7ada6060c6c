"""Gradients of a network with respect to its parameters as features; their kernel is the tangent kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from surrogate.selection.features import DenseFeatures, Features, Index, Projector
from surrogate.selection.sketching import ProductSketch
from surrogate.selection.tangent import frozen_copy, layer_factors

__all__ = ["FactoredFeatures", "GradientFeatures", "last_layer_features"]


@dataclass(frozen=True, eq=False)
class FactoredFeatures(Features):
    """Sums of outer products, phi = (u_1 (x) v_1, u_2 (x) v_2, ...), kept as factors.

    k(x, x') = sum_l <u_l, u'_l> <v_l, v'_l>; a column costs O(n) times the sum of the factors' widths, whereas the
    explicit features number the sum of the products of these widths.

    Attributes:
        factors: Pairs (u, v) with shapes (n, a_l) and (n, b_l).
    """

    factors: tuple[tuple[Tensor, Tensor], ...]

    @property
    def rows(self) -> Tensor:
        """The left factor of the first layer, which has one row per point."""
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
        """The same features in another dtype."""
        return FactoredFeatures(tuple((u.to(dtype), v.to(dtype)) for u, v in self.factors))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """Random projections of the outer products, see `ProductSketch`.

        psi = sum_l (u_l R_l) * (v_l S_l) / sqrt(p), as in Holzmueller et al. (2023), arXiv:2203.09410, sec. 3.2.4. In
        departure from the paper, if a factor has one column its product with the other is projected directly, with less
        noise. Costs O(n p) times the sum of the widths; projecting the explicit features would cost O(n p) times their
        product.
        """
        sketch = self.sketch(p, generator)
        return lambda features: sketch(features.factors)

    def sketch(self, p: int, generator: torch.Generator) -> ProductSketch:
        """The random map to p features that `projector` applies."""
        return ProductSketch.draw([(u.shape[1], v.shape[1]) for u, v in self.factors], p, self.rows, generator)


@dataclass(frozen=True, eq=False)
class GradientFeatures(Features):
    """Gradients of a network with respect to its parameters, computed on demand; the finite-width tangent kernel.

    Stores only the network and the inputs. Blocks of points are passed through the network when a kernel or a sketch is
    computed, so a pool of a million points needs no more memory than its sketch.

    Attributes:
        module: A frozen copy of a network whose parameters are those of `nn.Linear` layers.
        x: Its inputs, with shape (n, d).
        scales: Constants (c_w, c_b) per linear layer of the tangent parametrisation, None for ones.
        last: Number of last layers to use; None for all.
        block: Points per block.
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
        """Gradient features of points x under a copy of a network.

        Args:
            module: Any network whose only parameters are those of `nn.Linear` layers, each used once; activations are
                arbitrary. With k outputs the kernel is the sum over outputs.
            x: Inputs, with shape (n, d).
            scales: Constants c of y = c_w W x + c_b b per linear layer. Plain `nn.Linear` layers have c = 1; a network
                trained with learning rates c times a common one has these c.
            last: Number of last layers to use; 1 gives the last-layer kernel.

        Raises:
            ValueError: If the network has other parameters, or the numbers of scales and layers differ.
        """
        twin = frozen_copy(module, x.dtype).to(x.device)
        features = cls(twin, x.detach(), None if scales is None else tuple(scales), last)
        features.subset(slice(0, 1)).stored()  # raises errors here rather than during a selection
        return features

    @property
    def rows(self) -> Tensor:
        """The inputs of the network."""
        return self.x

    @property
    def dim(self) -> int:
        """Number of differentiated parameters."""
        return self.subset(slice(0, 1)).stored().dim

    def blocks(self) -> Iterator[tuple[slice, FactoredFeatures]]:
        """Slices of the points, with the gradients of each."""
        for start in range(0, self.n, self.block):
            part = slice(start, min(start + self.block, self.n))
            factors = layer_factors(self.module, self.x[part], scales=self.scales, last=self.last)
            yield part, FactoredFeatures(tuple(factors))

    def stored(self) -> FactoredFeatures:
        """The factors of all points, which need n times the sum of the layer widths in memory."""
        parts = [features.factors for _, features in self.blocks()]
        return FactoredFeatures(
            tuple((torch.cat(us), torch.cat(vs)) for us, vs in map(_pairs, zip(*parts, strict=True)))
        )

    def diag(self) -> Tensor:
        """Squared norms of the gradients, with shape (n,)."""
        return torch.cat([features.diag() for _, features in self.blocks()])

    def gram(self, other: GradientFeatures) -> Tensor:
        """Inner products of the gradients, with shape (n, m)."""
        right = other.stored()
        return torch.cat([features.gram(right) for _, features in self.blocks()])

    def dense(self) -> Tensor:
        """The gradients themselves, with shape (n, dim): large."""
        return torch.cat([features.dense() for _, features in self.blocks()])

    def subset(self, index: Index) -> GradientFeatures:
        """The points with these indices."""
        return replace(self, x=self.x[index])

    def to(self, dtype: torch.dtype) -> GradientFeatures:
        """The same gradients in another dtype."""
        return replace(self, module=frozen_copy(self.module, dtype), x=self.x.to(dtype))

    def projector(self, p: int, generator: torch.Generator) -> Projector:
        """See `FactoredFeatures.projector`; computed in blocks."""
        sketch = self.subset(slice(0, 1)).stored().sketch(p, generator)

        def blockwise(features: GradientFeatures) -> Tensor:
            out = features.x.new_empty(features.n, p)
            for part, gradients in features.blocks():
                sketch(gradients.factors, out[part])
            return out

        return blockwise


def _pairs(column: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [u for u, _ in column], [v for _, v in column]


def last_layer_features(
    module: nn.Module, x: Tensor, *, scales: Sequence[tuple[float, float]] | None = None, last: int = 1
) -> DenseFeatures:
    """Gradients with respect to the last layers of a network, [c_w h, c_b] for one layer and one output.

    Args and Raises: As `GradientFeatures.of`.
    """
    return DenseFeatures(GradientFeatures.of(module, x, scales=scales, last=last).dense())
