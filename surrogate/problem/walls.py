"""Values that stand for "impossible": the marks that programs return in place of minus infinity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from surrogate.problem.dataset import INFEASIBLE, Dataset

__all__ = ["with_walls"]

_BEYOND = 1e12  # factor on the typical depth that means "impossible": the others keep four digits


def with_walls(data: Dataset, depth: float, *, level: np.ndarray | None = None) -> Dataset:
    """The data, in which values that stand for "impossible" count as infeasible.

    Some programs mark impossible points by a number such as -1e30 or -99. A value that occurs more than once far below
    the best one is such a mark, because a likelihood that varies does not repeat a value exactly. Extreme values such
    as -1e200 count too: next to them all differences between other values are lost to rounding.

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
    with np.errstate(over="ignore"):  # a depth may overflow
        impossible = (counts > 1) & (data.y_max - values > depth)
        impossible |= data.y_max - values > _BEYOND * _usual_depth(data)
    marked = data.finite & np.isin(data.y, values[impossible])
    if not marked.any():
        return data
    status = np.where(marked, INFEASIBLE, data.status)
    return replace(data, status=status.astype(np.uint8))


def _usual_depth(data: Dataset) -> float:
    """Median depth of the best 2 d + 1 finite values, at least one nat."""
    best = np.sort(data.y[data.finite])[::-1][: 2 * data.d + 1]
    return max(1.0, float(np.median(best[0] - best))) if len(best) else 1.0
