"""Squared distances in feature space from every point of a pool to the nearest of a growing set of centres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from surrogate.selection.features import DenseFeatures, Features

__all__ = ["Distances", "KernelDistances", "kernel_distances"]

_BLOCK = 4096
_MOST_FEATURES = 4096  # most explicit features; with more, distances are computed from the kernel


Likely = Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Change:
    """The points whose nearest centre changed when a centre was added.

    Attributes:
        index: Points that are nearest to it now, with shape (k,).
        before: Squared distances to their former centres, with shape (k,).
        owner: Their former centres, with shape (k,).
    """

    index: Tensor
    before: Tensor
    owner: Tensor


class Distances(Protocol):
    """Squared distance of each pool point to its nearest centre, and the number of that centre.

    Attributes:
        squared: With shape (n,); infinite before the first centre, and exactly zero at centres and at their copies.
        owner: Number of the nearest centre in the order in which they were added, with shape (n,).
        centres: Number of centres.
    """

    squared: Tensor
    owner: Tensor
    centres: int

    def norms(self) -> Tensor:
        """k(x, x) over the pool, with shape (n,)."""

    def add(self, i: int, likely: Likely | None = None) -> Change:
        """Makes point i of the pool a centre.

        Args:
            i: The point.
            likely: Function that returns which points may be next, called only if the column of i is not cached. Their
                columns are then computed in the same product, which reads the features once: 3 to 8 times faster on a
                CPU. A wrong guess costs time but does not change the result.
        """

    def restricted(self, index: Tensor) -> Distances:
        """A copy with the same centres and a subset of the points, for previews."""


def kernel_distances(pool: Features, train: Features | None) -> Distances:
    """Distances from the pool with the labelled points as first centres; ties go to the earlier centre.

    Explicit features are used directly if there are few enough, otherwise the kernel is. Costs O(n n_train p) once in
    matrix products, then O(n p) for each centre.
    """
    if pool.dim is None or pool.dim > _MOST_FEATURES:
        return KernelDistances(pool.stored(), None if train is None else train.stored())
    return KernelDistances(DenseFeatures(pool.dense()), None if train is None else DenseFeatures(train.dense()))


class KernelDistances:
    """Distances by |x - c|^2 = k(x, x) + k(c, c) - 2 k(x, c)."""

    def __init__(self, pool: Features, train: Features | None) -> None:
        self._pool = pool
        self._norms = pool.diag()
        self._columns: dict[int, Tensor] = {}
        self.squared = torch.full_like(self._norms, torch.inf)
        self.owner = torch.zeros(pool.n, dtype=torch.int32, device=pool.device)
        self.centres = 0
        if train is not None:
            self._install(train)

    def _install(self, train: Features) -> None:
        half = 0.5 * train.diag()
        for start in range(0, self._pool.n, _BLOCK):
            part = slice(start, start + _BLOCK)
            best, owner = self._pool.subset(part).gram(train).sub_(half).max(1)
            norms, centre = self._norms[part], half[owner]
            self.owner[part] = owner.int()
            self.squared[part] = _squared_distances(norms, 2.0 * centre, best + centre)
        self.centres = train.n

    def norms(self) -> Tensor:
        """k(x, x) over the pool, with shape (n,)."""
        return self._norms

    def add(self, i: int, likely: Likely | None = None) -> Change:
        """Makes point i of the pool a centre; see `Distances`."""
        squared = _squared_distances(self._norms, self._norms[i], self._column(i, likely))
        index = torch.nonzero(squared < self.squared).flatten()
        change = Change(index, self.squared[index], self.owner[index])
        self.squared[index] = squared[index]
        self.squared[i] = 0.0
        self.owner[index] = self.centres
        self.centres += 1
        return change

    def _column(self, i: int, likely: Likely | None) -> Tensor:
        if i not in self._columns:
            first = torch.tensor([i], device=self._pool.device)
            wanted = first if likely is None else torch.cat([first, likely()])
            self._columns = dict(zip(wanted.tolist(), self._pool.subset(wanted).gram(self._pool), strict=True))
        return self._columns.pop(i)

    def restricted(self, index: Tensor) -> KernelDistances:
        """A copy with the same centres and a subset of the points."""
        few = KernelDistances(self._pool.subset(index), None)
        few.squared, few.owner, few.centres = self.squared[index], self.owner[index], self.centres
        return few


def _squared_distances(norms: Tensor, centre: Tensor, products: Tensor) -> Tensor:
    """|x|^2 + |c|^2 - 2 x.c, set to zero below its rounding error, so that copies of a centre have distance zero."""
    total = norms + centre
    squared = total - 2.0 * products
    return torch.where(squared > 8.0 * torch.finfo(total.dtype).eps * total, squared, 0.0)
