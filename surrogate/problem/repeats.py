"""Repeated rows of a table: equal rows, and copies of the same observation.

Joins, bootstraps and concatenated files repeat rows. A model that treats a copy as a second observation underestimates
the noise, and a row is not really held out if its copy was used for training.
"""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Indices

__all__ = ["distinct_rows", "distinct_values"]

_BY_CHANCE = 0.05  # probability that two labels agree by chance, above which equal rows may be different observations


def distinct_values(x: Array) -> Indices:
    """For each row of x the number of the distinct row that it equals, with shape (n,).

    Distinct rows are counted from 0 in the order in which they first appear: 0, 1, 2, ... if all differ.

    Args:
        x: Rows, with shape (n, d); costs O(n d log n).
    """
    if not x.size:
        return np.zeros(len(x), dtype=np.int64)
    plain = np.ascontiguousarray(x, dtype=np.float64) + 0.0  # turns -0.0 into 0.0
    keys = plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1])))[:, 0]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse.reshape(-1)]


def distinct_rows(x: Array, y: Array) -> Indices:
    """Indices of the distinct observations, in order: the first row of each set of copies.

    Rows are copies if x and y are equal. If two labels drawn at random agree with a probability of 5 % or more, equal
    rows may well be different observations, and all rows are kept.

    Args:
        x: Rows, with shape (n, d).
        y: Labels, with shape (n,).
    """
    counts = np.unique(y, return_counts=True)[1]
    n = len(y)
    if n < 2 or float(np.sum(counts * (counts - 1.0))) >= _BY_CHANCE * n * (n - 1.0):
        return np.arange(n)
    return np.flatnonzero(_is_first(distinct_values(np.column_stack([x, y]))))


def _is_first(groups: Indices) -> np.ndarray:
    first = np.zeros(len(groups), dtype=bool)
    first[np.unique(groups, return_index=True)[1]] = True
    return first
