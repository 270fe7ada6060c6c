"""Hidden modes: how probable it is that a further mode was missed, and where to look for it.

A hypothesis is a Gaussian mode somewhere in the prior: its centre uniform, its widths like those of the modes that are
known within a factor of a few, its share of the mass between 5 % and 95 %. An evaluated point *excludes* a hypothesis
that would make the log-likelihood there clearly higher than it is. The share of hypotheses that no point excludes says
the room that the evaluations have left for a further mode. The best next point is the one that would exclude most of
them if the surrogate is right there.

A deep point excludes modes of the usual width far around it, so that the room is small in few dimensions after few
evaluations, while narrow modes in many dimensions cannot be excluded by any affordable number of them. That is why the
search stops when another point would gain too little, and states the probability that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.samplers.mixture import Mixture

__all__ = [
    "EXPECTED_SHIFT",
    "GAINS",
    "Hypotheses",
    "best_point",
    "check_effort",
    "draw_hypotheses",
    "hidden_probability",
]

GAINS = {"fast": 0.03, "normal": 0.008, "thorough": 0.001}
"""Probability of a hidden mode by which an evaluation must lower it to be worth its cost, by effort."""

SMALLEST_SHARE = 0.05
"""Share of the mass from which a mode matters."""
WIDTH_SD = 0.7
"""Sd of the log of a mode's geometric mean width, relative to that of the known ones: a factor of two."""
AXIS_SD = 0.5
"""Sd of the log of its width along one axis, relative to its geometric mean."""
SLACK, RELATIVE_SLACK = 1.0, 0.1
"""A hypothesis is excluded where it lies higher than what was seen by 1 nat and a tenth of the depth: modes are not
exactly Gaussian, and the less so the farther out."""
EXPECTED_SHIFT = 0.89
"""By how much a hidden mode raises the log evidence on average: -log(1 - s) for a share s between 5 and 95 %."""
_BLOCK = 2_000_000  # distances that are in memory at once


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Further modes that may exist, each a Gaussian with independent axes in unit coordinates.

    Attributes:
        centres: With shape (h, d).
        widths: Standard deviations along the axes, with shape (h, d).
        peaks: Log-likelihoods at the centres relative to the best known value, with shape (h,).
        open: Whether no evaluation has excluded it, with shape (h,).
    """

    centres: Array
    widths: Array
    peaks: Array
    open: Flags

    @property
    def share_open(self) -> float:
        """Share of the hypotheses that nothing has excluded."""
        return float(self.open.mean())

    def log_likelihood(self, t: Array) -> Array:
        """Log-likelihood of each open hypothesis at points t with shape (m, d), relative to the best known value.

        Returns:
            With shape (number open, m). O(h m d).
        """
        centres, widths = self.centres[self.open], self.widths[self.open]
        square = np.zeros((len(centres), len(t)))
        for axis in range(t.shape[1]):
            square += ((t[:, axis] - centres[:, axis, None]) / widths[:, axis, None]) ** 2
        return self.peaks[self.open, None] - 0.5 * square

    def exclude(self, t: Array, depth: Array) -> Hypotheses:
        """The same hypotheses after evaluations at t, some of them closed.

        Args:
            t: Evaluated points.
            depth: How far each value lies below the best one, with shape (n,); infinite values say nothing, since a
                mode may be cut by a forbidden region.
        """
        finite = np.isfinite(depth)
        t, limit = t[finite], _limit(depth[finite])
        still_open = self.open.copy()
        index = np.flatnonzero(still_open)
        for rows in np.array_split(index, max(1, len(index) * len(t) // _BLOCK)):
            part = replace(self, open=np.isin(np.arange(len(self.open)), rows))
            still_open[rows] = ~(part.log_likelihood(t) > limit).any(1)
        return replace(self, open=still_open)


def draw_hypotheses(
    known: Mixture,
    log_integral: float,
    depth: Callable[[Array], Array],
    support: tuple[Array, Array],
    rng: np.random.Generator,
    *,
    count: int = 4000,
) -> Hypotheses:
    """Random hypotheses about a further mode; open if the surrogate is clearly below their peaks.

    Args:
        known: Gaussian components of the known posterior, in unit coordinates.
        log_integral: Log of the integral of the known posterior over unit coordinates, relative to the best value.
        depth: Depth below the best value that the surrogate predicts, from points with shape (m, d) to (m,).
        support: Lower and upper corner of the box in which a mode may lie, each with shape (d,).
        rng: Random numbers.
        count: Number of hypotheses.
    """
    low, high = support
    d = len(low)
    log_width = np.array([np.log(np.abs(np.diag(factor))).mean() for factor in known.factors])
    typical = float(known.weights @ log_width)
    centres = low + (high - low) * rng.random((count, d))
    axes = AXIS_SD * rng.standard_normal((count, d))
    log_widths = typical + WIDTH_SD * rng.standard_normal((count, 1)) + axes - axes.mean(1, keepdims=True)
    share = rng.uniform(SMALLEST_SHARE, 1.0 - SMALLEST_SHARE, count)
    log_mass = log_integral + np.log(share / (1.0 - share))
    peaks = log_mass - 0.5 * d * np.log(2.0 * np.pi) - log_widths.sum(1)
    return Hypotheses(centres, np.exp(log_widths), peaks, peaks > _limit(depth(centres)))


def _limit(depth: Array) -> Array:
    """Highest log-likelihood of a hypothesis at points of this depth, with the same shape; -inf where infeasible."""
    return np.where(np.isfinite(depth), SLACK - (1.0 - RELATIVE_SLACK) * depth, -np.inf)


def best_point(
    hypotheses: Hypotheses,
    depth: Callable[[Array], Array],
    rng: np.random.Generator,
    *,
    candidates: int = 300,
) -> tuple[Array, float]:
    """The point that would exclude most open hypotheses, if the surrogate is right there, and the share excluded.

    Candidates are centres of open hypotheses. O(h m d) for m candidates.

    Args:
        hypotheses: Hypotheses, some of which may be open.
        depth: Depth that the surrogate predicts, from points with shape (m, d) to (m,); infinite where a point is
            predicted infeasible, which is not worth an evaluation.
        rng: Random numbers.
        candidates: Number of candidates.

    Returns:
        The point with shape (1, d) or (0, d), and the share of all hypotheses that it would exclude.
    """
    index = np.flatnonzero(hypotheses.open)
    t = hypotheses.centres[rng.permutation(index)[:candidates]]
    predicted = depth(t)
    t, predicted = t[np.isfinite(predicted)], predicted[np.isfinite(predicted)]
    if len(t) == 0:
        return t, 0.0
    excluded = (hypotheses.log_likelihood(t) > _limit(predicted)).sum(0)
    best = int(excluded.argmax())
    return t[best : best + 1], float(excluded[best]) / len(hypotheses.open)


def check_effort(effort: str) -> str:
    """The effort of a search for further modes, if there is one of that name.

    Raises:
        ValueError: If there is none.
    """
    if effort not in GAINS:
        msg = f"explore must be one of {', '.join(map(repr, GAINS))}, got {effort!r}"
        raise ValueError(msg)
    return effort


def hidden_probability(share_open: float, prior: float) -> float:
    """Probability of a hidden mode with at least 5 % of the mass, by Bayes' theorem.

    Args:
        share_open: Share of the hypotheses that the evaluations do not exclude.
        prior: Probability, before looking, that there is a mode besides the known ones.

    >>> round(hidden_probability(0.1, 0.5), 3)
    0.091
    """
    return prior * share_open / (1.0 - prior + prior * share_open)
