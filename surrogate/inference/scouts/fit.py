"""Scout for the parameters whose predicted outputs fit best, while a run of outputs looks for the posterior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.ascent import ascend
from surrogate.inference.coverage import farthest
from surrogate.inference.depths import seen_depth
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["Fit"]


_SEARCH = 6  # evaluations for each slow parameter up to which several fits are followed
_STARTS = 8  # evaluations from which fits start: the best one, and those farthest from it and from each other
_SCALE = 0.05  # of the prior: first radius of the trust region of an ascent
_APART = 0.05  # of the prior, along one axis at least: fits that are closer are one
_UNKNOWN = 1.0  # sd in nats from which a fit is worth a call ...
_SDS = 2.0  # ... if it is no more of them below the best evaluation, and no deeper than where predictions are judged
_GAIN = 2.0  # nats above the best evaluation from which the best fit is worth a call at any time


class Fit:
    """Proposes the points at which predicted outputs fit best, as damped Gauss-Newton (Levenberg-Marquardt) steps do.

    Fits start from several evaluations and are damped by the errors of the outputs. Early in a run all fits that may
    lead to the mode are followed, one step with every batch, because even fits of exact outputs end in a lesser mode
    about as often as not. Later the best fit is evaluated as long as it lies above all evaluations.
    """

    name = "fit"
    phases = frozenset({Phase.TEMPERED, Phase.LEARN})
    place = Place.FIRST

    def points(self, view: View) -> Array:
        """At most as many points as the batch has; none if polynomials explain the outputs."""
        if not view.learns_outputs or view.model.exact or view.setup.knows_width or len(view.batch) < 2:
            return view.nowhere
        finite = view.state.data.finite
        known = view.window.unrolled(view.t)[finite]
        reached = view.state.data.y[finite] + view.window.log_density(known)
        ends, height = _fits(view, known, reached)
        if len(known) >= _SEARCH * view.setup.n_learned:
            return ends[:1] if height[0] > reached.max() + _GAIN else view.nowhere
        sd = view.model.predict(ends)[1]
        below = reached.max() - height
        open_ = (sd > _UNKNOWN) & (below < _SDS * sd) & (below < seen_depth(view.d))
        return ends[open_][: len(view.batch)]


def _fits(view: View, known: Array, reached: Array) -> tuple[Array, Array]:
    """Different maxima of the surrogate posterior and their heights, the highest first."""

    def height(t: Array) -> Array:
        return view.model.y_max + view.model.smooth(t) * view.model.temperature + view.window.log_density(t)

    low, high = view.window.window(view.setup.prior.bounds).T
    ends, value = ascend(height, _starts(known, reached), low, high, np.full(view.d, _SCALE))
    kept: list[int] = []
    for i in np.argsort(-value, kind="stable"):
        if all((np.abs(ends[i] - ends[j]) > _APART).any() for j in kept):
            kept.append(int(i))
    return ends[kept], value[kept]


def _starts(t: Array, height: Array) -> Array:
    """The highest of some points, and others far from it and from each other."""
    best = int(np.argmax(height))
    first, rest = t[best : best + 1], np.delete(t, best, axis=0)
    return np.concatenate([first, rest[farthest(first, rest, min(_STARTS - 1, len(rest)))]])
