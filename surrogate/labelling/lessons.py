"""What models of labels are given and what they return: rows, labels and folds; members and held-out errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.problem.repeats import distinct_values
from surrogate.rng import generator

if TYPE_CHECKING:
    from surrogate.selection.features import Features

__all__ = ["Fitted", "Lesson", "Member"]


class Member(Protocol):
    """A fitted regressor."""

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance at x with shape (m, d), each with shape (m,); the variance up to a factor."""

    def features(self, x: Array) -> Features:
        """What batches are selected by, at x with shape (m, d)."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is to be learned.

    Attributes:
        x: Rows, with shape (n, d).
        y: Labels, with shape (n,).
        pool: Rows without labels, with shape (m, d), that help to standardise the columns.
        seed: Seed of the folds and the networks.
        folds: Number of folds.
        device: Where to fit.
        uncertainty: Posterior of networks: "last-layer", "kfac" or "swag".
        categories: First and behind the last of the columns of 0 and 1 that stand for the words of one column.
    """

    x: Array
    y: Array
    pool: Array | None
    seed: int
    folds: int
    device: str | None
    uncertainty: str = "last-layer"
    categories: tuple[tuple[int, int], ...] = ()

    def parts(self) -> Indices:
        """The fold of each row, with shape (n,); equal rows are in the same."""
        groups = distinct_values(self.x)
        n = int(groups.max(initial=-1)) + 1
        return generator(self.seed, len(self.y), "folds").permutation(np.arange(n) % self.folds)[groups]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was learned.

    Attributes:
        members: Their mean is the prediction.
        error: Label minus the prediction of a model that had not seen the row, with shape (n,); NaN if there is none.
        variance: That the same model gave, with shape (n,).
        parts: The fold that each row was left out with, with shape (n,), -1 for none.
    """

    members: tuple[Member, ...]
    error: Array
    variance: Array
    parts: Indices
