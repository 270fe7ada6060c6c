"""Random projections of vectors and of outer products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ProductSketch", "Projection"]

_BLOCK = 32
_ROWS = 1024  # rows per block, which fit into the cache


@dataclass(frozen=True, eq=False)
class Projection:
    """A random linear map R with E (R x)_i (R y)_i = x.y for each of its p outputs.

    Vectors at least as long as p are cut into blocks of 32; every block is rotated at random (Haar) and the blocks are
    mixed with the signs of a Hadamard matrix: each of p outputs then takes O(32 + p / 32) operations instead of one for
    every input, and with p inputs the map is an isometry. Shorter vectors, and inputs that do not fill a block, are
    multiplied by a matrix of normal numbers. Results have shape (groups, n, p / groups), in an order that suits
    products of sketches.

    Attributes:
        rotations: Blocks with shape (a, 32, 32), or None.
        signs: With shape (groups, a).
        rest: Normal numbers for the remaining inputs, with shape (inputs left, p).
        groups: p / 32, or 1 without blocks.

    References:
        Ailon & Chazelle (2009), doi:10.1137/060673096, for fast projections in general.
    """

    rotations: Tensor | None
    signs: Tensor
    rest: Tensor
    groups: int

    @staticmethod
    def suits(width: int, p: int) -> bool:
        """Whether vectors of this length are projected by block rotations."""
        return width >= p and p % _BLOCK == 0

    @classmethod
    def draw(cls, width: int, p: int, groups: int, like: Tensor, generator: torch.Generator) -> Projection:
        """A map from ``width`` to p numbers in the precision and on the device of ``like``."""
        count = width // _BLOCK if groups > 1 and cls.suits(width, p) else 0
        rest = _normal((width - count * _BLOCK, p), generator).to(like)
        if not count:
            return cls(None, rest[:0], rest, groups)
        q, r = torch.linalg.qr(_normal((count, _BLOCK, _BLOCK), generator))
        rotations = q * r.diagonal(dim1=1, dim2=2).sign()[:, None, :]  # makes the distribution uniform (Haar)
        signs = _hadamard(max(count, groups))[:groups, :count] * _BLOCK**0.5
        return cls(rotations.to(like), signs.to(like), rest, groups)

    def __call__(self, x: Tensor) -> Tensor:
        """R x, with shape (groups, n, p / groups), for rows x with shape (n, width)."""
        n = len(x)
        if self.rotations is None:
            return (x @ self.rest).view(n, self.groups, -1).transpose(0, 1)
        cut = len(self.rotations) * _BLOCK
        rotated = torch.bmm(x[:, :cut].unflatten(1, (-1, _BLOCK)).transpose(0, 1), self.rotations)
        mixed = (self.signs @ rotated.flatten(1)).view(self.groups, n, _BLOCK)
        if cut < x.shape[1]:
            mixed += (x[:, cut:] @ self.rest).view(n, self.groups, -1).transpose(0, 1)
        return mixed


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, device=generator.device, generator=generator)


def _hadamard(n: int) -> Tensor:
    """Sylvester's Hadamard matrix of the smallest order that is at least n."""
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < n:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h


@dataclass(frozen=True, eq=False)
class ProductSketch:
    """Sums of products of independent projections: sketches of sums of outer products.

    psi = sum_l (R_l u_l) * (S_l v_l) / sqrt(p) has E psi.psi' = sum_l <u_l, u'_l> <v_l, v'_l>.

    Attributes:
        maps: Pairs (R, S); None stands for a factor of one column, which multiplies the other factor before projection.
        p: Number of outputs.
        groups: Their order, see `Projection`.
    """

    maps: tuple[tuple[Projection | None, Projection | None], ...]
    p: int
    groups: int

    @classmethod
    def draw(cls, widths: Sequence[tuple[int, int]], p: int, like: Tensor, generator: torch.Generator) -> ProductSketch:
        """A sketch of pairs of factors of these widths."""
        groups = p // _BLOCK if any(Projection.suits(max(pair), p) for pair in widths) else 1

        def half(width: int, other: int) -> Projection | None:
            alone = width == 1 and other > 1
            return None if alone else Projection.draw(width, p, groups, like, generator)

        return cls(tuple((half(a, b), half(b, a)) for a, b in widths), p, groups)

    def __call__(self, factors: Sequence[tuple[Tensor, Tensor]], out: Tensor | None = None) -> Tensor:
        """The sketch of n rows, with shape (n, p), block by block."""
        first = factors[0][0]
        out = first.new_empty(len(first), self.p) if out is None else out
        for start in range(0, len(first), _ROWS):
            part = slice(start, start + _ROWS)
            total = self._sum([(u[part], v[part]) for u, v in factors]).div_(self.p**0.5)
            out[part].unflatten(1, (self.groups, -1)).copy_(total.transpose(0, 1))
        return out

    def _sum(self, factors: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        total = factors[0][0].new_zeros(self.groups, len(factors[0][0]), self.p // self.groups)
        for (u, v), (left, right) in zip(factors, self.maps, strict=True):
            total.addcmul_(u if left is None else left(u), v if right is None else right(v))
        return total
