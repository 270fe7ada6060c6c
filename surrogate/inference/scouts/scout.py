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
        FIRST: At the front, after points of earlier scouts; as many points are dropped at the end.
        LAST: At the end, replacing as many other points.
        EXTRA: At the end, in addition to the batch.
        FILL: At the end, as far as there is room.
        ALONE: Instead of all other points, unless the user has set the size of batches; then at the front.
    """

    FIRST = "first"
    LAST = "last"
    EXTRA = "extra"
    FILL = "fill"
    ALONE = "alone"


@runtime_checkable
class Scout(Protocol):
    """Interface of scouts, which propose points for purposes other than reducing the posterior's uncertainty.

    Attributes:
        name: Name, by which the scout is left out.
        phases: Phases of a run in which it acts.
        place: Place of its points in a batch.
    """

    name: str
    phases: frozenset[Phase]
    place: Place

    def points(self, view: View) -> Array:
        """Points to evaluate, in unit coordinates, with shape (k, d), k >= 0; depends only on the view."""
