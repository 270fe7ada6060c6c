"""Check whether the evaluations leave room for a further mode."""

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


_DRAWS = 2000  # of the posterior, to which a mixture is fitted
_ROUND = 4  # points of a round: later ones profit from what the first have shown
_ONE_MODE = 0.1
"""Probability of a further mode where all that was seen is one quadratic: most posteriors have one mode."""
_SEVERAL_MODES = 0.5
"""The same where there are several modes, or a shape that no quadratic describes."""


class Hidden:
    """Requests points as long as each lowers the probability of a hidden mode by a stated amount.

    See `surrogate.inference.hidden_modes`. The probability that is left is part of the status of a run.
    Not computed for periodic parameters, on whose circles a Gaussian hypothesis means nothing, nor with a reference
    that has a width; the probability is then NaN, and the status does not state one.
    """

    name = "hidden"
    phases = SEARCH
    columns = {"hidden": np.nan}

    def look(self, view: View) -> Finding:
        """The points of a round, and the probability of a hidden mode before they are evaluated."""
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
    """Log density of the prior at the draws, on average: the evidence holds it, a peak of the likelihood does not."""
    return float(view.window.log_density(view.window.unrolled(view.draws.posterior)).mean())


def _predicted_depth(view: View) -> Callable[[Array], Array]:
    """Depth below the best value that the surrogate predicts; infinite where it predicts infeasibility."""

    def depth(t: Array) -> Array:
        mean, _ = view.model.predict(t)
        return np.where(view.feasible(t), np.maximum(view.state.data.y_max - mean, 0.0), np.inf)

    return depth
