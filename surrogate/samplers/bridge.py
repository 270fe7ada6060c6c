"""Bridge sampling: the integral of a density from a chain and from draws of a mixture fitted to other draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array
from surrogate.samplers.mixture import Mixture, fit_mixture

__all__ = ["Bridge", "bridge_sample"]


_FITTED = 4000  # most draws for fitting the mixtures, and as many again for comparing them
_STEPS = 1000  # iterations of the fixed point; each at least halves the error if both samples are similar
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Bridge:
    """A bridge-sampling estimate.

    Attributes:
        log_integral: Natural log of the integral of exp(f); NaN where the two samples do not overlap.
        log_integral_error: Its standard error, which allows for the autocorrelation of the chain; infinite if they do
            not overlap.
    """

    log_integral: float
    log_integral_error: float


def bridge_sample(
    log_density: Callable[[Array], Array],
    draws: Array,
    log_values: Array,
    ess: float,
    rng: np.random.Generator,
    *,
    components: tuple[int, ...] = (1, 4, 12),
) -> Bridge:
    """The integral of exp(f) by the optimal bridge between a chain of it and a proposal.

    A Student-t mixture is fitted to half of the draws; the bridge connects the other half with as many draws of the
    mixture. Unlike importance weights, the ratios of a bridge are bounded: if the proposal misses a tail of the target,
    the estimate loses precision but stays consistent, and regions that only the chain has visited still count.

    Args:
        log_density: f, from (m, d) to (m,); -inf is legal.
        draws: Equally weighted draws of exp(f) in random order, with shape (n, d).
        log_values: f at the draws, with shape (n,).
        ess: Their effective number of independent draws.
        rng: Random numbers.
        components: Numbers of mixture components to compare by the likelihood of held-out draws.

    Returns:
        The estimate, after n / 2 calls of f in one batch.

    References:
        Meng & Wong (1996), https://www3.stat.sinica.edu.tw/statistica/j6n4/j6n43/j6n43.htm, for the bridge;
        Fruehwirth-Schnatter (2004), doi:10.1111/j.1368-423X.2004.00125.x, for its error, where the chain counts as
        ``ess`` draws instead of using the spectrum of its values.
    """
    half = len(draws) // 2
    other, chain, values = draws[:half], draws[half:], log_values[half:]
    proposal = _proposal(other, components, rng)
    x = proposal.sample(len(chain), rng)
    of_chain = values - proposal.log_density(chain)
    of_proposal = log_density(x) - proposal.log_density(x)
    return _bridged(of_chain, of_proposal, max(ess * len(chain) / len(draws), 1.0))


def _proposal(draws: Array, components: tuple[int, ...], rng: np.random.Generator) -> Mixture:
    """The mixture with the largest likelihood of held-out draws."""
    fitted, judged = draws[: len(draws) // 2][:_FITTED], draws[len(draws) // 2 :][:_FITTED]
    few = [k for k in components if k == 1 or 8 * k * draws.shape[1] <= len(fitted)]
    mixtures = [fit_mixture(fitted, k, rng).widened(1.07, dof=6.0) for k in few]
    return max(mixtures, key=lambda mixture: float(mixture.log_density(judged).mean()))


def _bridged(of_chain: Array, of_proposal: Array, ess: float) -> Bridge:
    """The fixed point r of r = mean_q[l / (s l + (1 - s) r)] / mean_p[1 / (s l + (1 - s) r)] for the ratios l = p / q.

    Args:
        of_chain: log l at draws of p, with shape (m,).
        of_proposal: log l at draws of q, with shape (k,); may be -inf.
        ess: Effective number of independent draws of p.
    """
    log_s, log_rest = -np.log1p(len(of_proposal) / ess), -np.log1p(ess / len(of_proposal))
    if not np.isfinite(of_proposal).any():
        return Bridge(np.nan, np.inf)
    log_r = float(np.median(of_chain))
    for _ in range(_STEPS):
        upper = of_proposal - np.logaddexp(log_s + of_proposal, log_rest + log_r)
        lower = -np.logaddexp(log_s + of_chain, log_rest + log_r)
        new = float(logsumexp(upper) - np.log(len(upper)) - logsumexp(lower) + np.log(len(lower)))
        converged, log_r = abs(new - log_r) < _TOLERANCE, new
        if converged:
            break
    relative = _relative_variance(upper) / len(upper) + _relative_variance(lower) / ess
    return Bridge(log_r, float(np.sqrt(relative)) if converged else np.inf)


def _relative_variance(log_values: Array) -> float:
    values = np.exp(log_values - log_values.max())
    return float(values.var() / values.mean() ** 2)
