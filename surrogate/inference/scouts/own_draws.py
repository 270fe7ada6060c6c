"""Scout, before a claim, for random draws of the surrogate posterior."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["OwnDraws"]


class OwnDraws:
    """Proposes draws of the posterior for half of the batch.

    The other half is chosen where the surrogate is most uncertain, so errors there say little about errors where the
    mass is.
    """

    name = "own draws"
    phases = frozenset({Phase.ARMED})
    place = Place.FIRST

    def points(self, view: View) -> Array:
        """Draws that are not in flight, in random order."""
        shuffled = view.rng("own draws").permutation(view.draws.posterior)
        if view.setup.levels is not None:
            shuffled = shuffled[view.setup.levels.with_action(shuffled)]  # a constant needs no confirmation
        return view.setup.scaled.not_among(shuffled, view.under_way)[: len(view.batch) // 2]
