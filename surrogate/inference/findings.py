"""Findings of checks: points to evaluate, effect on the claim of convergence, and reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from surrogate.arrays import Array

__all__ = ["Claim", "Finding"]


class Claim(Enum):
    """The effect of a check on the claim that the posterior is known.

    A claim is made if all checks agree, and stands if they confirm it after one more batch, see
    `surrogate.inference.phases.next_verdict`.

    Attributes:
        STANDS: The check agrees and confirms.
        WAITS: The check agrees but does not confirm, so one more batch is needed.
        TOLERATED: The check does not agree, but does not refute a claim made one batch ago.
        REFUTED: The check neither agrees nor confirms.
    """

    STANDS = "stands"
    WAITS = "waits"
    TOLERATED = "tolerated"
    REFUTED = "refuted"

    @property
    def agrees(self) -> bool:
        """Whether the check lets the run claim convergence."""
        return self in (Claim.STANDS, Claim.WAITS)

    @property
    def confirms(self) -> bool:
        """Whether a claim made one batch ago stands."""
        return self in (Claim.STANDS, Claim.TOLERATED)


@dataclass(frozen=True, eq=False)
class Finding:
    """The report of a check.

    Attributes:
        points: Points to include in the next batch, in scaled coordinates, with shape (k, d), k >= 0.
        claim: Effect on the claim that the posterior is known.
        reason: A clause on why the check does not agree, or waits; "" if it agrees.
        numbers: Measured values by name; those for which the check has columns go into the trace.
        excess: The worst value in units of its limit; of several checks that do not agree the one with the largest is
            reported.
        grounds: A clause that supports the claim, or "".
    """

    points: Array
    claim: Claim = Claim.STANDS
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    excess: float = 0.0
    grounds: str = ""
