"""The interface of checks, which must pass before a run claims convergence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from surrogate.inference.findings import Claim, Finding
from surrogate.inference.phases import Phase
from surrogate.inference.view import View

__all__ = ["SEARCH", "SIGNALS", "Check", "unmeasured"]


SIGNALS = frozenset({Phase.LEARN, Phase.ARMED, Phase.DONE})
"""Phases of the convergence checks, which are made after each batch."""

SEARCH = frozenset({Phase.ARMED, Phase.DONE})
"""Phases of the search for overlooked modes, whose checks are made once the convergence checks agree."""


@runtime_checkable
class Check(Protocol):
    """A condition that must hold before a run claims convergence.

    Attributes:
        name: Name, under which its finding is stored.
        phases: Phases in which the check is made: `SIGNALS` or `SEARCH`.
    """

    name: str
    phases: frozenset[Phase]

    @property
    def columns(self) -> Mapping[str, float]:
        """Names of the numbers for the trace, each with the value recorded when it was not computed."""

    def look(self, view: View) -> Finding:
        """The finding of the check, which depends only on the view."""


def unmeasured(check: Check, view: View) -> Finding:
    """A finding that refutes convergence, for a check that could not be made."""
    return Finding(view.nowhere, Claim.REFUTED, f"{check.name} not measured", check.columns)
