"""Check of the emptiest regions of the prior, where no model could predict a mode from the evaluations."""

from __future__ import annotations

import numpy as np

from surrogate.inference.checks.check import SEARCH
from surrogate.inference.checks.exchanges import Exchanges
from surrogate.inference.coverage import farthest
from surrogate.inference.findings import Finding
from surrogate.inference.setup import holes_to_fill
from surrogate.inference.view import View

__all__ = ["Holes"]


class Holes:
    """Requests the points of the inner prior that are farthest from all evaluations.

    They can find what no model can: a mode whose domain no point has entered. Exchanges count towards their number.
    """

    name = "holes"
    phases = SEARCH
    columns: dict[str, float] = {}

    def look(self, view: View) -> Finding:
        """Requests, in the first round of the search, a fixed number of points minus those of design and exchanges."""
        if view.setup.knows_width or view.state.explored:
            return Finding(view.nowhere)
        if view.learns_outputs:  # modes follow from the outputs, whose overall behaviour the design shows
            return Finding(view.nowhere)
        inner, t = view.exploration.inner, view.window.unrolled(view.t)
        images = view.findings[Exchanges.name].points if Exchanges.name in view.findings else view.nowhere
        missing = max(holes_to_fill(view.setup) - len(images), 0) if len(inner) else 0
        return Finding(inner[farthest(np.concatenate([t, images]), inner, missing)])
