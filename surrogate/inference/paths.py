"""Posteriors of joint paths of a surrogate, by re-weighting a common set of draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array
from surrogate.inference.divergence import gaussian_kl
from surrogate.log_density.protocol import LogDensity
from surrogate.samplers.evidence import ImportanceSample

__all__ = ["PathSpread", "inflation", "spread_of_paths", "warm_log_weights"]


_PATHS = 64  # paths, so that the 95 % quantile is the fourth largest
_POINTS = 300  # draws at which paths are evaluated jointly: moments to 6 % of an sd
_QUANTILE = 0.95  # quantile of the divergences, which one path in twenty may exceed
_PRIOR_ERRORS = (
    4.0  # prior errors of unit variance in the factor on the variance, so that few errors do not dominate it
)
_NEVER = 1e-300  # weight used instead of zero, so that the logarithm exists


@dataclass(frozen=True, eq=False)
class PathSpread:
    """Divergences of the posteriors of joint paths from the posterior of the surrogate's mean.

    Attributes:
        bulk: The 95 % quantile over paths of the divergence from the posterior of the mean, in nats.
        warm: The same for warmer draws without the trust region.
        log_evidence: Sd over paths of the log evidence.
        mean: Mean of the parameters under each path minus that under the mean, with shape (paths, d).
        sd: Relative change of the parameters' sds, with shape (paths, d).
        rng: The random stream after drawing the paths.
    """

    bulk: float
    warm: float
    log_evidence: float
    mean: Array
    sd: Array
    rng: np.random.Generator


def spread_of_paths(
    model: LogDensity,
    sample: ImportanceSample,
    rng: np.random.Generator,
    *,
    inflate: float = 1.0,
    paths: int = _PATHS,
    points: int = _POINTS,
    features: Callable[[Array], Array] | None = None,
) -> PathSpread:
    """Divergences of the posteriors of joint paths from that of the mean, on the bulk and on warmer draws.

    Args:
        model: Surrogate at temperature 1.
        sample: Weighted draws of its posterior.
        rng: Random numbers.
        inflate: Factor on the variance of the paths, from errors of earlier batches.
        paths: Number of paths.
        points: Number of draws in each set.
        features: Function from (m, d) to (m, e), by whose moments posteriors are compared; None for the draws
            themselves.

    Returns:
        The spread, in O(points^2 (n + p)) for n training points and p coefficients of the trend.
    """
    bulk = rng.choice(len(sample.x), points, p=sample.weights)
    delta = model.deviations(sample.x[bulk], paths, rng, inflate=inflate)
    x = sample.x[bulk]
    bulk_kl = gaussian_kl(x if features is None else features(x), np.zeros(points), delta)
    log_z, w = _path_weights(delta)
    mean = w @ x - x.mean(0)
    width = np.where(x.std(0) > 0.0, x.std(0), np.inf)  # a code may be equal in all draws
    sd = np.sqrt(np.maximum(w @ x**2 - (w @ x) ** 2, 0.0)) / width - 1.0

    log_warm = warm_log_weights(model, sample)
    warm_w = np.exp(log_warm - logsumexp(log_warm))
    half = 0.5 * (sample.weights + warm_w)
    index = rng.choice(len(sample.x), points, p=half / half.sum())
    mixed = sample.x[index]
    with np.errstate(divide="ignore"):
        base = np.log(sample.weights[index]) - np.log(half[index])
    deviation = model.deviations(mixed, paths, rng, inflate=inflate)
    # The density of a path does not include the trust region, so it reveals what the mean has cut off.
    unbent = base + model.bare_mean(mixed) - model.smooth(mixed)
    warm_kl = gaussian_kl(mixed if features is None else features(mixed), base, unbent + deviation)
    return PathSpread(
        float(np.quantile(bulk_kl, _QUANTILE, method="higher")),
        float(np.quantile(warm_kl, _QUANTILE, method="higher")),
        float(log_z.std()),
        mean,
        sd,
        rng,
    )


def warm_log_weights(model: LogDensity, sample: ImportanceSample) -> Array:
    """Log weights of the draws for the density without trust region and feasibility, at temperature 1 + 2 / sqrt(d).

    This temperature raises the mean depth of a Gaussian by sqrt(d), which is 1.4 sds of its depth for any d.
    """
    log_q = sample.log_density - np.log(np.maximum(sample.weights, _NEVER))
    return model.bare_mean(sample.x) / (1.0 + 2.0 / np.sqrt(sample.x.shape[1])) - log_q


def _path_weights(delta: Array) -> tuple[Array, Array]:
    """Log evidences of paths relative to that of the mean, with shape (k,), and weights of draws under each path.

    If all draws are infeasible under a path, it counts as if one were feasible, and the weights are unchanged.
    """
    some = np.asarray(np.isfinite(delta).any(1))
    shown = np.where(some[:, None], delta, 0.0)
    log_z = logsumexp(shown, axis=1)
    w = np.exp(shown - log_z[:, None])
    return np.where(some, log_z, 0.0) - np.log(delta.shape[1]), w


def inflation(z: Array) -> float:
    """Factor on the variance of the surrogate from standardised errors of recent batches, at least 1.

    (4 + sum z^2) / (4 + k): four prior errors of unit variance stabilise it for small k.
    """
    return max(1.0, (_PRIOR_ERRORS + float((z**2).sum())) / (_PRIOR_ERRORS + len(z)))
