"""Scout, before a claim, for random draws of the surrogate posterior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.hidden_modes import SMALLEST_SHARE, modes_of
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["OwnDraws"]


class OwnDraws:
    """Proposes draws of the posterior for half of the batch, and at least one of each mode.

    The other half is chosen where the surrogate is most uncertain, so errors there say little about errors where the
    mass is. A mode that was found last has few evaluations, and the surrogate may be too certain of it: of two modes in
    four parameters one was claimed after five evaluations with half of its mass.
    """

    name = "own draws"
    phases = frozenset({Phase.ARMED})
    place = Place.FIRST

    def points(self, view: View) -> Array:
        """Draws that are not in flight, in random order; if there are several modes, first one of each."""
        shuffled = view.rng("own draws").permutation(view.draws.posterior)
        if view.setup.levels is not None:
            shuffled = shuffled[view.setup.levels.with_action(shuffled)]  # a constant needs no confirmation
        shuffled = view.setup.scaled.not_among(shuffled, view.under_way)
        first = [] if view.setup.levels is not None or not len(shuffled) else _one_of_each_mode(view, shuffled)
        order = [*first, *(row for row in range(len(shuffled)) if row not in first)]
        return shuffled[order[: max(len(view.batch) // 2, len(first))]]


def _one_of_each_mode(view: View, t: Array) -> list[int]:
    """Row of the first of the draws t in each mode that holds 5 % of the mass; none if there is one mode."""
    known = view.modes_in_one_order
    modes = modes_of(known)
    heavy = np.flatnonzero(np.bincount(modes, known.weights) >= SMALLEST_SHARE)
    if len(heavy) < 2:
        return []
    mode = modes[known.responsibilities(t).argmax(1)]
    return [int(np.argmax(mode == each)) for each in heavy if (mode == each).any()]
