"""Looking for modes that the surrogate does not know of, once it believes that it is done.

Each evaluated point has a radius r = sqrt(2 (y_max - y)): for a Gaussian its Mahalanobis distance from the mode. The
found posterior predicts a radius too, and their difference h = r_predicted - r is zero wherever the found modes explain
what was seen; it is large where something else attracts. A Gaussian process of h over all evaluations says how much
closer to a mode than predicted a point could be. Probes go to the smallest optimistic radius; a Gaussian posterior
needs none.

Holes, the points farthest from all evaluations in the inner part of the prior, cost a few evaluations more and see what
no model of the data can: a mode in whose domain no point has fallen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogate.kernels.stationary import KERNELS
from surrogate.kernels.trend import Trend
from surrogate.models.fit import fit
from surrogate.models.gp import GPModel, GPRecipe, Hyperparameters, TrainingSet, condition
from surrogate.samplers.mixture import fit_mixture

__all__ = ["Search", "holes", "most_promising", "search"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Search:
    """Where further modes could hide.

    Attributes:
        probes: Points to evaluate, with shape (k, d); none when every place is explained.
        radius: Smallest optimistic radius outside the known modes.
        limit: Radius below which a place is open.
        unexplained: Evaluated points that are much closer to a mode than the found ones say.
    """

    probes: Array
    radius: float
    limit: float
    unexplained: int = 0

    @property
    def open(self) -> bool:
        """Whether some place is not explained."""
        return self.radius < self.limit


def _mixture_depth(draws: Array, x: Array, rng: np.random.Generator) -> Array:
    """Depth below its maximum of a Gaussian mixture fitted to draws, with the number of components chosen by BIC."""
    n, d = draws.shape
    best, lowest = None, np.inf
    for k in (1, 2, 4, 8):
        if n < 8 * k * d:
            break
        mixture = fit_mixture(draws, k, rng)
        size = len(mixture.weights)
        bic = -2.0 * mixture.log_density(draws).sum() + size * (1 + d + d * (d + 1) / 2) * np.log(n)
        if bic < lowest:
            best, lowest = mixture, bic
    if best is None:
        best = fit_mixture(draws, 1, rng)
    return np.maximum(best.log_density(draws).max() - best.log_density(x), 0.0)


def _misfit_process(t: Array, h: Array) -> GPModel:
    """Matern-3/2 process of the misfit over the unit cube, with scale and lengthscales by maximum likelihood."""
    recipe = GPRecipe(KERNELS["matern32"], Trend("constant"), nugget=1e-4)
    data = TrainingSet.of(t, h)
    d = t.shape[1]
    start = Hyperparameters(0.0, np.log(1e-3), np.full(d, np.log(0.3 * np.sqrt(d))))  # no scale: profiled
    hyper, _, _ = fit(recipe, data, [start], max_evaluations=25)
    return condition(recipe, data, hyper)


def search(
    t: Array,
    y: Array,
    draws: Array,
    trend_depth: tuple[Array, Array] | None,
    candidates: Array,
    surrogate_depth: Array,
    rng: np.random.Generator,
    *,
    count: int,
    kappa: float = 3.0,
    slack: float = 1.0,
) -> Search:
    """Places that could be closer to a mode than the found posterior says.

    Args:
        t: Finite evaluated points in scaled coordinates, with shape (n, d).
        y: Their log-likelihoods, with shape (n,).
        draws: Draws of the found posterior, with shape (m, d).
        trend_depth: Depths of the surrogate's trend below its maximum at t and at the candidates, if it has a
            concave quadratic one.
        candidates: Points of the prior among which probes are chosen, with shape (k, d).
        surrogate_depth: Depth of the surrogate's mean below its maximum at the candidates, with shape (k,).
        rng: For the mixture.
        count: Largest number of probes.
        kappa: Standard deviations of optimism.
        slack: A place is open when its optimistic radius is below that of the bulk of a mode plus this.

    Returns:
        Probes and how open the search is. O(n^3 + k n).
    """
    d = t.shape[1]
    depth, at_candidates = _explanation(t, y, draws, trend_depth, candidates, rng)
    r_true = np.sqrt(2.0 * (y.max() - y))
    h = np.sqrt(2.0 * depth) - r_true
    limit_radius = np.sqrt(2.0 * (6.0 + 0.5 * d))
    limit = limit_radius + slack
    outside = (np.sqrt(2.0 * at_candidates) > np.sqrt(3.0) * limit_radius) & (surrogate_depth > 1.5 * limit_radius**2)
    if not outside.any() or h.std() < 1e-3:
        return Search(np.empty((0, d)), np.inf, limit)
    process = _misfit_process(t, h)
    places = candidates[outside]
    optimistic = (
        np.sqrt(2.0 * at_candidates[outside]) - process.mean(places) - kappa * np.sqrt(process.variance(places))
    )
    order = np.argsort(optimistic, kind="stable")
    chosen: list[int] = []
    for i in order:
        if len(chosen) == count or optimistic[i] >= limit:
            break
        if all(np.abs(places[i] - places[j]).max() > 0.12 for j in chosen):
            chosen.append(int(i))
    unexplained = int(((h > 0.25 * np.sqrt(2.0 * depth) + 0.5) & (2.0 * depth > 3.0 * limit_radius**2)).sum())
    return Search(places[chosen], float(optimistic.min()), limit, unexplained)


def _explanation(
    t: Array,
    y: Array,
    draws: Array,
    trend_depth: tuple[Array, Array] | None,
    candidates: Array,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Depths at t and at the candidates from the explanation that leaves the smaller misfit of radii."""
    both = _mixture_depth(draws, np.concatenate([t, candidates]), rng)
    options = [(both[: len(t)], both[len(t) :])]
    if trend_depth is not None:
        options.append(trend_depth)
    r_true = np.sqrt(2.0 * (y.max() - y))
    return min(options, key=lambda pair: float(((np.sqrt(2.0 * pair[0]) - r_true) ** 2).mean()))


def holes(t: Array, candidates: Array, count: int) -> NDArray[np.int64]:
    """Indices of the candidates farthest from all evaluated points and from each other, greedily."""
    distance = ((candidates[:, None, :] - t[None]) ** 2).sum(-1).min(1)
    chosen = []
    for _ in range(count):
        i = int(distance.argmax())
        chosen.append(i)
        distance = np.minimum(distance, ((candidates - candidates[i]) ** 2).sum(1))
    return np.array(chosen, dtype=np.int64)


def most_promising(mean: Array, sd: Array, target: float) -> tuple[int, float]:
    """The candidate most likely to lie above a target, and its score (mean - target) / sd.

    Args:
        mean: Predicted log-likelihoods, with shape (m,).
        sd: Their standard deviations; candidates known to better than 1 are left out.
        target: Log-likelihood from which a point would matter.

    Returns:
        Index and score; the score is -inf when every candidate is known.
    """
    score = np.where(sd > 1.0, (mean - target) / np.maximum(sd, 1e-300), -np.inf)
    best = int(score.argmax())
    return best, float(score[best])
