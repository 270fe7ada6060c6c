"""Check that the last batch did not move the posterior."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.checks.effective_size import with_enough_draws
from surrogate.inference.divergence import gaussian_kl
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.view import View
from surrogate.samplers.evidence import ImportanceSample

__all__ = ["Moved", "distance_moved"]


_POINTS = 2000  # draws used to compare the posteriors, a third of the sample


class Moved:
    """Requires that the last batch did not move the posterior, which must then hold for one more batch too."""

    name = "moved"
    phases = SIGNALS
    columns = {"moved": np.inf}

    @with_enough_draws
    def look(self, view: View) -> Finding:
        """Reports the divergence of the last two posteriors, infinite if the earlier one had a raised temperature."""
        distance, limit = _distance(view), view.setup.thresholds.moved
        claim = Claim.STANDS if distance < limit else Claim.WAITS
        grounds = f"the last batch moved the posterior by {distance:.2g} nats (limit {limit:g})"
        return Finding(view.nowhere, claim, "", {"moved": distance}, grounds=grounds)


def _distance(view: View) -> float:
    before, sample = view.before, view.sample
    if before is None or before.temperature > 1.0:
        return np.inf
    rng = copy.deepcopy(view.spread.rng)
    if view.setup.levels is not None:
        sample = replace(sample, x=view.features(sample.x))
        return distance_moved(sample, view.log_posterior(view.sample.x, before), sample.log_density, rng)
    return distance_moved(sample, view.log_posterior(sample.x, before), sample.log_density, rng)


def distance_moved(
    sample: ImportanceSample, before: Array, now: Array, rng: np.random.Generator, *, points: int = _POINTS
) -> float:
    """Divergence between the previous and the current posterior, by re-weighting the current draws.

    Args:
        sample: Weighted draws of the current posterior.
        before: Previous log density at the draws, up to a constant, with shape (n,).
        now: Current log density at the draws.
        rng: Random numbers.
        points: Number of draws used.
    """
    index = rng.choice(len(sample.x), points, p=sample.weights)
    change = np.where(np.isfinite(before[index]), before[index] - now[index], -np.inf)
    if not np.isfinite(change).any():
        return np.inf
    return float(gaussian_kl(sample.x[index], np.zeros(points), change[None])[0])
