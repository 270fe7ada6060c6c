"""The scout for points that the checks of the last batch request."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.phases import LEARNING
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["Probes"]


class Probes:
    """Proposes the points that checks requested after the last batch, unless they are in flight."""

    name = "probes"
    phases = LEARNING
    place = Place.EXTRA

    def points(self, view: View) -> Array:
        """All requested points, because the checks wait for their values."""
        probes = view.state.probes
        return view.nowhere if probes is None else view.setup.scaled.not_among(probes, view.under_way)
