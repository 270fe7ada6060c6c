"""Levels: the combinations of the values of all categorical and integer parameters of a prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from surrogate.problem.discrete import Discrete

__all__ = ["MOST_LEVELS", "Family", "Levels"]

MOST_LEVELS = 1000
"""Largest number of combinations in a run, because each is evaluated at least once before convergence."""


@dataclass(frozen=True, eq=False)
class Family:
    """Levels at which the same continuous parameters act.

    Attributes:
        members: Numbers of the levels, increasing.
        columns: Columns of x with these parameters.
    """

    members: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels: all combinations of the discrete parameters' values; splits points into level and continuous part.

    Attributes:
        columns: Columns of x with discrete parameters, with shape (k,), k >= 1.
        parameters: Values of the k discrete parameters.
        names: Names of the k discrete parameters.
        d: Number of all parameters.
        only: For each of the d parameters, pairs of the name of a discrete parameter and the values of it at which it
            acts; none for one that acts everywhere.
    """

    columns: np.ndarray
    parameters: tuple[Discrete, ...]
    names: tuple[str, ...]
    d: int
    only: tuple[tuple[tuple[str, tuple[Any, ...]], ...], ...] = ()

    @classmethod
    def of(cls, names: Sequence[str], parameters: Sequence[Any], only: Sequence[Any] = ()) -> Levels | None:
        """The levels of the parameters that are `Discrete`; None if there are none.

        Args:
            names: Names of all parameters.
            parameters: Their priors.
            only: Where each of them acts, as in the attribute; everywhere unless given.

        Raises:
            ValueError: If there are more than ``MOST_LEVELS`` levels.
        """
        columns = [i for i, parameter in enumerate(parameters) if isinstance(parameter, Discrete)]
        if not columns:
            return None
        discrete = tuple(parameters[i] for i in columns)
        count = int(np.prod([len(parameter.values) for parameter in discrete]))
        if count > MOST_LEVELS:
            msg = f"categories and integers may have {MOST_LEVELS} combinations at most, got {count}"
            raise ValueError(msg)
        return cls(np.array(columns), discrete, tuple(names[i] for i in columns), len(parameters), tuple(only))

    @cached_property
    def codes(self) -> np.ndarray:
        """Codes of the levels, with shape (L, k); the last parameter varies fastest."""
        return np.array(list(product(*(parameter.codes for parameter in self.parameters))))

    @cached_property
    def log_prior(self) -> np.ndarray:
        """Log prior probabilities of the levels, with shape (L,)."""
        parts = [parameter.log_density(self.codes[:, j]) for j, parameter in enumerate(self.parameters)]
        return np.sum(parts, axis=0)

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def continuous(self) -> np.ndarray:
        """Columns of x with continuous parameters, with shape (d - k,)."""
        return np.setdiff1d(np.arange(self.d), self.columns)

    @cached_property
    def acts(self) -> np.ndarray:
        """Whether each parameter acts at each level, with shape (L, d): discrete ones always do."""
        out = np.ones((len(self), self.d), dtype=bool)
        for column, pairs in enumerate(self.only):
            for name, values in pairs:
                out[:, column] &= np.any([self.members(name, value) for value in values], axis=0)
        return out

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The families of levels, those in which the fewest parameters act first."""
        acts = self.acts[:, self.continuous]
        kinds = {row.tobytes(): row for row in acts}
        families = [Family(np.flatnonzero((acts == row).all(1)), self.continuous[row]) for row in kinds.values()]
        return tuple(sorted(families, key=lambda one: len(one.columns)))

    def without_idle(self, x: np.ndarray, value: np.ndarray | float) -> np.ndarray:
        """Copies of points with shape (m, d) in which parameters that do not act have one value, or d values."""
        return np.where(self.acts[self.index(x)], x, value)

    def with_action(self, x: np.ndarray) -> np.ndarray:
        """Whether any continuous parameter acts at the levels of points with shape (m, d), with shape (m,)."""
        return np.asarray(self.acts[self.index(x)][:, self.continuous].any(1))

    def index(self, x: np.ndarray) -> np.ndarray:
        """The level of each point, with shape (m,), for points with shape (m, d); -1 for invalid codes."""
        out = np.zeros(len(x), dtype=np.int64)
        legal = np.ones(len(x), dtype=bool)
        for column, parameter in zip(self.columns, self.parameters, strict=True):
            place = parameter.index(x[:, column])
            legal &= place >= 0
            out = out * len(parameter.values) + place
        return np.where(legal, out, -1)

    def points(self, continuous: np.ndarray, level: np.ndarray | int) -> np.ndarray:
        """Points, with shape (m, d), from continuous parts, with shape (m, d - k), and one level or m levels."""
        out = np.empty((len(continuous), self.d))
        out[:, self.continuous] = continuous
        out[:, self.columns] = self.codes[level]
        return out

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Copies of points with discrete parameters rounded to the nearest codes."""
        out = np.array(x, dtype=np.float64)
        for column, parameter in zip(self.columns, self.parameters, strict=True):
            out[..., column] = parameter.nearest(out[..., column])
        return out

    def members(self, name: str, value: Any) -> np.ndarray:
        """Mask of the levels with a given value of a parameter, with shape (L,)."""
        j = self.names.index(name)
        return np.asarray(self.codes[:, j] == self.parameters[j].codes[self.parameters[j].values.index(value)])

    def text(self, level: int) -> str:
        """The level as text, such as "halofit=mead, n_planets=2"."""
        values = zip(self.names, self.parameters, self.codes[level], strict=True)
        return ", ".join(f"{name}={parameter.value(code)}" for name, parameter, code in values)
