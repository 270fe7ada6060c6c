"""What a scout is: an idea where to evaluate next."""

from __future__ import annotations

from enum import Enum
from typing import Protocol, runtime_checkable

from surrogate.arrays import Array
from surrogate.inference.phases import Phase
from surrogate.inference.view import View

__all__ = ["Place", "Scout"]


class Place(Enum):
    """Where in a batch the points of a scout go.

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
    """An idea where to evaluate next, beside where the surrogate is least sure of the posterior.

    Attributes:
        name: By which it is left out.
        phases: Phases of a run in which it is asked.
        place: Where in a batch its points go.
    """

    name: str
    phases: frozenset[Phase]
    place: Place

    def points(self, view: View) -> Array:
        """Points to evaluate, in scaled coordinates, with shape (k, d), k >= 0: a function of the view alone."""
