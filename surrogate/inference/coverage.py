"""Points that cover a set: those farthest from known points, and the most representative ones."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from surrogate.arrays import Array, Indices

__all__ = ["farthest", "representatives"]


def farthest(known: Array, candidates: Array, count: int) -> Indices:
    """Indices of the candidates farthest from all known points and from each other, greedily.

    Args:
        known: Known points, with shape (n, d), n >= 1.
        candidates: Candidates, with shape (m, d).
        count: Number of points, at most m.
    """
    distance = cdist(candidates, known, "sqeuclidean").min(1)
    chosen = []
    for _ in range(count):
        i = int(distance.argmax())
        chosen.append(i)
        distance = np.minimum(distance, ((candidates - candidates[i]) ** 2).sum(1))
    return np.array(chosen, dtype=np.int64)


def representatives(known: Array, draws: Array, count: int) -> Indices:
    """Indices of the draws that, with the known points, best represent all draws, greedily.

    Each choice reduces most the mean squared distance from a draw to the nearest known or chosen point. Unlike the
    farthest draws, these follow the mass. O(m^2) time and memory for m draws.

    Args:
        known: Known points, with shape (n, d), n >= 1.
        draws: Draws, with shape (m, d).
        count: Number of points, at most m.
    """
    between = cdist(draws, draws, "sqeuclidean")
    nearest = cdist(draws, known, "sqeuclidean").min(1)
    chosen = []
    for _ in range(count):
        i = int(np.minimum(between, nearest).sum(1).argmin())
        chosen.append(i)
        nearest = np.minimum(nearest, between[i])
    return np.array(chosen, dtype=np.int64)
