"""Scout, before a claim, for random draws of the surrogate posterior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.depths import relevant_depth
from surrogate.inference.hidden_modes import SMALLEST_SHARE, modes_of
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View
from surrogate.log_density.parameters import trend_size

__all__ = ["OwnDraws"]


class OwnDraws:
    """Proposes draws of the posterior for half of the batch, among them one of each mode with few evaluations.

    The other half is chosen where the surrogate is most uncertain, so errors there say little about errors where the
    mass is. Of a mode with fewer evaluations than a quadratic has coefficients the surrogate may be too certain: of two
    modes in four parameters one was claimed after five evaluations with half of its mass.
    """

    name = "own draws"
    phases = frozenset({Phase.ARMED})
    place = Place.FIRST

    def points(self, view: View) -> Array:
        """Draws that are not in flight, in random order; first one of each mode with few evaluations."""
        shuffled = view.rng("own draws").permutation(view.draws.posterior)
        if view.setup.levels is not None:
            shuffled = shuffled[view.setup.levels.with_action(shuffled)]  # a constant needs no confirmation
        shuffled = view.setup.scaled.not_among(shuffled, view.under_way)
        first = [] if view.setup.levels is not None or not len(shuffled) else _one_of_each_mode(view, shuffled)
        order = [*first, *(row for row in range(len(shuffled)) if row not in first)]
        return shuffled[order[: max(len(view.batch) // 2, len(first))]]


def _one_of_each_mode(view: View, t: Array) -> list[int]:
    """Row of the first of the draws t in each of several modes that has few evaluations and 5 % of the mass."""
    known, data = view.modes_in_one_order, view.state.data
    modes = modes_of(known)
    near = data.finite & (data.y_max - np.where(data.finite, data.y, -np.inf) < relevant_depth(view.d))
    evaluations = np.bincount(modes[known.responsibilities(view.t[near]).argmax(1)], minlength=modes.max() + 1)
    heavy = np.bincount(modes, known.weights) >= SMALLEST_SHARE
    if heavy.sum() < 2:
        return []
    mode = modes[known.responsibilities(t).argmax(1)]
    few = np.flatnonzero(heavy & (evaluations < trend_size(view.d)))
    return [int(np.argmax(mode == each)) for each in few if (mode == each).any()]
