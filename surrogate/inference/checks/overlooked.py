"""Check that the surrogate is not higher anywhere than at its draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.checks.check import SEARCH
from surrogate.inference.coverage import farthest
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.setup import inner_box
from surrogate.inference.view import View

__all__ = ["Overlooked", "climb"]


_CANDIDATES = 4000  # points of the prior from which climbs may start
_CLIMBERS, _ROUNDS = 200, 100  # climbs, and steps per climb: 20,000 values of the surrogate
_STEPS = (0.3, 0.003)  # first and last step of a climb, relative to differences of candidates
_EXCESS = 2.0  # nats above all draws; the best of 6,000 draws of a Gaussian in 16 dimensions is 1.5 below its maximum
_MOVED_AXES = 0.7  # share of the axes along which a step moves


class Overlooked:
    """Requires that the surrogate posterior is not much higher anywhere than at its draws.

    A surrogate may rise without limit in a corner without evaluations that its sampler never visited; the draws then do
    not represent it.
    """

    name = "overlooked"
    phases = SEARCH
    columns: dict[str, float] = {}

    def look(self, view: View) -> Finding:
        """Requests the highest points above all draws, except near the faces of the prior.

        A density may diverge there without holding any mass.
        """
        rng, window = view.rng("overlooked"), view.window
        candidates = np.concatenate([window.sample(_CANDIDATES, rng), window.unrolled(view.draws.warm)])
        low, high = inner_box(view.setup, window)

        def inner(t: Array) -> Array:
            inside = ((t >= low) & (t <= high)).all(1)
            return np.where(inside, view.log_posterior(t), -np.inf)

        points = climb(inner, candidates, float(view.sample.log_density.max()), rng)
        if not len(points):
            return Finding(points)
        reason = "the surrogate peaks where it has no draws"
        return Finding(points, Claim.WAITS, reason)


def climb(
    log_density: Callable[[Array], Array],
    candidates: Array,
    top: float,
    rng: np.random.Generator,
    *,
    climbers: int = _CLIMBERS,
    rounds: int = _ROUNDS,
    excess: float = _EXCESS,
    count: int = 2,
) -> Array:
    """Points where a density exceeds its values at all draws by at least ``excess`` nats, with shape (k, d).

    The best candidates and as many random ones climb for a fixed number of rounds. A step is a scaled difference of two
    candidates, taken if it leads uphill; steps shrink from round to round.

    Args:
        log_density: Function from (m, d) to (m,); -inf where impossible.
        candidates: Points in the support, with shape (m, d).
        top: Highest log density among the draws.
        rng: Random numbers.
        climbers: Number of candidates that climb.
        rounds: Steps of each.
        excess: Smallest excess above the draws, in nats.
        count: Largest number k of points: the highest, then those farthest from it.
    """
    if len(candidates) < 2:
        return candidates[:0]
    value = log_density(candidates)
    order, half = np.argsort(-value, kind="stable"), climbers // 2
    chosen = np.concatenate([order[:half], rng.permutation(order[half:])[:half]])
    t, value = candidates[chosen], value[chosen]
    for size in np.geomspace(*_STEPS, rounds):
        i, j = rng.integers(len(candidates), size=(2, len(t)))
        step = size * (candidates[i] - candidates[j])
        new = t + np.where(rng.random(t.shape) < _MOVED_AXES, step, 0.0)
        higher = log_density(new)
        t = np.where((higher > value)[:, None], new, t)
        value = np.maximum(value, higher)
    t = t[np.argsort(-value, kind="stable")][: int((value > top + excess).sum())]
    if len(t) == 0:
        return t
    return np.concatenate([t[:1], t[1:][farthest(t[:1], t[1:], min(count, len(t)) - 1)]])
