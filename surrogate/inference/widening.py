"""The dependence of the log evidence on the width of each prior, from the draws of a finished run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from surrogate.arrays import Array
from surrogate.problem.prior import Parameter, Prior
from surrogate.samplers.psis import smooth_weights
from surrogate.samplers.samples import Samples, weighted_quantile

__all__ = ["Widening", "widenings"]


_EDGE = 0.5  # distance from an edge of the prior, in posterior sds, within which posterior mass is counted
_CUT = 0.01
"""Posterior mass near an edge above which it counts as cut: that of a normal with an edge 2.7 sds from its mean.

Beyond such an edge lies 0.35 % of a normal, which is negligible in a log evidence.
"""
_NEVER = 1e-300  # smaller weights count as zero
_NARROW = 0.7
"""Ratio of the posterior's width to the prior's up to which re-weighting is reliable.

For a normal posterior and prior the weights have a finite variance for any factor if the ratio is below 1 / sqrt(2).
The Pareto shape alone detects this too late, because such weights reach their tail slowly.
"""
_SAME = 1e-9  # ratios that differ by less count as equal, as for a uniform prior


@dataclass(frozen=True)
class Widening:
    """The change of a log evidence if the prior of one parameter is widened.

    Attributes:
        name: The parameter.
        prior: Description of its prior.
        factor: Factor by which it was widened.
        shift: Change of the natural log of the evidence; a lower bound if the posterior is cut.
        error: Its standard error due to the finite number of draws.
        cut: Whether the posterior reaches an edge of the prior, beyond which nothing was evaluated.
        reliable: Whether the re-weighting is reliable, judged by the Pareto shape of its weights.
    """

    name: str
    prior: str
    factor: float
    shift: float
    error: float
    cut: bool
    reliable: bool

    @property
    def note(self) -> str:
        """A remark on limitations of the number; empty if there are none."""
        if self.cut:
            return "lower bound: the prior cuts the posterior, and nothing is known beyond its edge"
        return (
            ""
            if self.reliable
            else "NOT RELIABLE: the posterior is nearly as wide as the prior; start a new run instead"
        )


def widenings(prior: Prior, samples: Samples, factor: float = 2.0) -> tuple[Widening, ...]:
    """The changes of the log evidence if each prior in turn is widened by a factor w.

    The density pi becomes pi'(x) = pi(c + (x - c) / w) / w. Here c is the centre of a finite support, the bound of a
    support that is bounded on one side, and otherwise the median. The ratio of the evidences is the posterior mean of
    pi' / pi; for a uniform prior that does not cut the posterior it is exactly 1 / w. Periodic parameters are left out.

    Args:
        prior: The prior of the run.
        samples: Draws of its posterior.
        factor: Factor of the widening.

    Raises:
        ValueError: If the factor is not above 1.
    """
    if not 1.0 < factor < np.inf:
        msg = f"the factor by which priors are widened must be above 1, got {factor!r}"
        raise ValueError(msg)
    return tuple(
        _widening(parameter, samples.x[:, j], samples.weights, factor)
        for j, parameter in enumerate(prior.parameters)
        if not parameter.periodic
    )


def _widening(parameter: Parameter, x: Array, weights: Array, factor: float) -> Widening:
    one = Prior((replace(parameter, only=None, above=None),))
    low, high = one.bounds[0]
    centre = _centre(one, low, high)
    inner = centre + (x - centre) / factor
    log_ratios = one.log_density(inner[:, None]) - one.log_density(x[:, None]) - np.log(factor)
    used = weights > _NEVER
    log_ratios, w = log_ratios[used], weights[used] / weights[used].sum()
    top = float(log_ratios.max())
    ratio = np.exp(log_ratios - top)
    mean = float(w @ ratio)
    variance = float(w**2 @ (ratio - mean) ** 2)
    narrow = _width(x, weights) < _NARROW * float(np.diff(one.quantile(np.array([[0.16], [0.84]])), axis=0)[0, 0])
    reliable = bool(np.ptp(log_ratios) < _SAME) or (narrow and smooth_weights(log_ratios + np.log(w)).reliable)
    return Widening(
        name=parameter.name,
        prior=parameter.prior_words,
        factor=factor,
        shift=top + float(np.log(mean)),
        error=float(np.sqrt(variance) / mean),
        cut=_is_cut(x, weights, low, high, centre),
        reliable=reliable,
    )


def _width(x: Array, weights: Array) -> float:
    """The width of the central 68 % of the draws."""
    return float(np.diff(weighted_quantile(x[:, None], weights, [0.16, 0.84])[:, 0])[0])


def _centre(one: Prior, low: float, high: float) -> float:
    if np.isfinite(low) and np.isfinite(high):
        return 0.5 * (low + high)
    if np.isfinite(low) or np.isfinite(high):
        return float(low if np.isfinite(low) else high)
    return float(one.quantile(np.array([[0.5]]))[0, 0])


def _is_cut(x: Array, weights: Array, low: float, high: float, centre: float) -> bool:
    """Whether the posterior has mass at an edge that the widening moves outwards."""
    near = _EDGE * 0.5 * _width(x, weights)
    at_low = np.isfinite(low) and low != centre and float(weights[x < low + near].sum()) > _CUT
    at_high = np.isfinite(high) and high != centre and float(weights[x > high - near].sum()) > _CUT
    return bool(at_low or at_high)
