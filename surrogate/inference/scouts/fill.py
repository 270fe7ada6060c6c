"""The scout that fills the rest of a batch with warm draws."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.phases import LEARNING, Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["Fill"]


class Fill:
    """Proposes warm draws for places of a batch that the candidates cannot fill with independent uncertainty."""

    name = "fill"
    phases = LEARNING - {Phase.EXPLORE}
    place = Place.FILL

    def points(self, view: View) -> Array:
        """All warm draws, in random order."""
        return view.rng("fill").permutation(view.draws.warm)
