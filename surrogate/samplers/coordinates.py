"""Unbounded coordinates: boxes and half-lines mapped to the real line, circles cut where they are empty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

__all__ = ["Turns", "Unbounded"]

_EDGE = 1e-12  # a point on an edge is moved inside by this fraction of the width
_TINY = np.finfo(float).tiny
_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True, eq=False)
class Unbounded:
    """The map x <-> u onto R^d: probit of (x - low) / (high - low), log(x - low), -log(high - x), or x itself.

    A uniform density on a box is exactly normal in u. This avoids sharp edges, where ensemble moves and Gaussian
    proposals work badly.

    Args:
        bounds: Lower and upper edges, with shape (d, 2); either may be infinite.

    Raises:
        ValueError: If the shape is wrong or a row is not increasing.
    """

    bounds: NDArray

    def __post_init__(self) -> None:
        bounds = np.array(self.bounds, dtype=float)
        if bounds.ndim != 2 or bounds.shape[1] != 2 or not np.all(bounds[:, 0] < bounds[:, 1]):
            msg = f"bounds must have shape (d, 2) with low < high in every row, got {self.bounds!r}"
            raise ValueError(msg)
        object.__setattr__(self, "bounds", bounds)

    @classmethod
    def of(cls, bounds: ArrayLike | None, d: int) -> Unbounded:
        """The map for ``bounds``, or the identity in ``d`` dimensions when there are none."""
        return cls(np.tile([-np.inf, np.inf], (d, 1)) if bounds is None else np.asarray(bounds, dtype=float))

    def forward(self, x: NDArray) -> NDArray:
        """Coordinates u of points x, both with shape (m, d); points on an edge are first moved just inside."""
        u = np.array(x, dtype=float)
        box, low, high = self._kinds
        b = self.bounds
        p = (u[:, box] - b[box, 0]) / (b[box, 1] - b[box, 0])
        q = (b[box, 1] - u[:, box]) / (b[box, 1] - b[box, 0])  # 1 - p without cancellation near the upper edge
        u[:, box] = np.where(p < 0.5, ndtri(np.clip(p, _EDGE, 1)), -ndtri(np.clip(q, _EDGE, 1)))
        u[:, low] = np.log(np.maximum(u[:, low] - b[low, 0], _TINY))
        u[:, high] = -np.log(np.maximum(b[high, 1] - u[:, high], _TINY))
        return u

    def inverse(self, u: NDArray) -> NDArray:
        """Points x of coordinates u, both with shape (m, d)."""
        x = np.array(u, dtype=float)
        box, low, high = self._kinds
        b = self.bounds
        tail = ndtr(-np.abs(x[:, box])) * (b[box, 1] - b[box, 0])  # distance to the nearer edge, exact in both tails
        x[:, box] = np.where(x[:, box] < 0, b[box, 0] + tail, b[box, 1] - tail)
        x[:, low] = b[low, 0] + np.exp(x[:, low])
        x[:, high] = b[high, 1] - np.exp(-x[:, high])
        return x

    def log_jacobian(self, u: NDArray) -> NDArray:
        """Log |det dx/du| at coordinates u with shape (m, d), with shape (m,)."""
        box, low, high = self._kinds
        width = np.log(self.bounds[box, 1] - self.bounds[box, 0])
        normal = (width - _HALF_LOG_2PI - 0.5 * u[:, box] ** 2).sum(axis=1)
        return normal + u[:, low].sum(axis=1) - u[:, high].sum(axis=1)

    @property
    def _kinds(self) -> tuple[NDArray, NDArray, NDArray]:
        """Masks, with shape (d,), of parameters with both edges, only a lower edge, and only an upper edge."""
        low, high = np.isfinite(self.bounds).T
        box = low & high
        return box, low & ~box, high & ~box


@dataclass(frozen=True, eq=False)
class Turns:
    """Periodic coordinates among others, and wrapping of points into one period.

    Attributes:
        columns: Indices of the periodic coordinates, with shape (k,).
        low: Lower bound of each period, with shape (k,).
        period: Lengths of the periods, with shape (k,).
    """

    columns: NDArray[np.int64]
    low: NDArray
    period: NDArray

    @classmethod
    def of(cls, bounds: ArrayLike, periodic: ArrayLike) -> Turns | None:
        """The periodic coordinates for bounds with shape (d, 2) and a mask with shape (d,); None if there are none."""
        columns = np.flatnonzero(np.asarray(periodic, dtype=bool))
        if not len(columns):
            return None
        low, high = np.asarray(bounds, dtype=float)[columns].T
        return cls(columns, low, high - low)

    def wrapped(self, t: NDArray, start: NDArray | None = None) -> NDArray:
        """The points t, with shape (m, d), wrapped to the period that begins at ``start`` (k,), or at ``low``."""
        begin = self.low if start is None else start
        turns = (t[:, self.columns] - begin) / self.period
        out = np.array(t, dtype=float)
        inside = (turns >= 0.0) & (turns <= 1.0)  # values already inside are unchanged to the last bit
        moved = begin + self.period * (turns - np.floor(turns))
        out[:, self.columns] = np.where(inside, out[:, self.columns], moved)
        return out

    def within(self, t: NDArray, start: NDArray) -> NDArray:
        """Whether each point lies in the period that begins at ``start``, with shape (m,)."""
        offset = t[:, self.columns] - start
        return np.all((offset >= 0.0) & (offset <= self.period), axis=1)

    def emptiest(self, t: NDArray, *, bins: int = 48) -> NDArray:
        """Where to begin the period of each coordinate so as to cut where draws t (m, d) are fewest, with shape (k,).

        It is the middle of the longest run of bins with the fewest points, after smoothing over three bins.
        """
        turns = (t[:, self.columns] - self.low) / self.period
        which = np.minimum((bins * (turns - np.floor(turns))).astype(np.int64), bins - 1)
        seams = [_middle_of_longest_run(_smooth_counts(column, bins)) for column in which.T]
        return self.low + self.period * (np.array(seams) + 0.5) / bins


def _smooth_counts(which: NDArray, bins: int) -> NDArray:
    counts = np.bincount(which, minlength=bins)
    return counts + np.roll(counts, 1) + np.roll(counts, -1)


def _middle_of_longest_run(counts: NDArray) -> float:
    """The middle of the longest run of bins with the smallest count, on a circle."""
    least = counts == counts.min()
    if least.all():
        return 0.0
    first = int(np.argmin(least))  # a bin outside all runs
    runs = np.split(np.roll(least, -first), np.flatnonzero(np.diff(np.roll(least, -first).astype(np.int8))) + 1)
    starts = np.cumsum([0, *map(len, runs)])
    length, start = max((len(run), -int(start)) for run, start in zip(runs, starts[:-1], strict=True) if run[0])
    return (first - start + 0.5 * (length - 1)) % len(counts)
