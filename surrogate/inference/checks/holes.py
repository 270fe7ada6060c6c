"""Check of the regions of the prior where no model could predict a mode from the evaluations."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.checks.check import SEARCH
from surrogate.inference.checks.exchanges import Exchanges, refuted
from surrogate.inference.checks.hidden import hypotheses_of, predicted_depth
from surrogate.inference.coverage import farthest
from surrogate.inference.findings import Finding
from surrogate.inference.hidden_modes import best_points
from surrogate.inference.setup import holes_to_fill
from surrogate.inference.view import View

__all__ = ["Holes"]


_MIDDLE = 0.5  # unit coordinate of parameters that do not act at a level


class Holes:
    """Requests points of the inner prior, to find what no model predicts: a mode near which there is no evaluation.

    They are the points that would exclude most hypotheses about a further mode, and once none is left, the points
    farthest from all evaluations. Points of the check `Exchanges` and of the scout `Images` count towards their number.
    """

    name = "holes"
    phases = SEARCH
    columns: dict[str, float] = {}

    def look(self, view: View) -> Finding:
        """Requests, in the first round of the search, a fixed number of points minus those of design and exchanges."""
        if view.setup.knows_width or view.state.explored:
            return Finding(view.nowhere)
        if view.learns_outputs:  # modes follow from the outputs, whose overall behaviour the design shows
            return Finding(view.nowhere)
        inner, t = view.exploration.inner, view.window.unrolled(view.t)
        images = view.findings[Exchanges.name].points if Exchanges.name in view.findings else view.nowhere
        tried = len(images) + int(refuted(view, view.setup.moves).sum())
        missing = max(holes_to_fill(view.setup) - tried, 0) if len(inner) else 0
        points = _telling(view, images, missing)
        known, away = np.concatenate([t, images, points]), inner
        if (levels := view.setup.levels) is not None:  # what does not act leaves no hole
            known, away = levels.without_idle(known, _MIDDLE), levels.without_idle(inner, _MIDDLE)
        return Finding(np.concatenate([points, inner[farthest(known, away, missing - len(points))]]))


def _telling(view: View, images: Array, count: int) -> Array:
    """Points that would exclude most hypotheses about a further mode, in addition to the images."""
    if view.setup.levels is not None or not count:
        return view.nowhere
    hypotheses, depth = hypotheses_of(view)[0], predicted_depth(view)
    return best_points(hypotheses.exclude(images, depth(images)), depth, view.rng("holes"), count)[0]
