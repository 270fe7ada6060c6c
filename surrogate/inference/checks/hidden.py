"""Check whether the evaluations leave room for a hidden mode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.checks.check import SEARCH
from surrogate.inference.findings import Finding
from surrogate.inference.hidden_modes import (
    Hypotheses,
    best_point,
    count_modes,
    draw_hypotheses,
    hidden_probability,
    least_gain,
)
from surrogate.inference.setup import inner_box
from surrogate.inference.trilateration import mixture_of
from surrogate.inference.view import View

__all__ = ["Hidden", "hypotheses_of", "predicted_depth"]


_DRAWS = 2000  # draws of the posterior to which a mixture is fitted
_ROUND = 4  # points per round; later rounds profit from the results of earlier ones
_ONE_MODE = 0.3
"""Prior probability of a further mode if one is known, whatever its shape.

It is that of the random posteriors of scripts/generated, of which three in seven have several modes; real posteriors
with several modes are rarer.
"""
_SEVERAL_MODES = 0.5
"""The same if several modes are known."""
_POLYNOMIALS = 0.1
"""The same if polynomials describe all outputs of a simulator: no evaluation could tell more."""


class Hidden:
    """Requests points as long as each lowers the probability of a hidden mode by enough.

    See `surrogate.inference.hidden_modes`. The remaining probability is part of the status of a run. It is not computed
    with a reference that has a width. The probability is then NaN and is not part of the status.
    """

    name = "hidden"
    phases = SEARCH
    columns = {"hidden": np.nan}

    def look(self, view: View) -> Finding:
        """Requests the points of a round, and reports the probability of a hidden mode before they are evaluated."""
        if view.setup.knows_width:
            return Finding(view.nowhere, numbers=self.columns)
        hypotheses, prior = hypotheses_of(view)
        depth, rng = predicted_depth(view), view.rng("hidden", "points")
        probability = hidden_probability(hypotheses.share_open, prior)
        for finding in view.findings.values():
            hypotheses = hypotheses.exclude(finding.points, depth(finding.points))
        least = least_gain(view.setup.explore, len(view.state.data))
        points = [view.nowhere]
        for _ in range(0 if _is_known_everywhere(view) else _ROUND):
            point, share = best_point(hypotheses, depth, rng)
            left = hidden_probability(hypotheses.share_open - share, prior)
            if hidden_probability(hypotheses.share_open, prior) - left < least:
                break
            points.append(point)
            hypotheses = hypotheses.exclude(point, depth(point))
        return Finding(np.concatenate(points), numbers={"hidden": probability})


def hypotheses_of(view: View) -> tuple[Hypotheses, float]:
    """Hypotheses about a further mode, of which evaluations exclude some, and the prior probability of such a mode."""
    rng, sample, data = view.rng("hidden"), view.sample, view.state.data
    known = mixture_of(sample.x[rng.choice(len(sample.x), _DRAWS, p=sample.weights)], rng)
    prior = _ONE_MODE if count_modes(known) == 1 else _SEVERAL_MODES
    prior = _POLYNOMIALS if _is_known_everywhere(view) else prior
    log_integral = sample.log_integral - _log_prior_density(view)
    box = inner_box(view.setup, view.window)
    hypotheses = draw_hypotheses(known, log_integral, predicted_depth(view), box, rng, period=_period(view))
    return hypotheses.exclude(view.t, np.where(data.finite, data.y_max - data.y, np.inf)), prior


def _is_known_everywhere(view: View) -> bool:
    """Whether the surrogate is one of outputs that polynomials explain."""
    return view.learns_outputs and view.model.exact


def _log_prior_density(view: View) -> float:
    """Mean log prior density at the draws, which is part of the evidence but not of a peak of the likelihood."""
    return float(view.window.log_density(view.window.unrolled(view.draws.posterior)).mean())


def _period(view: View) -> Array | None:
    """Length of a turn of each coordinate, infinite where it is no circle; None if there are no circles."""
    turns = view.setup.scaled.turns
    if turns is None:
        return None
    period = np.full(view.d, np.inf)
    period[turns.columns] = turns.period
    return period


def predicted_depth(view: View) -> Callable[[Array], Array]:
    """Depth below the best value that the surrogate predicts; infinite where it predicts infeasibility."""

    def depth(t: Array) -> Array:
        mean, _ = view.model.predict(t)
        return np.where(view.feasible(t), np.maximum(view.state.data.y_max - mean, 0.0), np.inf)

    return depth
