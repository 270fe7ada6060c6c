"""When to stop, and why: signals of convergence and the rule that combines them.

Each signal alone makes false claims, so all must agree:

* *spread*: how far the posteriors of joint paths of the process lie from that of its mean, by re-weighting one set of
  draws (common random numbers, no sampling noise); on the bulk, and on warmer draws that ignore the trust region, where
  it sees an arm of the posterior that the mean has cut off. Where feasibility is open the border has paths too;
* *batch*: the points just evaluated were predicted beforehand;
* *moved*: one batch later the posterior has not moved, again by re-weighting one set of draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array, Flags
from surrogate.log_density.parameters import relevant_depth
from surrogate.log_density.protocol import LogDensity
from surrogate.problem.accuracy import Thresholds
from surrogate.samplers.evidence import ImportanceSample

__all__ = [
    "Signals",
    "Verdict",
    "batch_error",
    "gaussian_kl",
    "hole_error",
    "inflation",
    "judge",
    "moved",
    "spread",
]


@dataclass(frozen=True)
class Verdict:
    """Whether to stop.

    Attributes:
        stop: True when the run is over.
        converged: True when the posterior is known, as far as the modes go that were found; without ``stop`` the
            search for further ones goes on.
        armed: True when one more batch that moves nothing would be convergence.
        reason: A sentence.
    """

    stop: bool
    converged: bool
    armed: bool
    reason: str


@dataclass(frozen=True)
class Signals:
    """What a run knows about its own convergence after an iteration; see ``Thresholds`` for the units.

    ``border`` is the share of the posterior that is expected to be infeasible, for the record, and ``labels`` the sd of
    the log evidence that comes from holes without a label, see ``hole_error``.
    """

    spread: float = np.inf
    warm: float = np.inf
    log_evidence: float = np.inf
    batch: float = np.inf
    moved: float = np.inf
    border: float = 0.0
    ess: float = 0.0
    labels: float = 0.0


def hole_error(seen: int) -> float:
    """Sd of the log evidence that comes from forbidden regions without a label.

    One that no point has fallen into holds a share of about 1 / (n + 1) of the posterior after n feasible points there.
    """
    return 1.0 / (seen + 1.0)


def gaussian_kl(x: Array, log_v: Array, log_w: Array) -> Array:
    """Symmetrised Gaussian divergence between one weighting of points and each of several others.

    Args:
        x: Points, with shape (n, d).
        log_v: Log weights of the reference, with shape (n,).
        log_w: Log weights of the others, with shape (k, n).

    Returns:
        Divergences in nats, with shape (k,), infinite for a weighting that leaves no point. O(k n d^2).
    """
    d, some = x.shape[1], np.asarray(np.isfinite(log_w).any(1))
    if not some.all():
        out = np.full(len(log_w), np.inf)
        out[some] = gaussian_kl(x, log_v, log_w[some]) if some.any() else np.inf
        return out
    v = np.exp(log_v - logsumexp(log_v))
    mean = v @ x
    covariance = (v[:, None] * (x - mean)).T @ (x - mean) + 1e-300 * np.eye(d)
    scale = np.sqrt(np.diag(covariance))
    z = np.linalg.solve(
        np.linalg.cholesky(covariance / np.outer(scale, scale) + 1e-12 * np.eye(d)), ((x - mean) / scale).T
    ).T
    w = np.exp(log_w - logsumexp(log_w, axis=1, keepdims=True))
    shift = w @ z
    second = np.einsum("kn,ni,nj->kij", w, z, z) - shift[:, :, None] * shift[:, None, :]
    second += 1e-9 * np.eye(d)
    inverse = np.linalg.inv(second)
    trace = np.trace(second, axis1=1, axis2=2) + np.trace(inverse, axis1=1, axis2=2) - 2 * d
    pull = (shift**2).sum(1) + np.einsum("ki,kij,kj->k", shift, inverse, shift)
    return 0.25 * (trace + pull)


def spread(
    model: LogDensity,
    sample: ImportanceSample,
    warm_log_weights: Array,
    rng: np.random.Generator,
    *,
    inflate: float = 1.0,
    paths: int = 64,
    points: int = 300,
) -> tuple[float, float, float, Array, Array]:
    """How far the posteriors of joint paths lie from that of the mean, on the bulk and on warmer draws.

    Args:
        model: Surrogate at temperature 1.
        sample: Weighted draws of its posterior.
        warm_log_weights: Log importance weights of the same draws for the warmer density without the trust region,
            with the shape of ``sample.weights``.
        rng: Random numbers.
        inflate: Factor on the variance of the paths, from errors of earlier batches.
        paths: Number of paths.
        points: Number of draws in each set.

    Returns:
        The 95 % quantile on the bulk, that on the warmer draws, the sd of the log evidence; and the mean and sd of the
        parameters over the paths relative to those of the mean surrogate, each with shape (paths, d).
        O(points^2 (n + p)).
    """
    bulk = rng.choice(len(sample.x), points, p=sample.weights)
    delta = model.deviations(sample.x[bulk], paths, rng, inflate=inflate)
    x = sample.x[bulk]
    bulk_kl = gaussian_kl(x, np.zeros(points), delta)
    log_z, w = _path_weights(delta)
    mean = w @ x - x.mean(0)
    sd = np.sqrt(np.maximum(w @ x**2 - (w @ x) ** 2, 0.0)) / x.std(0) - 1.0

    warm_w = np.exp(warm_log_weights - logsumexp(warm_log_weights))
    half = 0.5 * (sample.weights + warm_w)
    index = rng.choice(len(sample.x), points, p=half / half.sum())
    mixed = sample.x[index]
    with np.errstate(divide="ignore"):
        base = np.log(sample.weights[index]) - np.log(half[index])
    deviation = model.deviations(mixed, paths, rng, inflate=inflate)
    # The path's own density lacks the bend of the trust region: that is how it sees what the mean has cut off.
    unbent = base + model.bare_mean(mixed) - model.smooth(mixed)
    warm_kl = gaussian_kl(mixed, base, unbent + deviation)
    return (
        float(np.quantile(bulk_kl, 0.95, method="higher")),
        float(np.quantile(warm_kl, 0.95, method="higher")),
        float(log_z.std()),
        mean,
        sd,
    )


def _path_weights(delta: Array) -> tuple[Array, Array]:
    """Log evidences of paths relative to that of the mean, with shape (k,), and the weights of the draws under each.

    A path of the border that forbids all draws gets the evidence of one of them, and leaves their weights as they were.
    """
    some = np.asarray(np.isfinite(delta).any(1))
    shown = np.where(some[:, None], delta, 0.0)
    log_z = logsumexp(shown, axis=1)
    w = np.exp(shown - log_z[:, None])
    return np.where(some, log_z, 0.0) - np.log(delta.shape[1]), w


def inflation(z: Array) -> float:
    """Factor on the process's variance from standardised errors of recent batches, at least 1.

    (4 + sum z^2) / (4 + k): four prior points of unit variance keep it calm when k is small.
    """
    return max(1.0, (4.0 + float((z**2).sum())) / (4.0 + len(z)))


def batch_error(y: Array, predicted: Array, y_max: float, *, noise: Array | float = 0.0) -> float:
    """Largest |y - predicted| / (0.25 + 0.1 gap) over a batch; the gap is that of the higher of both.

    What noise explains, 2.5 of its standard deviations, is no error.
    """
    if len(y) == 0:
        return 0.0
    top = max(y_max, float(predicted.max()))
    gap = top - np.maximum(y, predicted)
    return float((np.maximum(np.abs(y - predicted) - 2.5 * noise, 0.0) / (0.25 + 0.1 * gap)).max())


def moved(
    sample: ImportanceSample, before: Array, now: Array, rng: np.random.Generator, *, points: int = 2000
) -> float:
    """Divergence between the previous posterior and the present one by re-weighting present draws.

    Args:
        sample: Weighted draws of the present posterior.
        before: Previous log density at the draws, up to a constant, with shape (n,).
        now: Present log density at the draws.
        rng: Random numbers.
        points: Number of draws used.
    """
    index = rng.choice(len(sample.x), points, p=sample.weights)
    change = np.where(np.isfinite(before[index]), before[index] - now[index], -np.inf)
    if not np.isfinite(change).any():
        return np.inf
    return float(gaussian_kl(sample.x[index], np.zeros(points), change[None])[0])


def judge(signals: Signals, thresholds: Thresholds, *, armed: bool, min_ess: float = 300.0) -> Verdict:
    """Convergence when all signals agree in one iteration and nothing moves in the next."""
    t, s = thresholds, signals
    if armed and s.moved < t.moved and s.spread < 4.0 * t.spread and s.batch < 4.0 * t.batch:
        reason = (
            f"converged: the last batch moved the posterior by {s.moved:.2g} nats (limit {t.moved:g}), draws of the "
            f"surrogate differ from its mean by {s.spread:.2g} (limit {t.spread:g})"
        )
        return Verdict(True, True, True, reason)
    checks = {
        "spread": (s.spread, t.spread),
        "warm spread": (s.warm, t.warm),
        "log-evidence sd": (s.log_evidence, t.log_evidence),
        "batch error": (s.batch, t.batch),
    }
    failing = {name: value for name, (value, limit) in checks.items() if not value < limit}
    if s.ess < min_ess:
        return Verdict(False, False, False, f"effective size of the draws {s.ess:.0f} below {min_ess:.0f}")
    if failing:
        name, value = max(failing.items(), key=lambda item: item[1] / checks[item[0]][1])
        return Verdict(False, False, False, f"{name} {value:.2g} above {checks[name][1]:g}")
    return Verdict(False, False, True, "all signals agree; one more batch must move nothing")


def relevant(y: Array, predicted: Array, y_max: float, d: int) -> Flags:
    """Which points of a batch count for ``inflation``: predicted within d / 2 + 6 of the maximum."""
    return (y_max - predicted < 0.5 * d + 6.0) & (y_max - y < relevant_depth(d))
