"""The depths, thresholds and schedules that several parts of a posterior run share, each with its reason.

A depth is measured in nats below the best value. Of a Gaussian posterior in d dimensions the depth is half a
chi-square variable: d / 2 on average, with an sd of sqrt(d / 2). A constant that only one part uses stands at the top
of its file.
"""

from __future__ import annotations

from surrogate.log_density.parameters import relevant_depth

__all__ = [
    "COLD_START_EVERY",
    "FEASIBLE",
    "MANY_PARAMETERS",
    "MOVED_FAR",
    "NOISE_EVERY",
    "RECENT_BATCHES",
    "STRUCTURE_EVERY",
    "bulk_depth",
    "near_depth",
    "relevant_depth",
    "seen_depth",
]


def near_depth(d: int) -> float:
    """Depth of the typical set, 3 + d / 2: 98 % of a Gaussian posterior in 2 dimensions, 86 % in 16."""
    return 3.0 + 0.5 * d


def bulk_depth(d: int) -> float:
    """Depth of nearly all of the posterior, 6 + d / 2: 99.9 % of a Gaussian in 2 dimensions, 97 % in 16."""
    return 6.0 + 0.5 * d


def seen_depth(d: int) -> float:
    """Depth down to which predictions are judged, half the relevant one: below it the shaping takes errors as noise."""
    return 0.5 * relevant_depth(d)


MANY_PARAMETERS = 20
"""Number of parameters above which designs, samples and searches follow rules of their own.

A quadratic then has more than 231 coefficients: a Gaussian mixture needs more draws, a structure takes seconds to fit.
"""

FEASIBLE = 0.5
"""Probability of being feasible from which a point is taken for feasible."""

RECENT_BATCHES = 3
"""Last batches whose errors say how far the sd of the surrogate can be trusted: before them it was another one."""

COLD_START_EVERY = 3
"""Steps from one fit that also starts at the default hyperparameters to the next.

A fit that always starts where the last one ended may stay in a poor optimum; a second start doubles its cost.
"""

STRUCTURE_EVERY = 2
"""Steps from one search for structure to the next, the most expensive part of a step; a bad miss brings it forward."""

NOISE_EVERY = 4
"""Steps from one search for undeclared noise to the next: evidence for it grows by a fraction of a nat a point."""

MOVED_FAR = 0.2
"""Divergence in nats by which a batch moves the posterior if it found a mode: ten times the limit for convergence."""
