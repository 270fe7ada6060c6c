"""Importance sampling from a fitted mixture: nearly independent draws and the evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array
from surrogate.samplers.mixture import Mixture, fit_mixture

__all__ = ["ImportanceSample", "importance_sample"]


@dataclass(frozen=True, eq=False)
class ImportanceSample:
    """Weighted draws of exp(f) and the integral of exp(f).

    Attributes:
        x: Draws with a finite log density, with shape (n, d).
        log_density: f at the draws, with shape (n,).
        weights: Normalised weights, with shape (n,).
        log_integral: Natural log of the integral of exp(f).
        log_integral_error: Its Monte Carlo standard error.
        ess: Effective number of draws, (sum w)^2 / sum w^2.
    """

    x: Array
    log_density: Array
    weights: Array
    log_integral: float
    log_integral_error: float
    ess: float


def _weigh(
    log_density: Callable[[Array], Array], proposal: Mixture, n: int, rng: np.random.Generator
) -> ImportanceSample:
    x = proposal.sample(n, rng)
    f = log_density(x)
    inside = np.isfinite(f)
    x, f = x[inside], f[inside]
    if len(x) == 0:
        return ImportanceSample(x, f, f, -np.inf, np.inf, 0.0)
    log_w = f - proposal.log_density(x)
    total = logsumexp(log_w)
    w = np.exp(log_w - total)
    ess = 1.0 / float((w**2).sum())
    error = np.sqrt(max(1.0 / ess - 1.0 / n, 0.0))
    return ImportanceSample(x, f, w, float(total - np.log(n)), float(error), ess)


def importance_sample(
    log_density: Callable[[Array], Array],
    draws: Array,
    n: int,
    rng: np.random.Generator,
    *,
    ess_fraction: float = 0.3,
    components: tuple[int, ...] = (1, 4, 12),
    extra: Mixture | None = None,
    known: Mixture | None = None,
) -> ImportanceSample:
    """A weighted sample of exp(f) from a mixture of Student-t distributions fitted to a chain.

    Mixtures with more and more components are tried until the effective fraction suffices; the best sample is returned.
    Each mixture has a component three times as wide as the chain, with a tenth of the weight.

    Args:
        log_density: f, from (m, d) to (m,).
        draws: Approximate draws of exp(f), with shape (m, d).
        n: Number of draws from the proposal.
        rng: Random numbers.
        ess_fraction: Effective fraction at which the search for a better mixture ends.
        components: Numbers of components to try, in this order.
        extra: Further components of the proposal, given a tenth of the weight.
        known: A mixture close to exp(f) from elsewhere, tried first.

    Returns:
        The sample with the largest effective size, after n evaluations of f per mixture.

    Raises:
        ValueError: If ``components`` is empty.
    """
    wide = fit_mixture(draws, 1, rng).widened(3.0)
    best: ImportanceSample | None = None
    usable = [count for count in components if count <= max(1, len(draws) // (4 * draws.shape[1]))]
    for count in ([] if known is None else [0]) + usable:
        fitted = known if known is not None and count == 0 else fit_mixture(draws, count, rng)
        proposal = fitted.widened(1.07, dof=6.0).joined(wide, 0.1)
        if extra is not None:
            proposal = proposal.joined(extra, 0.1)
        sample = _weigh(log_density, proposal, n, rng)
        if best is None or sample.ess > best.ess:
            best = sample
        if best.ess > ess_fraction * n:
            break
    if best is None:
        msg = "components must not be empty"
        raise ValueError(msg)
    return best
