"""Repeated rows: which rows of a table are the same, and which are copies of one observation.

Joins, bootstraps and concatenated files repeat rows. A copy tells nothing new: a model that counts it as a second
observation finds too little noise, and a row whose copy was learned is not held out.
"""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Indices

__all__ = ["distinct_rows", "distinct_values"]

_BY_CHANCE = 0.05  # chance that two labels agree; above it, as with 0 and 1, equal rows may be different observations


def distinct_values(x: Array) -> Indices:
    """The number of the distinct row that each row of x is equal to, with shape (n,).

    Distinct rows are counted from 0 in the order in which they first appear: 0, 1, 2, ... if all differ.

    Args:
        x: With shape (n, d). O(n d log n).
    """
    if not x.size:
        return np.zeros(len(x), dtype=np.int64)
    plain = np.ascontiguousarray(x, dtype=np.float64) + 0.0  # -0.0 is 0.0
    keys = plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1])))[:, 0]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse.reshape(-1)]


def distinct_rows(x: Array, y: Array) -> Indices:
    """The rows that are observations of their own, in order: the first of each set of copies.

    Rows are copies if x and y are equal, unless y takes so few values that equal rows are likely to be different
    observations: two labels drawn at random agree with a probability of 5 % or more.

    Args:
        x: With shape (n, d).
        y: With shape (n,).
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
