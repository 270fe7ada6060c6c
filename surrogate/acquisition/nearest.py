"""Squared distances in feature space from every point of a pool to the nearest of a growing set of centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from surrogate.acquisition.features import Features

__all__ = ["Nearest", "nearest"]

_BLOCK = 4096
_MOST_FEATURES = 4096  # with more, distances come from the kernel


@dataclass(frozen=True, eq=False)
class Change:
    """What a new centre changed.

    Attributes:
        index: Points that are nearest to it now, with shape (k,).
        before: Squared distances to their former centres, with shape (k,).
        owner: These centres.
    """

    index: Tensor
    before: Tensor
    owner: Tensor


class Nearest(Protocol):
    """Squared distance of each pool point to its nearest centre, and which one that is.

    Attributes:
        squared: With shape (n,); infinite before the first centre, and exactly zero at centres and at their copies.
        owner: Number of the nearest centre in the order in which they were added, with shape (n,).
        centres: How many there are.
    """

    squared: Tensor
    owner: Tensor
    centres: int

    def norms(self) -> Tensor:
        """k(x, x) over the pool, with shape (n,)."""

    def add(self, i: int) -> Change:
        """Makes point i of the pool a centre."""


def nearest(pool: Features, train: Features | None) -> Nearest:
    """Distances of the pool, with labelled points as the first centres; ties go to the earlier centre.

    Explicit features serve as they are, others through their kernel. O(n n_train p) once by matrix products, then
    O(n p) for each centre.
    """
    if pool.dim is not None and pool.dim <= _MOST_FEATURES:
        return FeatureDistances(pool.dense(), None if train is None else train.dense())
    return KernelDistances(pool.stored(), None if train is None else train.stored())


class _Distances:
    """The state, and how it takes a new centre."""

    def __init__(self, norms: Tensor) -> None:
        self._norms = norms
        self.squared = torch.full_like(norms, torch.inf)
        self.owner = torch.zeros(len(norms), dtype=torch.int64, device=norms.device)
        self.centres = 0

    def norms(self) -> Tensor:
        """k(x, x) over the pool, with shape (n,)."""
        return self._norms

    def _take(self, i: int, index: Tensor | None, products: Tensor) -> Change:
        """Point i becomes a centre; ``products`` are k(x_j, x_i) for j in ``index`` (None for all)."""
        norms = self._norms if index is None else self._norms[index]
        squared = _squared(norms, self._norms[i], products)
        closer = torch.nonzero(squared < (self.squared if index is None else self.squared[index])).flatten()
        index, squared = (closer if index is None else index[closer]), squared[closer]
        change = Change(index, self.squared[index], self.owner[index])
        self.squared[index] = squared
        self.squared[i] = 0.0
        self.owner[index] = self.centres
        self.centres += 1
        return change


def _squared(norms: Tensor, centre: Tensor, products: Tensor) -> Tensor:
    """|x|^2 + |c|^2 - 2 x.c; what is below its rounding error is zero, so that copies of a centre are none."""
    total = norms + centre
    squared = total - 2.0 * products
    return torch.where(squared > 8.0 * torch.finfo(total.dtype).eps * total, squared, 0.0)


class KernelDistances(_Distances):
    """Distances through a kernel: a column of it for each centre."""

    def __init__(self, pool: Features, train: Features | None) -> None:
        super().__init__(pool.diag())
        self._pool = pool
        if train is not None:
            self._install(train)

    def _install(self, train: Features) -> None:
        centre = train.diag()
        for start in range(0, len(self._norms), _BLOCK):
            part = slice(start, start + _BLOCK)
            products = self._pool.subset(part).gram(train)
            best, self.owner[part] = (products - 0.5 * centre).max(1)
            self.squared[part] = _squared(
                self._norms[part], centre[self.owner[part]], best + 0.5 * centre[self.owner[part]]
            )
        self.centres = train.n

    def add(self, i: int) -> Change:
        """Makes point i of the pool a centre."""
        point = self._pool.subset(torch.tensor([i], device=self._pool.device))
        return self._take(i, None, self._pool.gram(point)[:, 0])


class FeatureDistances(_Distances):
    """Distances of explicit features x with shape (n, p)."""

    def __init__(self, x: Tensor, train: Tensor | None) -> None:
        super().__init__(torch.linalg.vector_norm(x, dim=1).square())
        self._x = x
        if train is not None:
            self._install(train)

    def _install(self, train: Tensor) -> None:
        centre = torch.linalg.vector_norm(train, dim=1).square()
        for start in range(0, len(self._x), _BLOCK):
            part = slice(start, start + _BLOCK)
            scores = torch.addmm(-0.5 * centre, self._x[part], train.T)
            best, owner = scores.max(1)
            self.owner[part] = owner
            self.squared[part] = _squared(self._norms[part], centre[owner], best + 0.5 * centre[owner])
        self.centres = len(train)

    def add(self, i: int) -> Change:
        """Makes point i of the pool a centre."""
        return self._take(i, None, self._x @ self._x[i])
