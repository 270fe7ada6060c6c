"""Levels: the combinations of the values of all categorical and integer parameters of a prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from surrogate.problem.discrete import Discrete

__all__ = ["MOST_LEVELS", "Levels"]

MOST_LEVELS = 1000
"""Largest number of combinations in a run, because each is evaluated at least once before convergence."""


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels: all combinations of the discrete parameters' values; splits points into level and continuous part.

    Attributes:
        columns: Columns of x with discrete parameters, with shape (k,), k >= 1.
        parameters: Values of the k discrete parameters.
        names: Names of the k discrete parameters.
        d: Number of all parameters.
    """

    columns: np.ndarray
    parameters: tuple[Discrete, ...]
    names: tuple[str, ...]
    d: int

    @classmethod
    def of(cls, names: Sequence[str], parameters: Sequence[Any]) -> Levels | None:
        """The levels of the parameters that are `Discrete`; None if there are none.

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
        return cls(np.array(columns), discrete, tuple(names[i] for i in columns), len(parameters))

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
