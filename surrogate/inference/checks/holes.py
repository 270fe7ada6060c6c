"""Check of the emptiest regions of the prior, where no model of the data could see a mode."""

from __future__ import annotations

import numpy as np

from surrogate.inference.checks.check import SEARCH
from surrogate.inference.checks.exchanges import Exchanges
from surrogate.inference.coverage import farthest
from surrogate.inference.findings import Finding
from surrogate.inference.view import View

__all__ = ["Holes"]


class Holes:
    """Requests the points of the inner prior that are farthest from all evaluations.

    They see what no model of the data can: a mode in whose domain no point has fallen. Exchanges of parameters count
    among them.
    """

    name = "holes"
    phases = SEARCH
    columns: dict[str, float] = {}

    def look(self, view: View) -> Finding:
        """As many points as the design and the exchanges leave in the budget, in the first round of the search."""
        if view.setup.knows_width or view.state.explored:
            return Finding(view.nowhere)
        if view.learns_outputs:  # a mode is where all outputs meet the data, and the design shows where they go
            return Finding(view.nowhere)
        inner, t = view.exploration.inner, view.window.unrolled(view.t)
        images = view.findings[Exchanges.name].points if Exchanges.name in view.findings else view.nowhere
        missing = max(view.setup.holes_to_fill - len(images), 0) if len(inner) else 0
        return Finding(inner[farthest(np.concatenate([t, images]), inner, missing)])
