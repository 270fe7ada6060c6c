"""Check whether the evaluations leave room for a hidden mode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.checks.check import SEARCH
from surrogate.inference.findings import Finding
from surrogate.inference.hidden_modes import GAINS, best_point, draw_hypotheses, hidden_probability
from surrogate.inference.setup import inner_box
from surrogate.inference.trilateration import mixture_of
from surrogate.inference.view import View

__all__ = ["Hidden"]


_DRAWS = 2000  # draws of the posterior to which a mixture is fitted
_ROUND = 4  # points per round; later rounds profit from the results of earlier ones
_ONE_MODE = 0.1
"""Prior probability of a further mode if a quadratic describes all evaluations: most posteriors have one mode."""
_SEVERAL_MODES = 0.5
"""The same if there are several modes, or no quadratic describes the evaluations."""


class Hidden:
    """Requests points as long as each lowers the probability of a hidden mode by enough.

    See `surrogate.inference.hidden_modes`. The remaining probability is part of the status of a run. It is not computed
    for periodic parameters, where a Gaussian hypothesis makes no sense, nor with a reference that has a width. The
    probability is then NaN and is not part of the status.
    """

    name = "hidden"
    phases = SEARCH
    columns = {"hidden": np.nan}

    def look(self, view: View) -> Finding:
        """Requests the points of a round, and reports the probability of a hidden mode before they are evaluated."""
        if view.setup.knows_width or view.setup.prior.periodic.any():
            return Finding(view.nowhere, numbers=self.columns)
        rng, sample, data = view.rng("hidden"), view.sample, view.state.data
        known = mixture_of(sample.x[rng.choice(len(sample.x), _DRAWS, p=sample.weights)], rng)
        prior = _ONE_MODE if view.model.exact and len(known.weights) == 1 else _SEVERAL_MODES
        log_integral = sample.log_integral - _log_prior_density(view)
        depth, box = _predicted_depth(view), inner_box(view.setup, view.window)
        hypotheses = draw_hypotheses(known, log_integral, depth, box, rng)
        hypotheses = hypotheses.exclude(view.t, np.where(data.finite, data.y_max - data.y, np.inf))
        probability = hidden_probability(hypotheses.share_open, prior)
        points = [view.nowhere]
        for _ in range(_ROUND):
            point, share = best_point(hypotheses, depth, rng)
            left = hidden_probability(hypotheses.share_open - share, prior)
            if hidden_probability(hypotheses.share_open, prior) - left < GAINS[view.setup.explore]:
                break
            points.append(point)
            hypotheses = hypotheses.exclude(point, depth(point))
        return Finding(np.concatenate(points), numbers={"hidden": probability})


def _log_prior_density(view: View) -> float:
    """Mean log prior density at the draws, which is part of the evidence but not of a peak of the likelihood."""
    return float(view.window.log_density(view.window.unrolled(view.draws.posterior)).mean())


def _predicted_depth(view: View) -> Callable[[Array], Array]:
    """Function that gives the predicted depth below the best value; infinite where infeasibility is predicted."""

    def depth(t: Array) -> Array:
        mean, _ = view.model.predict(t)
        return np.where(view.feasible(t), np.maximum(view.state.data.y_max - mean, 0.0), np.inf)

    return depth
