"""The scout that completes a batch with draws of the warm posterior."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.phases import LEARNING, Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["Fill"]


class Fill:
    """Proposes draws of the warm posterior for a batch that lacks points because no candidate adds information."""

    name = "fill"
    phases = LEARNING - {Phase.EXPLORE}
    place = Place.FILL

    def points(self, view: View) -> Array:
        """All warm draws, in random order."""
        warm = view.rng("fill").permutation(view.draws.warm)
        return warm if view.setup.levels is None else warm[view.setup.levels.with_action(warm)]
