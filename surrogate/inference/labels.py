"""Coverage of the bulk of a posterior by points that are known to be feasible or infeasible."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.inference.depths import near_depth
from surrogate.inference.view import View
from surrogate.samplers.evidence import ImportanceSample

__all__ = ["hole_error", "label_error", "points_near"]


def hole_error(seen: int) -> float:
    """Sd of the log evidence due to forbidden regions that none of the ``seen`` feasible points has hit.

    Such a region holds a share of about 1 / (n + 1) of the posterior after n points in the bulk.
    """
    return 1.0 / (seen + 1.0)


def label_error(view: View, sample: ImportanceSample) -> float:
    """Sd of the log evidence due to forbidden regions that no point has hit; 0 if none are known to exist."""
    if view.model.feasibility.everywhere:
        return 0.0
    return hole_error(points_near(view, sample.x, view.state.data.finite))


def points_near(view: View, draws: Array, of: Flags) -> int:
    """Number of evaluated points in the typical set that the posterior would have if all points were feasible.

    Args:
        view: The iteration.
        draws: Draws of the posterior, with shape (m, d), among which its top is looked for.
        of: Mask of the evaluated points to use, with shape (n,).
    """
    model = view.model
    top = float(model.if_feasible(np.concatenate([draws, view.t])).max())
    return int((top - model.if_feasible(view.t[of]) < near_depth(view.d)).sum())
