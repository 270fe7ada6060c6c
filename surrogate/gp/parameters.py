"""Base class of values with hyperparameters: names, priors, and one vector of natural logarithms."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

import numpy as np

from surrogate.arrays import Array, Indices

__all__ = ["JoinedPriors", "LogNormal", "Normal", "Parametric", "Prior", "Priors", "logarithms"]

P = TypeVar("P", bound="Parametric")


@dataclass(frozen=True)
class LogNormal:
    """Prior of a positive hyperparameter: normal in its natural logarithm, between bounds.

    Attributes:
        centre: Mean of the logarithm.
        sd: Standard deviation of the logarithm; inf for a flat prior.
        low: Smallest value.
        high: Largest value.
    """

    centre: float = 0.0
    sd: float = math.inf
    low: float = 1e-6
    high: float = 1e6

    @property
    def of_entry(self) -> tuple[float, float, float, float]:
        """Mean, inverse variance and bounds of the entry of the vector."""
        return self.centre, self.sd**-2, math.log(self.low), math.log(self.high)


@dataclass(frozen=True)
class Normal:
    """Prior of a hyperparameter of either sign, which is itself an entry of the vector, not its logarithm.

    Attributes:
        centre: Mean.
        sd: Standard deviation.
        low: Smallest value.
        high: Largest value.
    """

    centre: float = 0.0
    sd: float = 1.0
    low: float = -20.0
    high: float = 20.0

    @property
    def of_entry(self) -> tuple[float, float, float, float]:
        """Mean, inverse variance and bounds of the entry of the vector."""
        return self.centre, self.sd**-2, self.low, self.high


Prior = LogNormal | Normal
"""Prior of one hyperparameter."""


@dataclass(frozen=True, eq=False)
class Priors:
    """Independent normal priors of a vector of log-hyperparameters, each array with shape (p,).

    Attributes:
        centre: Means.
        precision: Inverse variances; 0 for flat priors.
        low: Lower bounds.
        high: Upper bounds.
    """

    centre: Array
    precision: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, priors: Sequence[Prior]) -> Priors:
        """The joint prior, from one prior per entry of the vector."""
        rows = np.array([prior.of_entry for prior in priors], dtype=np.float64).reshape(-1, 4)
        return cls(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3])

    @property
    def bounds(self) -> Array:
        """Lower and upper bounds, with shape (p, 2)."""
        return np.column_stack([self.low, self.high])

    def in_order(self, order: Sequence[int] | Indices) -> Priors:
        """The priors in another order of the entries."""
        index = np.asarray(order, dtype=np.int64)
        return Priors(self.centre[index], self.precision[index], self.low[index], self.high[index])

    def penalty(self, vector: Array) -> tuple[float, Array]:
        """Negative log density up to a constant, and its gradient with shape (p,)."""
        offset = vector - self.centre
        pull = self.precision * offset
        return 0.5 * float(pull @ offset), pull


@dataclass(frozen=True, eq=False)
class JoinedPriors:
    """Priors of two concatenated vectors.

    Attributes:
        first: Priors of the first entries.
        second: Priors of the rest.
    """

    first: Priors
    second: Priors

    @property
    def bounds(self) -> Array:
        """Lower and upper bounds, with shape (p, 2)."""
        return np.concatenate([self.first.bounds, self.second.bounds])

    def penalty(self, vector: Array) -> tuple[float, Array]:
        """Negative log density up to a constant, and its gradient with shape (p,)."""
        size = len(self.first.centre)
        (value, pull), (more, other) = self.first.penalty(vector[:size]), self.second.penalty(vector[size:])
        return value + more, np.concatenate([pull, other])


class Parametric:
    """An immutable value with hyperparameters, some of its own and some of its parts.

    The vector has first the value's own hyperparameters, then those of each part. Entries are natural logarithms, or
    for hyperparameters of either sign (those with a ``Normal`` prior) the values themselves. A subclass names its own
    hyperparameters in ``own_names`` and passes their logarithms to the constructor.
    """

    own_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, own: Array, parts: tuple[Parametric, ...], priors: tuple[Prior, ...]) -> None:
        """Sets the own entries of the vector, a prior for each, and the parts."""
        if len(priors) != len(own):
            msg = f"{type(self).__name__} needs {len(own)} priors, one for each hyperparameter, got {len(priors)}"
            raise ValueError(msg)
        self._own = own
        self._priors = priors
        self.parts = parts

    @cached_property
    def size(self) -> int:
        """Number of hyperparameters, including those of the parts."""
        return len(self._own) + sum(part.size for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each entry of the vector; if parts share names, they are prefixed by the index of the part."""
        own = self.own_names if len(self.own_names) == len(self._own) else self._numbered()
        if len(self.parts) == 1 and not set(own) & set(self.parts[0].names):
            return own + self.parts[0].names
        return own + tuple(f"{i}.{name}" for i, part in enumerate(self.parts) for name in part.names)

    def _numbered(self) -> tuple[str, ...]:
        return tuple(f"{self.own_names[0]}[{j}]" for j in range(len(self._own)))

    @property
    def priors(self) -> tuple[Prior, ...]:
        """A prior for each entry of the vector."""
        return self._priors + tuple(prior for part in self.parts for prior in part.priors)

    def vector(self) -> Array:
        """Natural logarithms of the hyperparameters, with shape (size,)."""
        return np.concatenate([self._own, *(part.vector() for part in self.parts)])

    def with_vector(self: P, vector: Array) -> P:
        """A copy with other hyperparameters.

        Raises:
            ValueError: If ``vector`` does not have shape (size,).
        """
        values = np.asarray(vector, dtype=np.float64)
        if values.shape != (self.size,):
            msg = f"vector must have shape ({self.size},), got {values.shape}"
            raise ValueError(msg)
        out = copy.copy(self)
        start = len(self._own)
        out._own, parts = values[:start].copy(), []
        for part in self.parts:
            parts.append(part.with_vector(values[start : start + part.size]))
            start += part.size
        out.parts = tuple(parts)
        return out


def logarithms(name: str, values: float | Sequence[float] | Array) -> Array:
    """Natural logarithms of positive numbers, with shape (p,).

    Raises:
        ValueError: If one is not a positive number.
    """
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if numbers.ndim != 1 or not (np.isfinite(numbers).all() and (numbers > 0.0).all()):
        msg = f"{name} must be positive and finite, got {values!r}"
        raise ValueError(msg)
    return np.log(numbers)
