"""Check that the posterior of a run of outputs ends within reach of its evaluations."""

from __future__ import annotations

import numpy as np

from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.checks.effective_size import with_enough_draws
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.view import View
from surrogate.log_density.composite.model import CompositeLogDensity

__all__ = ["Edges", "held_back"]


_MOST = 2.0  # nats by which a draw counts at most, so that few draws far outside do not decide


class Edges:
    """Requires that hardly any of the posterior is cut off where the evaluations end.

    A surrogate lowers the log-density beyond a box around its data. Where the data say little about a parameter, the
    outputs may be known well outside the box, so that no other check sees what is cut off there.
    """

    name = "edges"
    phases = SIGNALS
    columns: dict[str, float] = {}

    @with_enough_draws
    def look(self, view: View) -> Finding:
        """Refutes a claim if the box lowers the evidence by more than the limit on its error."""
        lost, limit = held_back(view), view.setup.thresholds.log_evidence
        reason = f"the posterior goes on where evaluations end: {lost:.2g} nats of evidence are cut off"
        if lost <= limit:
            return Finding(view.nowhere)
        return Finding(view.nowhere, Claim.REFUTED, reason, {}, excess=lost / limit)


def held_back(view: View) -> float:
    """Nats of evidence that the posterior would gain near the box of a run of outputs without the box; 0 for others."""
    if not isinstance(view.model, CompositeLogDensity):
        return 0.0
    sample = view.sample
    lowered = np.minimum(view.model.lowered(sample.x), _MOST)
    return float(np.log(sample.weights @ np.exp(lowered)))
