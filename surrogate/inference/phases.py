"""The phases of a run, and the rule that moves between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from surrogate.inference.findings import Claim, Finding

__all__ = ["LEARNING", "Phase", "Verdict", "next_verdict"]


class Phase(Enum):
    """The phase of a run.

    Attributes:
        DESIGN: The initial design is evaluated; there is no surrogate yet.
        TEMPERED: The posterior is searched for with a surrogate at a raised temperature, or with the first one.
        LEARN: The posterior is learned.
        ARMED: All checks agree that the posterior is known; one more batch must confirm it.
        EXPLORE: The posterior is confirmed for all known modes; further modes are searched for.
        DONE: The run is over and the posterior is known.
        GAVE_UP: The run is over, without a surrogate.
    """

    DESIGN = "design"
    TEMPERED = "tempered"
    LEARN = "learn"
    ARMED = "armed"
    EXPLORE = "explore"
    DONE = "done"
    GAVE_UP = "gave up"

    @property
    def over(self) -> bool:
        """Whether no more points should be evaluated."""
        return self in (Phase.DONE, Phase.GAVE_UP)

    @property
    def converged(self) -> bool:
        """Whether the posterior is known, apart from modes that may not have been found."""
        return self in (Phase.EXPLORE, Phase.DONE)

    @property
    def armed(self) -> bool:
        """Whether one more batch without change would establish convergence."""
        return self in (Phase.ARMED, Phase.EXPLORE, Phase.DONE)


LEARNING = frozenset(Phase) - {Phase.DESIGN, Phase.GAVE_UP}
"""All phases in which there is a surrogate."""


@dataclass(frozen=True)
class Verdict:
    """The phase of a run, and the reason.

    Attributes:
        phase: The phase.
        reason: A sentence.
    """

    phase: Phase
    reason: str

    @property
    def stop(self) -> bool:
        """Whether the run is over."""
        return self.phase.over

    @property
    def converged(self) -> bool:
        """Whether the posterior is known, apart from modes that may not have been found."""
        return self.phase.converged

    @property
    def armed(self) -> bool:
        """Whether one more batch without change would establish convergence."""
        return self.phase.armed


def next_verdict(
    phase: Phase, signals: Iterable[Finding], search: Iterable[Finding] = (), *, confirm: bool = True
) -> Verdict:
    """The next phase if there is a surrogate at temperature 1, and the reason.

    The phase is LEARN until all signals agree, then ARMED. If all confirm this in the next batch it is DONE, or EXPLORE
    while the search for further modes has points to evaluate. A finding of the search that waits keeps the run ARMED.

    Args:
        phase: The phase before the last batch.
        signals: Findings of the convergence checks.
        search: Findings of the checks for further modes, if the signals agree.
        confirm: Whether a further batch must confirm it; otherwise the phase is DONE as soon as all signals agree and
            none of them waits, as the finding of `moved` does after a batch that moved the posterior.
    """
    signals, search = list(signals), list(search)
    verdict = _of_signals(phase, signals)
    if not verdict.armed:
        return verdict
    if not confirm:
        if waiting := [finding for finding in signals if finding.claim is Claim.WAITS]:
            return Verdict(Phase.LEARN, waiting[0].grounds)
        return Verdict(Phase.DONE, "all checks agree: " + ", ".join(f.grounds for f in reversed(signals) if f.grounds))
    if waiting := [finding for finding in search if finding.claim is Claim.WAITS]:
        return Verdict(Phase.ARMED, waiting[0].reason)
    if verdict.converged and any(len(finding.points) for finding in search):
        return Verdict(Phase.EXPLORE, "looking for further modes: those found do not explain all evaluations")
    return verdict


def _of_signals(phase: Phase, signals: list[Finding]) -> Verdict:
    """LEARN, ARMED or DONE, decided only by the convergence checks."""
    if phase.armed and all(finding.claim.confirms for finding in signals):
        return Verdict(Phase.DONE, "converged: " + ", ".join(f.grounds for f in reversed(signals) if f.grounds))
    if failing := [finding for finding in signals if not finding.claim.agrees]:
        return Verdict(Phase.LEARN, max(failing, key=lambda finding: finding.excess).reason)
    return Verdict(Phase.ARMED, "all checks agree; one more batch must confirm it")
