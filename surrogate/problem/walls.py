"""Values that stand for "impossible": the marks that programs return in place of minus infinity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.problem.dataset import INFEASIBLE, OK, Dataset

__all__ = ["with_walls"]

_SHALLOW = 0.5  # share of the depth that matters down to which a value that repeats may be a mark
_DECIMALS = 3  # values with no more decimals are rounded, and repeat by chance
_BEYOND = 1e12  # factor on the typical depth that means "impossible": the others keep four digits


def with_walls(data: Dataset, depth: float, *, level: Array | None = None) -> Dataset:
    """The data, in which values that stand for "impossible" count as infeasible.

    Some programs mark impossible points by a number such as -1e30 or -99. A value that occurs more than once far below
    the best one is such a mark, because a likelihood that varies does not repeat a value exactly. Extreme values such
    as -1e200 count too: next to them all differences between other values are lost to rounding.

    A mark of less depth, such as -30 in four dimensions, is the only value that repeats, while the others are not
    rounded: rounded values and steps repeat at several depths. It counts down to half of ``depth``, because a jump of a
    few nats in the posterior is a value to learn.

    Args:
        data: The evaluations.
        depth: Smallest depth of a mark below the best value, in nats.
        level: The level of each row if there are categories or integers, with shape (n,). If all values of a level are
            equal they are not such marks: no other parameter has an effect there.
    """
    known = np.isfinite(data.y)
    values, counts = np.unique(data.y[known], return_counts=True)
    if level is not None:
        flat = [one for one in np.unique(level) if np.unique(data.y[known & (level == one)]).size == 1]
        counts = np.where(np.isin(values, data.y[known & np.isin(level, flat)]), 1, counts)
    impossible = np.isin(data.y, values[_are_marks(data, values, counts, depth)]) & known
    status = np.where(known & (data.status == INFEASIBLE), OK, data.status)  # more values may show that one is no mark
    status = np.where(impossible & (status == OK), INFEASIBLE, status).astype(np.uint8)
    return data if np.array_equal(status, data.status) else replace(data, status=status)


def _are_marks(data: Dataset, values: Array, counts: Indices, depth: float) -> Flags:
    """Whether each of the distinct values, which occur so often, stands for "impossible"."""
    with np.errstate(over="ignore"):  # a depth may overflow
        depths = data.y_max - values
    repeated = (counts > 1) & (depths > _SHALLOW * depth)
    alone = repeated.sum() == 1 and not _are_rounded(values[~repeated])
    return (repeated & (alone | (depths > depth))) | (depths > _BEYOND * _usual_depth(data))


def _are_rounded(values: Array) -> bool:
    """Whether all values have few decimals."""
    return bool((np.round(values, _DECIMALS) == values).all())


def _usual_depth(data: Dataset) -> float:
    """Median depth of the best 2 d + 1 finite values, at least one nat."""
    best = np.sort(data.y[data.finite])[::-1][: 2 * data.d + 1]
    return max(1.0, float(np.median(best[0] - best))) if len(best) else 1.0
