"""Scout, before a claim, for the emptiest part of the warm posterior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.checks.batch_error import judged_depth
from surrogate.inference.coverage import farthest
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["Emptiest"]


class Emptiest:
    """Proposes the warm draw farthest from all evaluated points.

    A process with a wrong curvature is too certain far from all points. Where outputs are learned, draws deeper than
    `judged_depth` are left out: an evaluation there says nothing about the claim, but if infeasible it casts doubt
    on the feasibility of the posterior itself.
    """

    name = "emptiest"
    phases = frozenset({Phase.ARMED})
    place = Place.FIRST

    def points(self, view: View) -> Array:
        """One point; none if the trend alone explains the data."""
        model, setup = view.model, view.setup
        if model.exact:
            return view.nowhere
        warm = setup.scaled.not_among(view.draws.warm, view.under_way)
        if view.learns_outputs:
            warm = warm[view.model.relative(warm) > -judged_depth(view)]
        known = np.concatenate([view.t, setup.scaled.to_unit(view.under_way)])
        return warm[farthest(model.whiten(known), model.whiten(warm), min(1, len(warm)))]
