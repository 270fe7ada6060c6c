"""Locating a mode that a surrogate does not know of by the distances at which evaluated points lie from it.

Each evaluated point has a radius r = sqrt(2 (y_max - y)): for a Gaussian its Mahalanobis distance from the mode. The
found posterior predicts a radius too. Points that are much closer to a mode than predicted belong to another one, and
their radii say how far away it is: a few of them locate it as distances to known places locate a position. Probes go
to the most likely places; each is one more distance, so that they close in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.inference.depths import bulk_depth
from surrogate.samplers.mixture import Mixture, fit_mixture
from surrogate.samplers.smc import sample_tempered

__all__ = ["Search", "radius_of", "search"]


# A radius may be shorter than predicted by a share of it and a constant. A Gaussian predicts radii well, a shape made
# of several only roughly.
_EXCESS_OF_ONE = (0.08, 0.3)
_EXCESS_OF_SEVERAL = (0.15, 0.5)
_OUTSIDE = 1.7  # radii of the bulk within which no point is unexplained: other shapes than a Gaussian deviate there
_FORESEEN = (0.02, 0.02)  # share of a radius, and constant, by which a surrogate may miss one that it knows
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


def radius_of(gap: Array) -> Array:
    """Radius of points at depths of shape (n,), from the mode of their own: half a nat off for the mode's own depth.

    The best point lies below its mode, so that sqrt(2 gap) alone would put points as high at a distance of nothing.
    """
    return np.sqrt(2.0 * gap + 1.0)


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
    bulk = np.sqrt(2.0 * bulk_depth(t.shape[1]))
    gap = y.max() - y
    several = _cloud_mixture(draws, rng)
    mixture = _shape(several, draws, t, gap, bulk, rng)
    depth = _mixture_depth(mixture, draws, t) if trend_depth is None else trend_depth
    predicted, radius = np.sqrt(2.0 * depth), radius_of(gap)
    share, constant = _EXCESS_OF_ONE if len(mixture.weights) == 1 else _EXCESS_OF_SEVERAL
    unexplained = (predicted - radius > share * predicted + constant) & (predicted > _OUTSIDE * bulk)
    foreseen = np.abs(radius_of(left_out_depth) - radius) < _FORESEEN[0] * radius + _FORESEEN[1]
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


def _shape(several: Mixture, draws: Array, t: Array, gap: Array, bulk: float, rng: np.random.Generator) -> Mixture:
    """The found posterior as one Gaussian, if that gives the radii of the evaluated points in the bulk, or as several.

    The values decide, not the draws: these may follow a surrogate that has bent towards a mode it does not know.
    """
    single = fit_mixture(draws, 1, rng)
    radius = np.sqrt(2.0 * gap)
    inside = radius < bulk
    misfit = (np.sqrt(2.0 * _mixture_depth(single, draws, t)) - radius)[inside]
    return single if np.sqrt((misfit**2).mean()) < _GAUSSIAN else several


def _cloud_mixture(draws: Array, rng: np.random.Generator) -> Mixture:
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

    Components with less than 3 % of the weight are left out: a bridge that the surrogate has built towards an unknown
    mode must not explain it.
    """
    heavy = mixture.weights >= _BRIDGE
    known = Mixture(mixture.weights[heavy], mixture.means[heavy], mixture.factors[heavy])
    return np.maximum(known.log_density(draws).max() - known.log_density(t), 0.0)


def _unseen(mixture: Mixture, t: Array) -> Array:
    """Means of the components, of some weight, in whose bulk no point t was evaluated, with shape (k, d)."""
    d = t.shape[1]
    z = [np.linalg.solve(low, (t - m).T) for m, low in zip(mixture.means, mixture.factors, strict=True)]
    nearest = np.array([(part**2).sum(0).min() for part in z])
    return mixture.means[(nearest > d + 2.0 * np.sqrt(2.0 * d)) & (mixture.weights > _UNSEEN)]


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
