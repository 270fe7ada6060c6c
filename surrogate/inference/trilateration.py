"""Trilateration: locating an unknown mode from the values of points around it.

The value of a point gives a radius r = sqrt(2 (y_max - y)), which for a Gaussian is its Mahalanobis distance from the
mode. The known posterior also predicts a radius. A point whose radius is much smaller than predicted belongs to another
mode, and its radius tells the distance to it. A few such points locate the mode, as distances to known places determine
a position. Probes are evaluated at the most likely places, and each adds a distance, so they approach the mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.inference.depths import bulk_depth
from surrogate.log_density.remainder import Remainder
from surrogate.samplers.mixture import Mixture, fit_mixture
from surrogate.samplers.smc import sample_tempered

__all__ = ["Search", "mixture_of", "radius_of", "search"]


# Tolerances: a radius may be smaller than predicted by this share plus this constant. A single Gaussian predicts radii
# well, a mixture only roughly.
_EXCESS_OF_ONE = (0.08, 0.3)
_EXCESS_OF_SEVERAL = (0.15, 0.5)
_OUTSIDE = 1.7  # in radii of the bulk; closer points count as explained, because non-Gaussian shapes deviate there
_FORESEEN = (0.02, 0.02)  # share of a radius, and constant, by which the surrogate may misjudge a known radius
_NOISE_SDS = 3.0  # sds of noise by which a value may be off, among thousands of points
_MOST_POINTS = 400  # points used to locate a mode: the nearest ones, and others that exclude regions
_COMPONENTS = (1, 2, 4, 8)  # numbers of mixture components among which BIC chooses
_DRAWS_PER_NUMBER = 8  # draws per coordinate of the means that a mixture needs
_GAUSSIAN = 0.5  # root mean square error of radii in the bulk up to which a posterior counts as one Gaussian
_BRIDGE = 0.03  # weight below which a component may be a bridge to an unknown mode
_UNSEEN = 0.01  # weight above which a component is probed
_STRANGERS = 0.1  # share of the unexplained points that may belong to yet another mode
_HYPOTHESES = 1000  # hypotheses on position and width of a mode
_FEWEST_HYPOTHESES = 100  # smallest number of possible hypotheses for a search
_TOLERANCE = 0.3  # tolerance of log distances: non-ellipsoidal shapes change a radius by a third
_TINY = 1e-12  # added to squared distances, so that their logarithm exists


def radius_of(depth: Array) -> Array:
    """Radius sqrt(2 (depth + 1/2)) of points at a depth, with shape (n,).

    The half nat accounts for the best point lying below its own mode; otherwise its radius would be zero. Predictions
    above the best value, whose depth is negative, count as this value.
    """
    return np.sqrt(2.0 * np.maximum(depth, 0.0) + 1.0)


@dataclass(frozen=True, eq=False)
class Search:
    """The result of a search for a further mode.

    Attributes:
        probes: Points to evaluate, with shape (k, d), k = 0 if the known modes explain all evaluations.
        unseen: Those of them that are components of the known posterior without evaluated points, with shape (j, d).
        unexplained: Number of evaluated points that the known modes do not explain.
        nearest: Smallest radius among those points; infinite if there are none.
    """

    probes: Array
    unseen: Array
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
    rest: Remainder | None = None,
) -> Search:
    """A search for the mode of the points that the known posterior does not explain.

    Args:
        t: Finite evaluated points in scaled coordinates, with shape (n, d).
        y: Their log-likelihoods, with shape (n,).
        draws: Draws of the known posterior, with shape (m, d).
        trend_depth: Depth of the surrogate's trend at t below its maximum, used if the trend explains all data.
        left_out_depth: Leave-one-out prediction of the depth at each of t.
        known_depth: Function that gives the surrogate's depth below its maximum at points with shape (k, d).
        support: Lower and upper corners of the box in which a mode may lie.
        rng: Random numbers.
        noise: Sd of the noise of each value, with shape (n,).
        count: Number of probes for the mode. If 0, unexplained points are only counted. Components of the mixture
            without evaluated points are probed in any case.
        rest: What Gaussians leave of the values; only its hints are unexplained then, and tell how far the mode is.

    Returns:
        The search, in O(50 k n) for k = 1000 hypotheses and at most 400 points.
    """
    bulk = np.sqrt(2.0 * bulk_depth(t.shape[1]))
    depth = y.max() - y
    several = mixture_of(draws, rng)
    mixture = _shape(several, draws, t, depth, bulk, rng)
    known = _mixture_depth(mixture, draws, t) if trend_depth is None else trend_depth
    predicted, radius = np.sqrt(2.0 * known), radius_of(depth)
    share, constant = _EXCESS_OF_ONE if len(mixture.weights) == 1 else _EXCESS_OF_SEVERAL
    by_noise = _NOISE_SDS * noise / radius  # error of a radius, to first order
    unexplained = (predicted - radius > share * predicted + constant + by_noise) & (predicted > _OUTSIDE * bulk)
    foreseen = np.abs(radius_of(left_out_depth) - radius) < _FORESEEN[0] * radius + _FORESEEN[1] + by_noise
    unseen = _unseen_components(several, t)
    if rest is not None:
        unexplained, foreseen, radius = rest.hints, ~rest.hints, radius_of(y.max() - rest.log_likelihood)
    if foreseen[unexplained].all():  # not a Gaussian, but the surrogate knows the shape; or nothing is unexplained
        return Search(unseen, unseen)
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
    return Search(probes, unseen, int(unexplained.sum()), float(radius[unexplained].min()))


def _informative(radius: Array, unexplained: Flags) -> Indices:
    """Rows of the points used to locate a mode: at most 400, half of them unexplained with the smallest radii."""
    if len(radius) <= _MOST_POINTS:
        return np.arange(len(radius))
    strange, others = np.flatnonzero(unexplained), np.flatnonzero(~unexplained)
    strange = strange[np.argsort(radius[strange], kind="stable")][: _MOST_POINTS // 2]
    spread = np.linspace(0, len(others) - 1, min(len(others), _MOST_POINTS - len(strange))).round().astype(np.int64)
    return np.sort(np.concatenate([strange, others[np.argsort(radius[others], kind="stable")][spread]]))


def _shape(several: Mixture, draws: Array, t: Array, depth: Array, bulk: float, rng: np.random.Generator) -> Mixture:
    """The known posterior as one Gaussian if it predicts the radii of points in the bulk, otherwise as a mixture.

    This is decided by values, not draws, because the surrogate and its draws may be distorted towards an unknown mode.
    """
    single = fit_mixture(draws, 1, rng)
    radius = np.sqrt(2.0 * depth)
    inside = radius < bulk
    misfit = (np.sqrt(2.0 * _mixture_depth(single, draws, t)) - radius)[inside]
    return single if np.sqrt((misfit**2).mean()) < _GAUSSIAN else several


def mixture_of(draws: Array, rng: np.random.Generator) -> Mixture:
    """A Gaussian mixture fitted to draws, with the number of components chosen by BIC."""
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
    """Depth of a mixture at t below its maximum over the draws, with shape (n,).

    Components with less than 3 % of the weight are left out, because they may be a bridge to an unknown mode, which
    they must not explain.
    """
    heavy = mixture.weights >= _BRIDGE
    known = Mixture(mixture.weights[heavy], mixture.means[heavy], mixture.factors[heavy])
    return np.maximum(known.log_density(draws).max() - known.log_density(t), 0.0)


def _unseen_components(mixture: Mixture, t: Array) -> Array:
    """Means, with shape (k, d), of components with at least 1 % of the weight and no evaluated point in the bulk."""
    d = t.shape[1]
    z = [np.linalg.solve(low, (t - m).T) for m, low in zip(mixture.means, mixture.factors, strict=True)]
    nearest = np.array([(part**2).sum(0).min() for part in z])
    return mixture.means[(nearest > d + 2.0 * np.sqrt(2.0 * d)) & (mixture.weights > _UNSEEN)]


def _shapes(mixture: Mixture) -> tuple[Array, Array]:
    """Candidate shapes of an unknown mode, as Cholesky factors up to scale: that of the main mode, and a sphere.

    The first suits modes stretched by the same degeneracy, the second unrelated modes.
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
    """Hypothetical positions of the mode of unexplained points, with shape (k, d), and the log-density of the first.

    The most likely comes first. For a mode at m with width s (in units of the given factor) a point has the radius |t -
    m| / s. For unexplained points this must equal the observed radius within a factor exp(0.3), which allows for other
    shapes; one in ten may belong to yet another mode. For all other points it must be at least the observed radius. The
    posterior of m and s is sampled by sequential Monte Carlo, as in trilateration with unknown units.
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
