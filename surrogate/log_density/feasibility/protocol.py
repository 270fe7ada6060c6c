"""The interface of classifiers of feasibility, which predict where a log-likelihood is finite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from surrogate.arrays import Array

__all__ = ["Classifier", "Everywhere", "Feasibility", "FeasibilityArrays"]


@dataclass(frozen=True, eq=False)
class FeasibilityArrays:
    """A classifier in d coordinates as arrays of numbers.

    Attributes:
        points: Training points or support vectors, with shape (k, d).
        weights: Their weights in the decision function, with shape (k,).
        root: For a process the reduction of its variance by the data, with shape (k, k); empty, (0, 0), for a machine.
        shape: For a process the bend, the length, and 1 if it is smooth; for a machine the intercept, gamma and 0.
    """

    points: Array
    weights: Array
    root: Array
    shape: Array


class Feasibility(Protocol):
    """Interface of a classifier of feasible points u, in whitened coordinates, with shape (m, d)."""

    @property
    def kind(self) -> str:
        """Name of the classifier: "everywhere", "process" or "svm"."""
        ...

    @property
    def everywhere(self) -> bool:
        """Whether no infeasible point is known."""
        ...

    def margin(self, u: Array) -> Array:
        """Decision function, positive where a point is probably feasible, with shape (m,)."""
        ...

    def probability(self, u: Array) -> Array:
        """Probability of being feasible, exactly 0 or 1 if there is no reasonable doubt, with shape (m,)."""
        ...

    def log_probability(self, u: Array) -> Array:
        """Natural log of ``probability``, with shape (m,)."""
        ...

    def doubt(self, u: Array) -> Array:
        """Variance p (1 - p) of feasibility, with shape (m,); small but positive far from the boundary."""
        ...

    def deviations(self, u: Array, count: int, rng: np.random.Generator) -> Array:
        """Joint paths of feasibility as logs relative to their mean, with shape (count, m): -inf where infeasible."""
        ...

    def correlated(self, u: Array) -> tuple[Array, Array]:
        """Prior covariance K of the decision function at u, (m, m), and H, (k, m); given the data it is K - H^T H."""
        ...

    def arrays(self, d: int) -> FeasibilityArrays:
        """The classifier as arrays of numbers."""
        ...


class Classifier(ABC):
    """A classifier of feasible points where infeasible ones are known."""

    @property
    def everywhere(self) -> bool:
        """Always False, because infeasible points are known."""
        return False

    @abstractmethod
    def probability(self, u: Array) -> Array:
        """Probability of being feasible, exactly 0 or 1 if there is no reasonable doubt, with shape (m,)."""

    def log_probability(self, u: Array) -> Array:
        """Natural log of ``probability``, with shape (m,)."""
        with np.errstate(divide="ignore"):
            return np.log(self.probability(u))


@dataclass(frozen=True)
class Everywhere:
    """Feasibility if no infeasible point is known."""

    @property
    def kind(self) -> str:
        """The word "everywhere"."""
        return "everywhere"

    @property
    def everywhere(self) -> bool:
        """True."""
        return True

    def margin(self, u: Array) -> Array:
        """Plus infinity, with shape (m,)."""
        return np.full(len(u), np.inf)

    def probability(self, u: Array) -> Array:
        """Ones, with shape (m,)."""
        return np.ones(len(u))

    def log_probability(self, u: Array) -> Array:
        """Zeros, with shape (m,)."""
        return np.zeros(len(u))

    def doubt(self, u: Array) -> Array:
        """Zeros, with shape (m,)."""
        return np.zeros(len(u))

    def deviations(self, u: Array, count: int, rng: np.random.Generator) -> Array:  # noqa: ARG002  # nothing is random
        """Zeros, with shape (count, m)."""
        return np.zeros((count, len(u)))

    def correlated(self, u: Array) -> tuple[Array, Array]:
        """The identity matrix and a zero row, because nothing is correlated."""
        return np.eye(len(u)), np.zeros((1, len(u)))

    def arrays(self, d: int) -> FeasibilityArrays:
        """Empty arrays, because there are no points to store."""
        return FeasibilityArrays(np.empty((0, d)), np.empty(0), np.empty((0, 0)), np.zeros(3))
