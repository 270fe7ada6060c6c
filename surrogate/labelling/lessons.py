"""Input and output of models of labels: rows, labels and folds; members and held-out errors."""

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
    """Interface of a fitted regressor."""

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance at x with shape (m, d), each with shape (m,); the variance up to a factor."""

    def features(self, x: Array) -> Features:
        """Features for the selection of batches, at x with shape (m, d)."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Data and settings for fitting a model of labels.

    Attributes:
        x: Rows, with shape (n, d).
        y: Labels, with shape (n,).
        pool: Rows without labels, with shape (m, d), that help to standardise the columns.
        seed: Seed of the folds and the networks.
        folds: Number of folds.
        device: Device to fit on.
        uncertainty: Posterior of networks: "last-layer", "kfac" or "swag".
        categories: Ranges (start, stop) of the one-hot columns, one for each categorical column.
    """

    x: Array
    y: Array
    pool: Array | None
    seed: int
    folds: int
    device: str | None
    uncertainty: str = "kfac"
    categories: tuple[tuple[int, int], ...] = ()

    def parts(self) -> Indices:
        """The fold of each row, with shape (n,); equal rows are in the same."""
        groups = distinct_values(self.x)
        n = int(groups.max(initial=-1)) + 1
        return generator(self.seed, len(self.y), "folds").permutation(np.arange(n) % self.folds)[groups]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model of labels with held-out errors.

    Attributes:
        members: Regressors whose mean is the prediction.
        error: Label minus held-out prediction of each row, with shape (n,); NaN if there is none.
        variance: Variance of that prediction, with shape (n,).
        parts: Fold of each row, with shape (n,); -1 for none.
    """

    members: tuple[Member, ...]
    error: Array
    variance: Array
    parts: Indices
