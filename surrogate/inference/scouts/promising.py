"""Scout for the point of the whole prior that is most likely to be relevant."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.depths import relevant_depth
from surrogate.inference.phases import LEARNING
from surrogate.inference.prior_search import candidates, open_minded
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View
from surrogate.log_density.parameters import trend_size

__all__ = ["Promising", "most_promising"]


_CANDIDATES = 2000  # points of the prior; with fewer the best one varies from step to step
_EARLY = 6  # values per parameter up to which any candidate is worth a call
_EARLY_WITH_GRADIENTS = 2  # the same with gradients
_TINY = 1e-300  # sd used instead of zero
_KNOWN = 1.0  # sd in nats below which a value counts as known
_LIKELY = -2.5  # score above which a point is always worth a call: one chance in 160
_POSSIBLE = -6.0  # score above which it is worth an occasional call, because the sd may be six times too small
_POSSIBLE_EVERY = 5  # interval of such calls, in steps
_RECENT = 6  # last batches in which useless calls are counted
_WASTED = 3  # number of useless calls from which scores count as misleading
_WASTED_EVERY = 6  # interval of calls in that case, in steps


class Promising:
    """Proposes the point of the prior most likely to be relevant, as the last point of a batch of several.

    Early on, and on odd steps while deep points count as noise, a surrogate with a constant mean is used, because the
    trend excludes everything far from the mode that it describes.
    """

    name = "promising"
    phases = LEARNING
    place = Place.LAST

    def points(self, view: View) -> Array:
        """One point; none if no point is likely enough, checks wait for points, or the posterior has a known width."""
        if view.setup.knows_width or view.state.probes is not None or len(view.batch) < 2:
            return view.nowhere
        if view.learns_outputs:  # its draws already cover all points that the errors of the outputs allow
            return view.nowhere
        early = _is_early(view)
        if not early and _is_wasteful(view) and view.state.step % _WASTED_EVERY:
            return view.nowhere
        model = view.model
        if early or (view.state.step % 2 and model.coarse):
            model = open_minded(view)
        t = candidates(view, _CANDIDATES, model)
        if len(t) == 0:
            return view.nowhere
        temperature = model.temperature
        mean, sd = model.predict(t)
        target = view.state.data.y_max - temperature * (1.0 + 0.5 * view.d)  # about the mean depth
        best, score = most_promising(mean / temperature, sd / temperature, target / temperature)
        possible = view.state.step % _POSSIBLE_EVERY == 0 and score > _POSSIBLE
        worth = early or score > _LIKELY or possible
        return t[best : best + 1] if worth and np.isfinite(score) else view.nowhere


def _is_early(view: View) -> bool:
    """Whether there are fewer values than coefficients of a quadratic, or than 6 d (2 d with gradients)."""
    d = view.d
    enough = _EARLY_WITH_GRADIENTS * d if view.setup.gradient else max(trend_size(d), _EARLY * d)
    return int(view.state.data.finite.sum()) < enough


def _is_wasteful(view: View) -> bool:
    """Whether several of the last calls returned values irrelevant to the posterior."""
    data, temperature = view.state.data, view.model.temperature
    recent = data.step >= view.state.step - _RECENT
    wasted = recent & ~(data.y_max - data.y < relevant_depth(view.d) * temperature)
    return bool(wasted.sum() >= _WASTED)


def most_promising(mean: Array, sd: Array, target: float) -> tuple[int, float]:
    """The candidate most likely to lie above a target, and its score (mean - target) / sd.

    Args:
        mean: Predicted log-likelihoods, with shape (m,).
        sd: Their standard deviations; candidates known to better than 1 are left out.
        target: Log-likelihood above which a point is relevant.

    Returns:
        Index and score; the score is -inf if every candidate is known.
    """
    score = np.where(sd > _KNOWN, (mean - target) / np.maximum(sd, _TINY), -np.inf)
    best = int(score.argmax())
    return best, float(score[best])
