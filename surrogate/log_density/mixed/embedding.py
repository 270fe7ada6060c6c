"""Embedding of levels: categories as corners of a simplex, integers on a line.

A stationary kernel of the distance between these coordinates is a kernel between levels. The RBF kernel factors: on a
simplex any two categories have the same correlation exp(-1 / (2 l^2)), on a line the correlation of integers falls with
their difference, and with continuous coordinates the kernel is the product. A quadratic trend in all coordinates gives
each category a separate constant and slopes, integers a quadratic, and all levels a common curvature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.problem.levels import Levels

__all__ = ["Embedding", "coordinates_of", "simplex"]


def simplex(count: int) -> Array:
    """Corners of a regular simplex with edges of length one, centred on the origin, with shape (count, count - 1)."""
    out = np.zeros((count, count - 1))
    for k in range(1, count):  # the next corner lies above the centre of the earlier ones
        height = np.sqrt((k + 1) / (2.0 * k))
        out[k, k - 1] = height * k / (k + 1)
        out[:k, k - 1] = -height / (k + 1)
    return out


def coordinates_of(levels: Levels, members: Indices) -> Array:
    """Coordinates that distinguish the levels of a group, with shape (L, e); e = 0 for a group of one.

    There is a row for each of the L levels of the problem; those of levels outside the group are NaN. Integers are
    scaled to [0, 1] within the group.

    Args:
        levels: All levels of the problem.
        members: Numbers of the levels of the group.
    """
    columns = [np.empty((len(levels), 0))]
    for j, parameter in enumerate(levels.parameters):
        codes = levels.codes[:, j]
        present = np.unique(codes[members])
        if len(present) == 1:
            continue
        if parameter.is_ordered:
            columns.append(((codes - present[0]) / (present[-1] - present[0]))[:, None])
        else:
            columns.append(simplex(len(present))[np.searchsorted(present, codes).clip(max=len(present) - 1)])
    table = np.concatenate(columns, 1)
    table[np.setdiff1d(np.arange(len(levels)), members)] = np.nan
    return table


@dataclass(frozen=True, eq=False)
class Embedding:
    """The coordinates of a group of levels.

    Attributes:
        levels: All levels of the problem.
        members: Levels of the group, with shape (g,).
        columns: Continuous columns of t on which the log-likelihood of these levels depends.
        table: Coordinates of the levels, with shape (L, e).
    """

    levels: Levels
    members: Indices
    columns: Indices
    table: Array

    @classmethod
    def of(cls, levels: Levels, members: Indices, columns: Indices) -> Embedding:
        """The embedding of a group."""
        return cls(levels, members, columns, coordinates_of(levels, members))

    @property
    def size(self) -> int:
        """Number of coordinates z; one, with the same value everywhere, if the log-likelihood is a constant."""
        return max(len(self.columns) + self.table.shape[1], 1)

    @property
    def is_constant(self) -> bool:
        """Whether the group has one level, whose log-likelihood depends on no continuous parameter."""
        return len(self.columns) + self.table.shape[1] == 0

    def forward(self, t: Array, level: Indices) -> Array:
        """Coordinates z, with shape (m, size), of points t with shape (m, d) and their levels, with shape (m,)."""
        if self.is_constant:
            return np.full((len(t), 1), 0.5)
        return np.concatenate([t[:, self.columns], self.table[level]], 1)

    def spread(self, t: Array, most: int = 4000) -> Array:
        """Points z that combine the continuous parts of t with the group's levels in equal numbers.

        Continuous parts and levels are uncorrelated. There are at most about ``most`` rows.
        """
        count = len(self.members)
        some = t[:: max(1, int(np.ceil(len(t) * count / most)))]
        return self.forward(np.repeat(some, count, axis=0), np.tile(self.members, len(some)))
