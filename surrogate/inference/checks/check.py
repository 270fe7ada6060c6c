"""The interface of checks, which must pass before a run claims convergence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from surrogate.inference.findings import Claim, Finding
from surrogate.inference.phases import Phase
from surrogate.inference.view import View

__all__ = ["SEARCH", "SIGNALS", "Check", "unmeasured"]


SIGNALS = frozenset({Phase.LEARN, Phase.ARMED, Phase.DONE})
"""Phases of the checks of convergence, which are made after each batch."""

SEARCH = frozenset({Phase.ARMED, Phase.DONE})
"""Phases of the checks that look for what the surrogate does not know: made once those of convergence agree."""


@runtime_checkable
class Check(Protocol):
    """A condition that must hold before a run claims convergence.

    Attributes:
        name: By which it is left out, and by which its finding is kept.
        phases: Phases that the other checks may have led to in which it is made, `SIGNALS` or `SEARCH`.
    """

    name: str
    phases: frozenset[Phase]

    @property
    def columns(self) -> Mapping[str, float]:
        """Names of the numbers for the trace, each with its value in steps where it is not measured."""

    def look(self, view: View) -> Finding:
        """The finding of the check: depends on the view alone."""


def unmeasured(check: Check, view: View) -> Finding:
    """The finding of a check that cannot be computed, with placeholder values for its columns."""
    return Finding(view.nowhere, Claim.REFUTED, f"{check.name} not measured", check.columns)
