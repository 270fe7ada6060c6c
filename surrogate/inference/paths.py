"""The posteriors of joint paths of a surrogate, by re-weighting one set of draws, which share their sampling noise."""

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


_PATHS = 64  # among which the quantile of 95 % is the fourth largest
_POINTS = 300  # draws at which paths are drawn jointly: moments to 6 % of an sd
_QUANTILE = 0.95  # of the divergences over paths: one path in twenty may be further away
_PRIOR_ERRORS = 4.0  # errors of unit variance that a factor on the variance starts from, so that a few do not rule it
_NEVER = 1e-300  # weight in place of zero, so that a logarithm exists


@dataclass(frozen=True, eq=False)
class PathSpread:
    """Divergences of the posteriors of joint paths from the posterior of the surrogate's mean.

    Attributes:
        bulk: The 95 % quantile over paths of the divergence from the posterior of the mean, in nats.
        warm: The same on warmer draws without the trust region.
        log_evidence: Sd over paths of the log evidence.
        mean: Mean of the parameters under each path minus that under the mean, with shape (paths, d).
        sd: Relative change of their sds, with shape (paths, d).
        rng: The random numbers that follow those of the paths.
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
        features: Columns by whose moments posteriors are compared, from (m, d) to (m, e); the draws themselves if None.

    Returns:
        The spread. O(points^2 (n + p)) for n training points and p coefficients of the trend.
    """
    bulk = rng.choice(len(sample.x), points, p=sample.weights)
    delta = model.deviations(sample.x[bulk], paths, rng, inflate=inflate)
    x = sample.x[bulk]
    bulk_kl = gaussian_kl(x if features is None else features(x), np.zeros(points), delta)
    log_z, w = _path_weights(delta)
    mean = w @ x - x.mean(0)
    width = np.where(x.std(0) > 0.0, x.std(0), np.inf)  # a code may be the same in all draws
    sd = np.sqrt(np.maximum(w @ x**2 - (w @ x) ** 2, 0.0)) / width - 1.0

    log_warm = warm_log_weights(model, sample)
    warm_w = np.exp(log_warm - logsumexp(log_warm))
    half = 0.5 * (sample.weights + warm_w)
    index = rng.choice(len(sample.x), points, p=half / half.sum())
    mixed = sample.x[index]
    with np.errstate(divide="ignore"):
        base = np.log(sample.weights[index]) - np.log(half[index])
    deviation = model.deviations(mixed, paths, rng, inflate=inflate)
    # The path's own density lacks the bend of the trust region: that is how it sees what the mean has cut off.
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

    It raises the mean depth of a Gaussian by sqrt(d), which is 1.4 sds of its depth in any number of dimensions.
    """
    log_q = sample.log_density - np.log(np.maximum(sample.weights, _NEVER))
    return model.bare_mean(sample.x) / (1.0 + 2.0 / np.sqrt(sample.x.shape[1])) - log_q


def _path_weights(delta: Array) -> tuple[Array, Array]:
    """Log evidences of paths relative to that of the mean, shape (k,), and the weights of the draws under each path.

    A path in which all draws are infeasible counts as if one of them were feasible, and leaves their weights alone.
    """
    some = np.asarray(np.isfinite(delta).any(1))
    shown = np.where(some[:, None], delta, 0.0)
    log_z = logsumexp(shown, axis=1)
    w = np.exp(shown - log_z[:, None])
    return np.where(some, log_z, 0.0) - np.log(delta.shape[1]), w


def inflation(z: Array) -> float:
    """Factor on the variance of the surrogate from standardised errors of recent batches, at least 1.

    (4 + sum z^2) / (4 + k): four prior errors of unit variance keep it calm when k is small.
    """
    return max(1.0, (_PRIOR_ERRORS + float((z**2).sum())) / (_PRIOR_ERRORS + len(z)))
