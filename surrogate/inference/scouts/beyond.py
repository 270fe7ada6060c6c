"""Scout for the part of a posterior that is cut off where the evaluations of a simulator end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.coverage import farthest
from surrogate.inference.draws import draw
from surrogate.inference.findings import Claim
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View
from surrogate.log_density.composite.model import CompositeLogDensity
from surrogate.log_density.trust_region import TrustRegion

__all__ = ["Beyond"]


_OUTSIDE = 0.5  # nats by which the box around the evaluations lowers the log-density of points outside


class Beyond:
    """Proposes draws, of the posterior without the box around the evaluations, that are farthest from them.

    Other points lie at most half a width of the box outside it. A posterior for other data that say nothing about some
    parameters may be a thousand times wider than the evaluations, and would take ten batches to reach its ends. The
    share of the batch is that of the draws outside.
    """

    name = "beyond"
    phases = frozenset({Phase.TEMPERED, Phase.LEARN})
    place = Place.FIRST

    def points(self, view: View) -> Array:
        """Points as long as the check of edges fails, and in the first step of a run that starts from evaluations."""
        edges, model = view.state.findings.get("edges"), view.model
        if not isinstance(model, CompositeLogDensity) or model.temperature > 1.0:
            return view.nowhere
        if view.state.step and (edges is None or edges.claim is not Claim.REFUTED):
            return view.nowhere
        free = replace(model, region=TrustRegion.everywhere(len(model.region.low)))
        finite = view.state.data.finite
        t, y, rng = view.t[finite], view.state.data.y[finite], view.rng("beyond")
        draws = draw(free, view.setup.scaled, t, y, None, rng, n=view.setup.particles).posterior
        outside = draws[model.lowered(draws) > _OUTSIDE]
        if not len(outside):
            return view.nowhere
        known = [view.t, view.setup.scaled.to_unit(view.under_way)]
        count = int(np.ceil(view.setup.n_batch * len(outside) / len(draws)))
        return outside[farthest(np.concatenate(known), outside, count)]
