"""Looking for modes that the surrogate does not know of, once it believes that it is done.

Each evaluated point has a radius r = sqrt(2 (y_max - y)): for a Gaussian its Mahalanobis distance from the mode. The
found posterior predicts a radius too. Points that are much closer to a mode than predicted belong to another one, and
their radii say how far away it is: a few of them locate it as distances to known places locate a position. Probes go
to the most likely places; each is one more distance, so that they close in. Where the posterior explains what was
seen, as a Gaussian does, none are needed.

Holes, the points farthest from all evaluations in the inner part of the prior, cost a few evaluations more and see what
no model of the data can: a mode in whose domain no point has fallen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.samplers.mixture import Mixture, fit_mixture
from surrogate.samplers.smc import sample_tempered

__all__ = [
    "Search",
    "exchanges",
    "fruitless_rounds",
    "holes",
    "is_surprise",
    "most_promising",
    "overlooked",
    "patience",
    "representatives",
    "search",
]


@dataclass(frozen=True, eq=False)
class Search:
    """Where a further mode could be.

    Attributes:
        probes: Points to evaluate, with shape (k, d); none when everything that was seen is explained.
        unexplained: Evaluated points that are much closer to a mode than the found ones say.
        nearest: Smallest radius among them; infinite if there are none.
    """

    probes: Array
    unexplained: int = 0
    nearest: float = np.inf


def search(
    t: Array,
    y: Array,
    draws: Array,
    trend_depth: Array | None,
    left_out_depth: Array,
    known_depth: Callable[[Array], Array],
    support: tuple[Array, Array],
    rng: np.random.Generator,
    *,
    count: int = 2,
) -> Search:
    """Looks for the mode that the points belong to which the found posterior does not explain.

    Args:
        t: Finite evaluated points in scaled coordinates, with shape (n, d).
        y: Their log-likelihoods, with shape (n,).
        draws: Draws of the found posterior, with shape (m, d).
        trend_depth: Depth of the surrogate's trend below its maximum at t, where the trend explains all the data.
        left_out_depth: Depth at which the surrogate predicts each of t from the others.
        known_depth: Depth of the surrogate below its maximum, from (k, d) to (k,).
        support: Lower and upper corner of the box in which a mode may lie.
        rng: Random numbers.
        count: Number of probes for the mode; 0 only counts what is unexplained, and looks into unseen components.

    Returns:
        The probes. O(50 k n) for k = 1000 hypotheses.
    """
    bulk = np.sqrt(2.0 * (6.0 + 0.5 * t.shape[1]))
    gap = y.max() - y
    several = _cloud_mixture(draws, rng)
    mixture = _shape(several, draws, t, gap, bulk, rng)
    depth = _mixture_depth(mixture, draws, t) if trend_depth is None else trend_depth
    predicted, radius = np.sqrt(2.0 * depth), np.sqrt(2.0 * gap + 1.0)
    one = len(mixture.weights) == 1  # a Gaussian predicts radii well, a shape made of several only roughly
    excess = 0.08 * predicted + 0.3 if one else 0.15 * predicted + 0.5
    unexplained = (predicted - radius > excess) & (predicted > 1.7 * bulk)
    foreseen = np.abs(np.sqrt(2.0 * left_out_depth + 1.0) - radius) < 0.02 * radius + 0.02
    unseen = _unseen(several, t)
    if foreseen[unexplained].all():  # not a Gaussian, but the surrogate knows its shape; or nothing is unexplained
        return Search(unseen)
    probes = unseen
    if count > 0:
        located = [
            _locate(t, radius, unexplained, factor, lambda m: known_depth(m) > 0.5 * bulk**2, support, rng)
            for factor in _shapes(mixture)
        ]
        probes = np.concatenate([unseen, max(located, key=lambda pair: pair[1])[0][:count]])
    return Search(probes, int(unexplained.sum()), float(radius[unexplained].min()))


def fruitless_rounds(nearest: Sequence[float], surprised: Sequence[bool]) -> int:
    """Rounds of probes since the last that brought the search nearer, by a fifth, to a mode, or surprised it.

    Probes for a mode that exists close in on it: on targets with two modes each second round did, at the least. Points
    that a curved or truncated posterior leaves unexplained have no mode to close in on.

    Args:
        nearest: Smallest radius of an unexplained point before each round.
        surprised: Whether a point of the round was much better than predicted, see `is_surprise`.
    """
    best, rounds, before = np.inf, 0, False
    for radius, surprise in zip(nearest, surprised, strict=True):
        closer = radius < 0.8 * best
        best = radius if closer else best
        rounds = 0 if closer or before else rounds + 1
        before = surprise
    return 0 if before else rounds


def patience(d: int) -> int:
    """Rounds of probes that may lead nowhere before the search gives up, max(2, d - 1).

    On three unequal modes in five dimensions four rounds found what an unlimited search of 30 probes did.
    """
    return max(2, d - 1)


def is_surprise(gap: Array, predicted_gap: Array, nearest: Array, d: int) -> Flags:
    """Whether evaluated points are much nearer to a mode than the surrogate said, and as near as the nearest known.

    Args:
        gap: Depth below the best point, with shape (n,).
        predicted_gap: The same, as predicted before the evaluation; negative where more was expected than the best.
        nearest: Smallest radius of an unexplained point at that time.
        d: Number of parameters.
    """
    radius, predicted = np.sqrt(2.0 * gap + 1.0), np.sqrt(2.0 * np.maximum(predicted_gap, 0.0) + 1.0)
    outside = predicted_gap > 6.0 + 0.5 * d
    return outside & (radius < 0.85 * predicted - 0.3) & (radius < 1.5 * nearest)


def _shape(several: Mixture, draws: Array, t: Array, gap: Array, bulk: float, rng: np.random.Generator) -> Mixture:
    """The found posterior as one Gaussian, if that gives the radii of the evaluated points in the bulk, or as several.

    The values decide, not the draws: these may follow a surrogate that has bent towards a mode it does not know.
    """
    single = fit_mixture(draws, 1, rng)
    radius = np.sqrt(2.0 * gap)
    inside = radius < bulk
    misfit = (np.sqrt(2.0 * _mixture_depth(single, draws, t)) - radius)[inside]
    return single if np.sqrt((misfit**2).mean()) < 0.5 else several


def _cloud_mixture(draws: Array, rng: np.random.Generator) -> Mixture:
    """Gaussian mixture fitted to draws, with the number of components chosen by BIC."""
    n, d = draws.shape
    best, lowest = None, np.inf
    for k in (1, 2, 4, 8):
        if best is not None and n < 8 * k * d:
            break
        mixture = fit_mixture(draws, k, rng)
        size = len(mixture.weights)
        bic = -2.0 * mixture.log_density(draws).sum() + size * (1 + d + d * (d + 1) / 2) * np.log(n)
        if bic < lowest:
            best, lowest = mixture, bic
    return best or fit_mixture(draws, 1, rng)


def _mixture_depth(mixture: Mixture, draws: Array, t: Array) -> Array:
    """Depth of a mixture below its maximum over the draws it was fitted to, with shape (n,).

    Components with less than 3 % of the weight are left out: a bridge that the surrogate has built towards an unknown
    mode must not explain it.
    """
    heavy = mixture.weights >= 0.03
    known = Mixture(mixture.weights[heavy], mixture.means[heavy], mixture.factors[heavy])
    return np.maximum(known.log_density(draws).max() - known.log_density(t), 0.0)


def _unseen(mixture: Mixture, t: Array) -> Array:
    """Means of the components, of some weight, in whose bulk no point t was evaluated, with shape (k, d)."""
    d = t.shape[1]
    z = [np.linalg.solve(low, (t - m).T) for m, low in zip(mixture.means, mixture.factors, strict=True)]
    nearest = np.array([(part**2).sum(0).min() for part in z])
    return mixture.means[(nearest > d + 2.0 * np.sqrt(2.0 * d)) & (mixture.weights > 0.01)]


def _shapes(mixture: Mixture) -> tuple[Array, Array]:
    """Shapes that an unknown mode may have, as Cholesky factors up to size: that of the main mode, and a sphere.

    Of a posterior stretched by a degeneracy the first explains more, of modes without relation the second.
    """
    main = mixture.factors[int(np.argmax(mixture.weights))]
    return main, np.exp(np.log(np.abs(np.diag(main))).mean()) * np.eye(len(main))


def _locate(
    t: Array,
    radius: Array,
    unexplained: Flags,
    factor: Array,
    unknown: Callable[[Array], Flags],
    support: tuple[Array, Array],
    rng: np.random.Generator,
    *,
    particles: int = 1000,
    tolerance: float = 0.3,
) -> tuple[Array, float]:
    """Hypotheses of where the mode of the unexplained points lies, with shape (k, d), and the log-density of the first.

    The most likely comes first. A mode at m of width s (in units of the given factor) puts a point at the radius
    |t - m| / s. For the unexplained points this is their radius, within a factor exp(0.3) that stands for other shapes;
    one in ten may belong to yet another mode. For all points it is at least their radius. The posterior of m and s is
    sampled by sequential Monte Carlo, as in a trilateration with unknown units.
    """
    d = t.shape[1]
    unit = np.linalg.inv(factor).T
    z = t @ unit
    low, high = support

    def log_target(theta: Array) -> Array:
        m, log_s = theta[:, :d], theta[:, d]
        out = np.full(len(theta), -np.inf)
        ok = np.asarray(((m >= low) & (m <= high)).all(1))
        ok[ok] = unknown(m[ok])
        away = np.sqrt(((m[ok, None] @ unit - z[None]) ** 2).sum(-1) + 1e-12)
        delta = (np.log(away) - log_s[ok, None] - np.log(radius)) / tolerance
        outside = -0.5 * np.minimum(delta, 0.0) ** 2
        exactly = np.logaddexp(np.log(0.9) - 0.5 * delta**2, np.log(0.1) + outside)
        out[ok] = np.where(unexplained, exactly, outside).sum(1) - 0.5 * log_s[ok] ** 2
        return out

    start = np.column_stack([low + (high - low) * rng.random((particles, d)), rng.standard_normal(particles)])
    start = start[np.isfinite(log_target(start))]
    if len(start) < 100:
        return np.empty((0, d)), -np.inf
    theta = sample_tempered(log_target, start, lambda p: -0.5 * p[:, d] ** 2, (1.0,), rng)[0]
    value = log_target(theta)
    first = int(np.argmax(value))
    found = np.concatenate([theta[first : first + 1], theta[rng.permutation(len(theta))]])[:, :d]
    return found, float(value[first])


def exchanges(groups: Sequence[Indices], d: int) -> Indices:
    """Permutations of d parameters under which a likelihood may well be symmetric, with shape (k, d).

    Components of a mixture, lines of a spectrum and terms of a sum may be exchanged: their parameters come in groups of
    equal priors. First all groups exchange the same two members at once; then blocks of one group do, as if it held
    several kinds of parameters; then single pairs.

    Args:
        groups: Columns of parameters that have the same prior, those of each group in order.
        d: Number of parameters.
    """
    groups = [group for group in groups if len(group) > 1]
    moves: list[list[tuple[int, int]]] = []
    sizes = {len(group) for group in groups}
    if len(groups) > 1 and len(sizes) == 1:
        moves += [[(g[i], g[j]) for g in groups] for i, j in combinations(range(sizes.pop()), 2)]
    for group in groups:
        half, odd = divmod(len(group), 2)
        if half > 1 and not odd:
            moves += [[(group[i], group[half + i]) for i in range(half)]]
            moves += [[(group[2 * i], group[2 * i + 1]) for i in range(half)]]
    moves += [[pair] for group in groups for pair in combinations(group, 2)]
    out = np.tile(np.arange(d), (len(moves), 1))
    for row, pairs in zip(out, moves, strict=True):
        for i, j in pairs:
            row[[i, j]] = row[[j, i]]
    return out


def holes(t: Array, candidates: Array, count: int) -> Indices:
    """Indices of the candidates farthest from all evaluated points and from each other, greedily."""
    distance = ((candidates[:, None, :] - t[None]) ** 2).sum(-1).min(1)
    chosen = []
    for _ in range(count):
        i = int(distance.argmax())
        chosen.append(i)
        distance = np.minimum(distance, ((candidates - candidates[i]) ** 2).sum(1))
    return np.array(chosen, dtype=np.int64)


def representatives(u: Array, draws: Array, count: int) -> Indices:
    """Indices of the draws that, with the points u, best represent all draws, greedily.

    Each reduces the mean squared distance of the draws to the nearest of the points and of those chosen by the most:
    unlike the farthest draws, they lie where the mass is. O(m^2) for m draws, of memory too.
    """
    between = ((draws[:, None, :] - draws[None]) ** 2).sum(-1)
    nearest = ((draws[:, None, :] - u[None]) ** 2).sum(-1).min(1)
    chosen = []
    for _ in range(count):
        i = int(np.minimum(between, nearest).sum(1).argmin())
        chosen.append(i)
        nearest = np.minimum(nearest, between[i])
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


def overlooked(
    log_density: Callable[[Array], Array],
    candidates: Array,
    top: float,
    rng: np.random.Generator,
    *,
    climbers: int = 200,
    rounds: int = 100,
    excess: float = 2.0,
    count: int = 2,
) -> Array:
    """Points where a density is higher by ``excess`` nats than all draws of it, with shape (k, d), k at most ``count``.

    A surrogate may rise without limit in a corner that has no evaluation, and its draws may never have been there: then
    they are not draws of it. The best candidates and as many others climb by differences of candidates, in ever smaller
    steps.

    Args:
        log_density: From (m, d) to (m,), -inf where impossible.
        candidates: Points from anywhere in the support, with shape (m, d).
        top: The highest log density among the draws.
        rng: Random numbers.
        climbers: How many of the candidates climb; half of them are the best, half any.
        rounds: Steps of each.
        excess: Nats above the draws.
        count: Number of points; they are the highest, and of those as high the farthest from it.
    """
    if len(candidates) < 2:
        return candidates[:0]
    value = log_density(candidates)
    order, half = np.argsort(-value, kind="stable"), climbers // 2
    chosen = np.concatenate([order[:half], rng.permutation(order[half:])[:half]])
    t, value = candidates[chosen], value[chosen]
    for size in np.geomspace(0.3, 0.003, rounds):
        i, j = rng.integers(len(candidates), size=(2, len(t)))
        step = size * (candidates[i] - candidates[j])
        new = t + np.where(rng.random(t.shape) < 0.7, step, 0.0)
        higher = log_density(new)
        t = np.where((higher > value)[:, None], new, t)
        value = np.maximum(value, higher)
    t = t[np.argsort(-value, kind="stable")][: int((value > top + excess).sum())]
    if len(t) == 0:
        return t
    return np.concatenate([t[:1], t[1:][holes(t[:1], t[1:], min(count, len(t)) - 1)]])
