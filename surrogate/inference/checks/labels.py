"""Check that feasibility is known in the bulk, if there are infeasible regions."""

from __future__ import annotations

import numpy as np

from surrogate.inference.checks.check import SEARCH
from surrogate.inference.coverage import representatives
from surrogate.inference.findings import Finding
from surrogate.inference.labels import points_near
from surrogate.inference.view import View

__all__ = ["Labels"]


_BEYOND = 4  # points in the bulk in addition to two per parameter, so that one parameter has six


class Labels:
    """Requires 2 d + 4 evaluated points in the bulk, spread by mass, if infeasible regions are known to exist.

    An infeasible hole in the bulk, or a part of it wrongly taken for infeasible, is only revealed by evaluations there.
    """

    name = "labels"
    phases = SEARCH
    columns: dict[str, float] = {}

    def look(self, view: View) -> Finding:
        """Requests as many draws as are still needed, in the first round of the search."""
        if view.setup.knows_width or view.state.explored or view.model.feasibility.everywhere:
            return Finding(view.nowhere)
        draws, model = view.exploration.if_feasible, view.model
        every = np.ones(len(view.state.data), dtype=bool)
        missing = 2 * view.d + _BEYOND - points_near(view, view.draws.warm, every)
        if missing <= 0:
            return Finding(view.nowhere)
        return Finding(draws[representatives(model.whiten(view.t), model.whiten(draws), missing)])
