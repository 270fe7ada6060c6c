"""Grid: the exact posterior of a two-parameter density, to the resolution of a fine grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from likelihoods.target import Array

__all__ = ["Grid"]


@dataclass(frozen=True, eq=False)
class Grid:
    """A density that is constant in each cell of a regular grid over a window in two dimensions.

    Evidence and moments are those of the midpoint rule, whose error falls like the square of the cell size at the edges
    of the window and faster than any power where the density is smooth and vanishes there.

    Args:
        window: Rectangle, with shape (2, 2).
        log_density: Unnormalised log-density at the centres of the cells, with shape (n, n).
    """

    window: Array
    log_density: Array

    @classmethod
    def of(cls, density: Callable[[Array], Array], window: Array, n: int) -> Grid:
        """Grid of n x n cells of a function (m, 2) -> (m,), evaluated row by row of cells to bound the memory."""
        first, second = _centres(window, n)
        rows = [density(np.column_stack([np.full(n, a), second])) for a in first]
        return cls(window, np.stack(rows))

    @property
    def cell(self) -> Array:
        """Sides of a cell, with shape (2,)."""
        return np.diff(self.window, axis=1)[:, 0] / len(self.log_density)

    @property
    def log_integral(self) -> float:
        """Natural logarithm of the integral of the density over the window."""
        return float(logsumexp(self.log_density) + np.log(self.cell).sum())

    @property
    def probability(self) -> Array:
        """Probability of each cell, with shape (n, n)."""
        return np.exp(self.log_density - logsumexp(self.log_density))

    def moments(self) -> tuple[Array, Array]:
        """Mean, with shape (2,), and covariance, with shape (2, 2), without the width of the cells."""
        p, (a, b) = self.probability, _centres(self.window, len(self.log_density))
        mean = np.array([p.sum(1) @ a, p.sum(0) @ b])
        u, v = a - mean[0], b - mean[1]
        cross = u @ p @ v
        return mean, np.array([[p.sum(1) @ u**2, cross], [cross, p.sum(0) @ v**2]])

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Independent draws, with shape (n, 2), uniform within the cells."""
        cumulative = np.cumsum(self.probability)
        index = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        rows_columns = np.column_stack(np.unravel_index(index, self.log_density.shape))
        return self.window[:, 0] + (rows_columns + rng.random((n, 2))) * self.cell


def _centres(window: Array, n: int) -> tuple[Array, Array]:
    steps = (np.arange(n) + 0.5) / n
    low, high = window.T
    first, second = low[:, None] + (high - low)[:, None] * steps
    return first, second
