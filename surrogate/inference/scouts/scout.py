"""The interface of scouts, which propose points to evaluate."""

from __future__ import annotations

from enum import Enum
from typing import Protocol, runtime_checkable

from surrogate.arrays import Array
from surrogate.inference.phases import Phase
from surrogate.inference.view import View

__all__ = ["Place", "Scout"]


class Place(Enum):
    """The place of a scout's points in the batch.

    Attributes:
        FIRST: In front, after those that are there already; as many points at the end of the batch give way.
        LAST: At the end, where they replace as many others.
        EXTRA: At the end, in addition to the batch.
        FILL: At the end, as far as the batch has room.
    """

    FIRST = "first"
    LAST = "last"
    EXTRA = "extra"
    FILL = "fill"


@runtime_checkable
class Scout(Protocol):
    """Proposes points to evaluate for a purpose other than reducing the uncertainty of the posterior.

    Attributes:
        name: By which it is left out.
        phases: Phases of a run in which it is asked.
        place: Where in a batch its points go.
    """

    name: str
    phases: frozenset[Phase]
    place: Place

    def points(self, view: View) -> Array:
        """Points to evaluate, in unit coordinates, with shape (k, d), k >= 0: depends on the view alone."""
