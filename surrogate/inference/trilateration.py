"""Locates a mode that the surrogate does not know of, from the values of points around it.

The value of a point gives a radius r = sqrt(2 (y_max - y)), for a Gaussian its Mahalanobis distance from the mode. The
known posterior predicts a radius too. A point whose radius is much smaller than predicted belongs to another mode, and
its radius says how far away that mode is. A few such points locate the mode, as distances to known places locate a
position. Probes go to the most likely places; each adds one more distance, so they close in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.inference.depths import bulk_depth
from surrogate.samplers.mixture import Mixture, fit_mixture
from surrogate.samplers.smc import sample_tempered

__all__ = ["Search", "mixture_of", "radius_of", "search"]


# A radius may be smaller than predicted by this share of it plus this constant. One Gaussian predicts radii well, a
# mixture only roughly.
_EXCESS_OF_ONE = (0.08, 0.3)
_EXCESS_OF_SEVERAL = (0.15, 0.5)
_OUTSIDE = 1.7  # in radii of the bulk; closer points count as explained, since any shape but a Gaussian deviates there
_FORESEEN = (0.02, 0.02)  # share of a radius, and constant, by which a surrogate may miss one that it knows
_NOISE_SDS = 3.0  # of its value by which a noisy point may be off, of thousands of points
_MOST_POINTS = 400  # that locate a mode: the nearest to it, and others that say where it is not
_COMPONENTS = (1, 2, 4, 8)  # of the mixtures among which BIC chooses
_DRAWS_PER_NUMBER = 8  # draws for each coordinate of a mean, without which a mixture is not tried
_GAUSSIAN = 0.5  # root mean square error of radii in the bulk up to which a posterior is taken for one Gaussian
_BRIDGE = 0.03  # weight of a component below which it may be a bridge that leads to an unknown mode
_UNSEEN = 0.01  # weight of a component from which it is evaluated
_STRANGERS = 0.1  # share of the unexplained points that may belong to yet another mode
_HYPOTHESES = 1000  # places and widths of a mode that are followed
_FEWEST_HYPOTHESES = 100  # of these that must be possible, without which a search is hopeless
_TOLERANCE = 0.3  # of log distances: other shapes than an ellipsoid change a radius by a third
_TINY = 1e-12  # squared distance, so that a hypothesis on a point has a logarithm


def radius_of(depth: Array) -> Array:
    """Radius sqrt(2 (depth + 1/2)) of points at a depth, with shape (n,).

    The half nat allows for the best point lying below its own mode: otherwise it would have a radius of zero.
    """
    return np.sqrt(2.0 * depth + 1.0)


@dataclass(frozen=True, eq=False)
class Search:
    """Where a further mode could be.

    Attributes:
        probes: Points to evaluate, with shape (k, d), k = 0 if the known modes explain all evaluations.
        unexplained: Number of evaluated points that the known modes do not explain.
        nearest: Smallest radius among those points; infinite if there are none.
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
    noise: Array | float = 0.0,
    count: int = 2,
) -> Search:
    """Looks for the mode behind the points that the known posterior does not explain.

    Args:
        t: Finite evaluated points in scaled coordinates, with shape (n, d).
        y: Their log-likelihoods, with shape (n,).
        draws: Draws of the known posterior, with shape (m, d).
        trend_depth: Depth of the surrogate's trend below its maximum at t, where the trend explains all the data.
        left_out_depth: Depth that the surrogate predicts for each of t from the others.
        known_depth: Depth of the surrogate below its maximum, from (k, d) to (k,).
        support: Lower and upper corner of the box in which a mode may lie.
        rng: Random numbers.
        noise: Sd of the noise of each value, with shape (n,).
        count: Number of probes for the mode. With 0 unexplained points are only counted; components of the mixture
            that hold no evaluated point are probed in any case.

    Returns:
        The probes. O(50 k n) for k = 1000 hypotheses and at most 400 points.
    """
    bulk = np.sqrt(2.0 * bulk_depth(t.shape[1]))
    depth = y.max() - y
    several = mixture_of(draws, rng)
    mixture = _shape(several, draws, t, depth, bulk, rng)
    known = _mixture_depth(mixture, draws, t) if trend_depth is None else trend_depth
    predicted, radius = np.sqrt(2.0 * known), radius_of(depth)
    share, constant = _EXCESS_OF_ONE if len(mixture.weights) == 1 else _EXCESS_OF_SEVERAL
    by_noise = _NOISE_SDS * noise / radius  # of a radius, to first order
    unexplained = (predicted - radius > share * predicted + constant + by_noise) & (predicted > _OUTSIDE * bulk)
    foreseen = np.abs(radius_of(left_out_depth) - radius) < _FORESEEN[0] * radius + _FORESEEN[1] + by_noise
    unseen = _unseen(several, t)
    if foreseen[unexplained].all():  # not a Gaussian, but the surrogate knows its shape; or nothing is unexplained
        return Search(unseen)
    probes = unseen
    if count > 0:
        some = _informative(radius, unexplained)
        located = [
            _locate(
                t[some], radius[some], unexplained[some], factor, lambda m: known_depth(m) > 0.5 * bulk**2, support, rng
            )
            for factor in _shapes(mixture)
        ]
        probes = np.concatenate([unseen, max(located, key=lambda pair: pair[1])[0][:count]])
    return Search(probes, int(unexplained.sum()), float(radius[unexplained].min()))


def _informative(radius: Array, unexplained: Flags) -> Indices:
    """Rows of the points that locate a mode: at most 400, half of them the unexplained ones of smallest radius."""
    if len(radius) <= _MOST_POINTS:
        return np.arange(len(radius))
    strange, others = np.flatnonzero(unexplained), np.flatnonzero(~unexplained)
    strange = strange[np.argsort(radius[strange], kind="stable")][: _MOST_POINTS // 2]
    spread = np.linspace(0, len(others) - 1, min(len(others), _MOST_POINTS - len(strange))).round().astype(np.int64)
    return np.sort(np.concatenate([strange, others[np.argsort(radius[others], kind="stable")][spread]]))


def _shape(several: Mixture, draws: Array, t: Array, depth: Array, bulk: float, rng: np.random.Generator) -> Mixture:
    """The known posterior as one Gaussian if that predicts the radii of points in the bulk, otherwise as a mixture.

    Values decide, not draws, because the surrogate and with it the draws may have bent towards an unknown mode.
    """
    single = fit_mixture(draws, 1, rng)
    radius = np.sqrt(2.0 * depth)
    inside = radius < bulk
    misfit = (np.sqrt(2.0 * _mixture_depth(single, draws, t)) - radius)[inside]
    return single if np.sqrt((misfit**2).mean()) < _GAUSSIAN else several


def mixture_of(draws: Array, rng: np.random.Generator) -> Mixture:
    """Gaussian mixture fitted to draws, with the number of components chosen by BIC."""
    n, d = draws.shape
    best, lowest = None, np.inf
    for k in _COMPONENTS:
        if best is not None and n < _DRAWS_PER_NUMBER * k * d:
            break
        mixture = fit_mixture(draws, k, rng)
        size = len(mixture.weights)
        bic = -2.0 * mixture.log_density(draws).sum() + size * (1 + d + d * (d + 1) / 2) * np.log(n)
        if bic < lowest:
            best, lowest = mixture, bic
    return best or fit_mixture(draws, 1, rng)


def _mixture_depth(mixture: Mixture, draws: Array, t: Array) -> Array:
    """Depth of a mixture below its maximum over the draws it was fitted to, with shape (n,).

    Components with less than 3 % of the weight are left out: they may be a bridge from a known mode to an unknown one,
    and must not explain it.
    """
    heavy = mixture.weights >= _BRIDGE
    known = Mixture(mixture.weights[heavy], mixture.means[heavy], mixture.factors[heavy])
    return np.maximum(known.log_density(draws).max() - known.log_density(t), 0.0)


def _unseen(mixture: Mixture, t: Array) -> Array:
    """Means of components with at least 1 % of the weight whose bulk holds no evaluated point, with shape (k, d)."""
    d = t.shape[1]
    z = [np.linalg.solve(low, (t - m).T) for m, low in zip(mixture.means, mixture.factors, strict=True)]
    nearest = np.array([(part**2).sum(0).min() for part in z])
    return mixture.means[(nearest > d + 2.0 * np.sqrt(2.0 * d)) & (mixture.weights > _UNSEEN)]


def _shapes(mixture: Mixture) -> tuple[Array, Array]:
    """Candidate shapes of an unknown mode, as Cholesky factors up to scale: that of the main mode, and a sphere.

    The first fits if one degeneracy stretches both modes, the second if the modes are unrelated.
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
    particles: int = _HYPOTHESES,
    tolerance: float = _TOLERANCE,
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
        away = np.sqrt(((m[ok, None] @ unit - z[None]) ** 2).sum(-1) + _TINY)
        delta = (np.log(away) - log_s[ok, None] - np.log(radius)) / tolerance
        outside = -0.5 * np.minimum(delta, 0.0) ** 2
        exactly = np.logaddexp(np.log(1.0 - _STRANGERS) - 0.5 * delta**2, np.log(_STRANGERS) + outside)
        out[ok] = np.where(unexplained, exactly, outside).sum(1) - 0.5 * log_s[ok] ** 2
        return out

    start = np.column_stack([low + (high - low) * rng.random((particles, d)), rng.standard_normal(particles)])
    start = start[np.isfinite(log_target(start))]
    if len(start) < _FEWEST_HYPOTHESES:
        return np.empty((0, d)), -np.inf
    theta = sample_tempered(log_target, start, lambda p: -0.5 * p[:, d] ** 2, (1.0,), rng)[0]
    value = log_target(theta)
    first = int(np.argmax(value))
    found = np.concatenate([theta[first : first + 1], theta[rng.permutation(len(theta))]])[:, :d]
    return found, float(value[first])
