"""Candidates of a labelling run: the rows that may be requested."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_CANDIDATES", "candidates", "random_count"]

Rows = NDArray[np.int64]

MOST_CANDIDATES = 100_000  # 512 features of this many rows take 0.2 GB


def candidates(free: NDArray[np.bool_], rng: np.random.Generator, *, most: int = MOST_CANDIDATES) -> Rows:
    """Row numbers that may be requested, in ascending order, with shape (m,).

    A table with more than ``most`` free rows is thinned at random to bound memory. Batches of hundreds of rows are as
    good when chosen from that many, because it does not matter which of several similar rows is labelled.

    Args:
        free: Whether each row may be requested, with shape (n,).
        rng: Chooses the sample.
        most: Largest number of candidates.
    """
    rows = np.flatnonzero(free)
    if len(rows) <= most:
        return rows
    return np.sort(rng.choice(rows, most, replace=False))


def random_count(n: int, share: float, rng: np.random.Generator) -> int:
    """How many of n rows to draw at random, such that the expected share is exactly ``share``."""
    whole = int(n * share)
    return whole + int(rng.random() < n * share - whole)
