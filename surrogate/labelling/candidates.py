"""Candidates of a labelling run: the rows that may be asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_CANDIDATES", "candidates", "random_count"]

Rows = NDArray[np.int64]

MOST_CANDIDATES = 100_000  # 512 features of so many rows are 0.2 GB


def candidates(free: NDArray[np.bool_], rng: np.random.Generator, *, most: int = MOST_CANDIDATES) -> Rows:
    """Rows that may be asked for, in order, with shape (m,).

    A table with more than ``most`` free rows is thinned at random: a batch of hundreds is chosen as well among so many
    (which of near copies of a row is asked for makes no difference), in bounded memory.

    Args:
        free: Whether a row may be asked for, with shape (n,).
        rng: Chooses the sample.
        most: Largest number of candidates.
    """
    rows = np.flatnonzero(free)
    if len(rows) <= most:
        return rows
    return np.sort(rng.choice(rows, most, replace=False))


def random_count(n: int, share: float, rng: np.random.Generator) -> int:
    """How many of n rows are drawn at random, so that their mean share is exactly ``share``."""
    whole = int(n * share)
    return whole + int(rng.random() < n * share - whole)
