"""Training points of a classifier of feasibility: reliable points, and those nearest to the boundary."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags, Indices

__all__ = ["nearest_to_boundary", "trusted"]


_NEIGHBOURS = 3  # neighbours, of which two must be infeasible too for a failure to count as infeasible


def trusted(u: Array, feasible: Flags, doubtful: Flags | None) -> tuple[Array, Flags]:
    """Mask of the points without isolated doubtful ones.

    A doubtful point, such as an evaluation that may have failed by chance, counts as infeasible only if at least two of
    its three nearest neighbours are infeasible too.
    """
    if doubtful is None or len(u) <= _NEIGHBOURS:
        return u, feasible
    rows = np.flatnonzero(doubtful)
    keep = np.ones(len(u), dtype=bool)
    keep[rows[_alone(u, feasible, rows)]] = False
    return u[keep], feasible[keep]


def _alone(u: Array, feasible: Flags, rows: Indices) -> Flags:
    """Mask of those of k points with fewer than two infeasible nearest neighbours; O(k n d)."""
    r2 = ((u[rows, None, :] - u[None]) ** 2).sum(-1)
    r2[np.arange(len(rows)), rows] = np.inf
    neighbours = np.argpartition(r2, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    return np.asarray((~feasible[neighbours]).sum(1) < 2)


def nearest_to_boundary(u: Array, feasible: Flags, most: int) -> Indices:
    """Rows of at most ``most`` points nearest to the other class, in ascending order; O(n^2 d)."""
    if len(u) <= most:
        return np.arange(len(u))
    r2 = (u**2).sum(1)[:, None] + (u**2).sum(1) - 2.0 * (u @ u.T)
    other = np.where(feasible[:, None] != feasible[None], r2, np.inf).min(1)
    return np.sort(np.argsort(other, kind="stable")[:most])
