"""Scout for levels without any evaluation."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.mixed.sampling import level_bounds, mixed_model
from surrogate.inference.mixed.slices import levels_of
from surrogate.inference.phases import LEARNING, Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["UnseenLevels"]


class UnseenLevels:
    """Proposes, for levels without evaluations, the point where the surrogate's mean plus three sds is highest."""

    name = "unseen levels"
    phases = LEARNING - {Phase.EXPLORE}
    place = Place.EXTRA

    def points(self, view: View) -> Array:
        """A point of each of the most promising levels without evaluations, at most as many as a batch has."""
        levels = levels_of(view)
        known = np.concatenate([view.state.data.x, view.under_way])
        unseen = np.flatnonzero(np.bincount(levels.index(known), minlength=len(levels)) == 0)
        unseen = unseen[mixed_model(view.model).group_of[unseen] >= 0]
        if not len(unseen):
            return view.nowhere
        t = np.concatenate([view.draws.posterior, view.draws.warm])
        bounds, best = level_bounds(mixed_model(view.model), view.setup, t, view.rng("unseen levels"))
        height = (bounds + levels.log_prior)[unseen]
        return best[unseen[np.argsort(-height, kind="stable")[: view.setup.n_batch]]]
