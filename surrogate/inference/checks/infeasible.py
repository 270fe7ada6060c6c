"""Record of the share of the posterior that may be infeasible."""

from __future__ import annotations

from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.checks.effective_size import with_enough_draws
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.view import View

__all__ = ["Infeasible"]


class Infeasible:
    """Records the expected infeasible fraction of the posterior; its uncertainty is part of the spread."""

    name = "infeasible"
    phases = SIGNALS
    columns = {"infeasible": 0.0}

    @with_enough_draws
    def look(self, view: View) -> Finding:
        """Reports the share, between 0 and 1."""
        p = view.model.feasibility.probability(view.model.whiten(view.sample.x))
        return Finding(view.nowhere, Claim.STANDS, numbers={"infeasible": float(view.sample.weights @ (1.0 - p))})
