"""Depths, thresholds and schedules shared by several parts of a posterior run, each with its reason.

A depth is measured in nats below the best value. For a Gaussian posterior in d dimensions it is half a chi-square
variable, with mean d / 2 and sd sqrt(d / 2). Constants used by only one part are at the top of its file.
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
    "STRUCTURE_GROWTH",
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
    """Depth down to which predictions are judged, half the relevant one; the shaping treats deeper errors as noise.

    Where outputs are learned the bulk depth takes its place for predictions of a batch.
    """
    return 0.5 * relevant_depth(d)


MANY_PARAMETERS = 20
"""Number of parameters above which designs, samples and searches follow other rules.

A quadratic then has more than 231 coefficients: a Gaussian mixture needs more draws, a structure takes seconds to fit.
"""

FEASIBLE = 0.5
"""Probability of being feasible above which a point counts as feasible."""

RECENT_BATCHES = 3
"""Number of last batches whose errors show whether the surrogate's sd is right; before, it was too different."""

COLD_START_EVERY = 3
"""Interval, in steps, of fits that also start at the default hyperparameters.

Fits that always start where the last one ended may stay in a poor optimum; a second start doubles the cost.
"""

STRUCTURE_EVERY = 2
"""Interval, in steps, of the expensive search for structure; a badly predicted batch triggers it earlier."""

STRUCTURE_GROWTH = 1.1
"""Growth of the data beyond `MOST_FITTED` evaluations after which a search for structure is due.

Fits then use a fixed share of the evaluations, of which fewer new ones change next to nothing.
"""

NOISE_EVERY = 4
"""Interval, in steps, of the search for undeclared noise, whose evidence grows by a fraction of a nat per point."""

MOVED_FAR = 0.2
"""Divergence in nats, ten times the convergence limit, above which a batch has probably found a mode."""
