"""Scout for parts of the posterior that are predicted infeasible on weak evidence, before a claim."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.coverage import farthest
from surrogate.inference.depths import FEASIBLE
from surrogate.inference.draws import draws_if_feasible
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["Denied"]


class Denied:
    """The draw that the surrogate takes for infeasible and that is farthest from all infeasible points.

    A part of the posterior that is cut off by mistake is in no other check, because the surrogate is sure of it.
    """

    name = "denied"
    phases = frozenset({Phase.ARMED})
    place = Place.EXTRA

    def points(self, view: View) -> Array:
        """One point; none where nothing infeasible is known, or no draw is denied."""
        model = view.model
        if model.feasibility.everywhere:
            return view.nowhere
        draws = draws_if_feasible(model, view.draws, view.rng("denied"))
        denied = draws[model.feasibility.probability(model.whiten(draws)) < FEASIBLE]
        return denied[farthest(model.infeasible, model.whiten(denied), min(1, len(denied)))]
