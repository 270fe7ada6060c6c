"""Parameters with finitely many values: categories and integers, with their prior probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Discrete"]

_MOST_VALUES = 1000
"""Most values of one parameter; each is a level with its own posterior."""


@dataclass(frozen=True)
class Discrete:
    """The values of a categorical or integer parameter and their prior probabilities.

    In arrays a value is represented by its *code*: the position of a category (0, 1, ...), or the integer itself.

    Attributes:
        values: Names of the categories, or increasing integers without gaps; at least two.
        weights: Prior probabilities, positive, summing to one.

    >>> Discrete.categories("halofit", ["mead", "takahashi"]).value(1)
    'takahashi'
    """

    values: tuple[str, ...] | tuple[int, ...]
    weights: tuple[float, ...]

    @classmethod
    def categories(cls, name: str, values: Any, weights: Any = None) -> Discrete:
        """The values of a categorical parameter.

        Args:
            name: Name of the parameter, for error messages.
            values: At least two different, non-empty strings.
            weights: Prior probabilities, which need not be normalised, as a sequence or by name; equal by default.

        Raises:
            TypeError: If the values are not a sequence of strings.
            ValueError: If there are fewer than two values, some are equal, or the weights do not fit.
        """
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence):
            msg = f"categories of '{name}' must be a list of names, got {values!r}"
            raise TypeError(msg)
        names = tuple(values)
        if wrong := [value for value in names if not isinstance(value, str)]:
            msg = f"categories of '{name}' must be strings, got {wrong[0]!r}; numbers are integers=(low, high)"
            raise TypeError(msg)
        if len(set(names)) != len(names) or not all(names) or len(names) < 2:
            msg = f"categories of '{name}' must be two or more different names, got {list(names)}"
            raise ValueError(msg)
        return cls(names, _probabilities(name, names, weights))

    @classmethod
    def integers(cls, name: str, bounds: Any, weights: Any = None) -> Discrete:
        """The values of an integer parameter, from the lowest to the highest inclusive.

        Args:
            name: Name of the parameter, for error messages.
            bounds: The pair (low, high).
            weights: Prior probabilities, which need not be normalised, as a sequence or by value; equal by default.

        Raises:
            TypeError: If the bounds are not two integers.
            ValueError: If low >= high, there are more than 1000 integers, or the weights do not fit.
        """
        ends = list(bounds) if isinstance(bounds, Sequence) and not isinstance(bounds, str | bytes) else []
        whole = [isinstance(end, int | np.integer) and not isinstance(end, bool) for end in ends]
        if len(ends) != 2 or not all(whole):
            msg = f"integers of '{name}' must be a pair of whole numbers (low, high), got {bounds!r}"
            raise TypeError(msg)
        low, high = int(ends[0]), int(ends[1])
        if not low < high:
            msg = f"integers of '{name}' must be low < high, got ({low}, {high})"
            raise ValueError(msg)
        if high - low >= _MOST_VALUES:
            msg = (
                f"'{name}' may have at most {_MOST_VALUES} integers, got {high - low + 1}: take a continuous "
                "parameter and round it in the likelihood"
            )
            raise ValueError(msg)
        values = tuple(range(low, high + 1))
        return cls(values, _probabilities(name, values, weights))

    @property
    def is_ordered(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.values[0], int)

    @property
    def codes(self) -> np.ndarray:
        """Codes of the values, increasing by one, with shape (k,)."""
        return np.arange(len(self.values), dtype=np.float64) + self.bounds[0]

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest code."""
        first = float(self.values[0]) if self.is_ordered else 0.0
        return first, first + len(self.values) - 1.0

    @property
    def words(self) -> str:
        """A description of the values, with their probabilities unless these are equal.

        >>> Discrete.categories("kind", ["a", "b"], [1, 3]).words
        'one of a (0.25), b (0.75)'
        """
        same = len(set(self.weights)) == 1
        if self.is_ordered and same:
            return f"integer from {self.values[0]} to {self.values[-1]}"
        pairs = zip(self.values, self.weights, strict=True)
        return "one of " + ", ".join(str(value) if same else f"{value} ({weight:.3g})" for value, weight in pairs)

    def value(self, code: float) -> Any:
        """The category or the Python int with this code (not checked)."""
        return self.values[round(float(code) - self.bounds[0])]

    def index(self, codes: np.ndarray) -> np.ndarray:
        """Positions 0, 1, ... of codes among the values, with the same shape; -1 for invalid codes."""
        place = np.asarray(codes, dtype=np.float64) - self.bounds[0]
        legal = (place == np.round(place)) & (place >= 0) & (place < len(self.values))
        return np.where(legal, place, -1).astype(np.int64)

    def nearest(self, codes: np.ndarray) -> np.ndarray:
        """The valid codes nearest to any numbers, with the same shape."""
        return np.clip(np.round(codes), *self.bounds)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log prior probability of codes, with the same shape; -inf for invalid codes."""
        place = self.index(x)
        return np.where(place >= 0, np.log(self.weights)[place], -np.inf)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Codes with the given cumulative probabilities, with the same shape."""
        edges = np.cumsum(self.weights)[:-1]
        return np.searchsorted(edges, u, side="right") + self.bounds[0]

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        """Cumulative probability at the middle of each code's step, with the same shape; inverts ``quantile``."""
        middle = np.cumsum(self.weights) - 0.5 * np.array(self.weights)
        return middle[np.maximum(self.index(self.nearest(x)), 0)]


def _probabilities(name: str, values: tuple[Any, ...], weights: Any) -> tuple[float, ...]:
    """The normalised weights of the values, with shape (k,)."""
    if weights is None:
        return (1.0 / len(values),) * len(values)
    what = f"weights of '{name}' must be {len(values)} positive numbers, one for each of {list(values)}"
    if isinstance(weights, Mapping):
        if set(weights) != set(values):
            msg = f"{what}, got {dict(weights)!r}"
            raise ValueError(msg)
        weights = [weights[value] for value in values]
    try:
        numbers = [float(weight) for weight in weights]
    except (TypeError, ValueError):
        msg = f"{what}, got {weights!r}"
        raise TypeError(msg) from None
    if len(numbers) != len(values) or not all(math.isfinite(n) and n > 0 for n in numbers):
        msg = f"{what}, got {numbers}; leave out values that are impossible"
        raise ValueError(msg)
    return tuple(n / math.fsum(numbers) for n in numbers)
