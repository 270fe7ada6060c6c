"""Checks of runs with categories and integers: the probabilities of levels, and other checks level by level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from surrogate.inference.checks.check import SIGNALS, Check, unmeasured
from surrogate.inference.checks.effective_size import too_few_draws
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.mixed.sampling import level_bounds, mixed_model
from surrogate.inference.mixed.slices import at_level, levels_of
from surrogate.inference.phases import Phase
from surrogate.inference.view import View

__all__ = ["EachLevel", "LevelProbabilities"]

_MOST_EXCLUDED = 0.01  # largest probability that levels that were not sampled may have
_MATTERS = 0.2  # probability of a level above which further modes within it are searched for
_NAMED = 3  # levels named in a reason


class LevelProbabilities:
    """Requires that every level was evaluated, and that the probabilities of levels and values are known.

    The error of a probability is its sd over joint paths of the surrogate. Levels that were left out because their
    surrogate is far below the others must have a negligible probability even at three sds above their means.
    """

    name = "levels"
    phases = SIGNALS
    columns: dict[str, float] = {"levels_unseen": np.nan, "levels_sampled": np.nan, "probability_error": np.inf}

    def look(self, view: View) -> Finding:
        """Refuses a claim as long as a level has not been evaluated, or a probability is not accurate enough."""
        levels, limit = levels_of(view), view.setup.thresholds.probability
        if too_few_draws(view):
            return unmeasured(self, view)
        seen = np.bincount(levels.index(view.state.data.x), minlength=len(levels)) > 0
        error, where = view.probabilities.largest_error
        numbers = {
            "levels_unseen": float((~seen).sum()),
            "levels_sampled": float(len(view.level_samples.live)),
            "probability_error": error,
        }
        if not seen.all():
            names = "; ".join(levels.text(int(i)) for i in np.flatnonzero(~seen)[:_NAMED])
            reason = f"{int((~seen).sum())} of {len(levels)} levels have not been evaluated: {names}"
            return Finding(view.nowhere, Claim.REFUTED, reason, numbers, np.inf)
        excluded = _excluded_probability(view)
        reason, ratio = f"probability of {where} known to {error:.2g}, limit {limit:g}", error / limit
        if excluded / _MOST_EXCLUDED > ratio:
            reason = f"levels far below the others may have {excluded:.2g} of the probability, limit {_MOST_EXCLUDED:g}"
            ratio = excluded / _MOST_EXCLUDED
        if ratio < 1.0:
            grounds = f"probabilities of levels known to {error:.2g} (limit {limit:g})"
            return Finding(view.nowhere, Claim.STANDS, "", numbers, grounds=grounds)
        return Finding(view.nowhere, Claim.REFUTED, reason, numbers, ratio)


def _excluded_probability(view: View) -> float:
    """Total probability of the levels that were not sampled, at three sds above their means."""
    samples = view.level_samples
    left_out = np.setdiff1d(np.arange(len(samples.levels)), samples.live)
    if not len(left_out):
        return 0.0
    t = np.concatenate([view.draws.posterior, view.draws.warm, view.t])
    bounds, _ = level_bounds(mixed_model(view.model), view.setup, t, view.rng("excluded"), inflate=view.inflation)
    heights = bounds[left_out] + samples.levels.log_prior[left_out] - view.sample.log_integral
    return float(np.exp(np.minimum(heights, 1.0)).sum())


class EachLevel:
    """A check for continuous parameters, made at each level with 20 % of the probability and at the most probable one.

    Attributes:
        check: The check made at each level.
    """

    def __init__(self, check: Check) -> None:
        """Wraps a check and takes its name, phases and columns."""
        self.check = check
        self.name: str = check.name
        self.phases: frozenset[Phase] = check.phases

    @property
    def columns(self) -> Mapping[str, float]:
        """Columns of the trace that the check fills, each with the value recorded when it was not computed."""
        return self.check.columns

    def look(self, view: View) -> Finding:
        """The combined findings of all levels: all points, the strictest claim, the largest value of each number."""
        levels = levels_of(view)
        probability = view.level_samples.probability
        findings = []
        matters = probability >= min(_MATTERS, probability.max())
        matters &= levels.acts[:, levels.continuous].any(1)
        if not matters.any():  # no parameter acts at those that do
            return Finding(view.nowhere)
        for level in np.flatnonzero(matters):
            found = self.check.look(at_level(view, int(level)))
            findings.append((levels.text(int(level)), levels.points(found.points, int(level)), found))
        text, _, worst = max(findings, key=lambda entry: _ORDER.index(entry[2].claim))
        numbers = {}
        for name in worst.numbers:
            values = [found.numbers[name] for _, _, found in findings if name in found.numbers]
            numbers[name] = float(np.nanmax(values)) if np.isfinite(values).any() else values[0]
        return Finding(
            np.concatenate([view.nowhere, *(points for _, points, _ in findings)]),
            worst.claim,
            f"{worst.reason} ({text})" if worst.reason else "",
            numbers,
            worst.excess,
            worst.grounds,
        )


_ORDER = (Claim.STANDS, Claim.WAITS, Claim.TOLERATED, Claim.REFUTED)
"""Claims, ordered from the most to the least favourable."""
