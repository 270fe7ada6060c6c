"""Coverage of the posterior's bulk by points known to be feasible or infeasible."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.inference.depths import near_depth
from surrogate.inference.view import View
from surrogate.samplers.evidence import ImportanceSample

__all__ = ["hole_error", "label_error", "points_near"]


def hole_error(seen: int) -> float:
    """Sd of the log evidence due to infeasible regions that none of the ``seen`` points in the bulk has hit.

    After n points in the bulk such a region has a share of about 1 / (n + 1) of the posterior.
    """
    return 1.0 / (seen + 1.0)


def label_error(view: View, sample: ImportanceSample) -> float:
    """Sd of the log evidence due to undetected infeasible regions; 0 if no infeasible point is known."""
    if view.model.feasibility.everywhere:
        return 0.0
    return hole_error(points_near(view, sample.x, view.state.data.finite))


def points_near(view: View, draws: Array, of: Flags) -> int:
    """Number of evaluated points in the typical set of the posterior under the assumption that all points are feasible.

    Args:
        view: The iteration.
        draws: Draws of that posterior, with shape (m, d), whose maximum defines the typical set.
        of: Mask of the evaluated points to use, with shape (n,).
    """
    model = view.model
    top = float(model.if_feasible(np.concatenate([draws, view.t])).max())
    return int((top - model.if_feasible(view.t[of]) < near_depth(view.d)).sum())
