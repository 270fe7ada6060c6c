"""Findings of checks: points to evaluate, the effect on the claim of convergence, and the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from surrogate.arrays import Array

__all__ = ["Claim", "Finding"]


class Claim(Enum):
    """The effect of a check on the claim that the posterior is known.

    A claim is made when all checks agree, and stands if they confirm it after one more batch, see
    `surrogate.inference.phases.next_verdict`.

    Attributes:
        STANDS: The check agrees, and confirms.
        WAITS: It agrees, but does not confirm: one more batch is needed.
        TOLERATED: It does not agree, but does not withdraw a claim that was made one batch ago.
        REFUTED: It neither agrees nor confirms.
    """

    STANDS = "stands"
    WAITS = "waits"
    TOLERATED = "tolerated"
    REFUTED = "refuted"

    @property
    def agrees(self) -> bool:
        """Whether a claim may be made."""
        return self in (Claim.STANDS, Claim.WAITS)

    @property
    def confirms(self) -> bool:
        """Whether a claim that was made one batch ago stands."""
        return self in (Claim.STANDS, Claim.TOLERATED)


@dataclass(frozen=True, eq=False)
class Finding:
    """The report of a check.

    Attributes:
        points: Points that the next batch must hold, in scaled coordinates, with shape (k, d), k >= 0.
        claim: Effect on the claim that the posterior is known.
        reason: A clause on why the check does not agree, or waits; "" if it agrees.
        numbers: Measured values by name; those that the check has columns for go to the trace.
        excess: The worst value in units of its limit: of several checks that do not agree the largest is told.
        grounds: A clause that backs the claim, if the check has one.
    """

    points: Array
    claim: Claim = Claim.STANDS
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    excess: float = 0.0
    grounds: str = ""
