"""How well the labels of feasible and infeasible points cover the bulk of a posterior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.inference.depths import near_depth
from surrogate.inference.view import View
from surrogate.samplers.evidence import ImportanceSample

__all__ = ["hole_error", "label_error", "points_near"]


def hole_error(seen: int) -> float:
    """Sd of the log evidence that comes from forbidden regions without a label.

    One that no point has fallen into holds a share of about 1 / (n + 1) of the posterior after n feasible points there.
    """
    return 1.0 / (seen + 1.0)


def label_error(view: View, sample: ImportanceSample) -> float:
    """Sd of the log evidence that comes from forbidden regions without a label; 0 where none are known to exist."""
    if view.model.feasibility.everywhere:
        return 0.0
    return hole_error(points_near(view, sample.x, view.state.data.finite))


def points_near(view: View, draws: Array, of: Flags) -> int:
    """How many of some evaluated points lie in the typical set of the posterior, were all points feasible.

    Args:
        view: The iteration.
        draws: Draws of the posterior, with shape (m, d), among which its top is looked for.
        of: Which of the evaluated points, with shape (n,).
    """
    model = view.model
    top = float(model.if_feasible(np.concatenate([draws, view.t])).max())
    return int((top - model.if_feasible(view.t[of]) < near_depth(view.d)).sum())
