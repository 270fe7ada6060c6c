"""Scout, before a claim, for parts of the posterior that are predicted infeasible on weak evidence."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.checks.batch_error import judged_depth
from surrogate.inference.coverage import farthest
from surrogate.inference.depths import FEASIBLE
from surrogate.inference.draws import draws_if_feasible
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["Denied"]


class Denied:
    """Proposes the draw predicted infeasible that is farthest from all infeasible points.

    No other check finds a part of the posterior that is wrongly predicted infeasible, because the surrogate is certain
    of it. Where outputs are learned, draws that would be too deep to matter even if feasible are left out.
    """

    name = "denied"
    phases = frozenset({Phase.ARMED})
    place = Place.EXTRA

    def points(self, view: View) -> Array:
        """One point; none if no infeasible point is known, or no draw is predicted infeasible."""
        model = view.model
        if model.feasibility.everywhere:
            return view.nowhere
        draws = draws_if_feasible(model, view.draws, view.rng("denied"))
        denied = draws[model.feasibility.probability(model.whiten(draws)) < FEASIBLE]
        if view.learns_outputs:
            denied = denied[model.if_feasible(denied) > -judged_depth(view)]
        return denied[farthest(model.infeasible, model.whiten(denied), min(1, len(denied)))]
