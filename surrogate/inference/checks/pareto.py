"""Check that draws of the surrogate can be re-weighted into draws of its paths."""

from __future__ import annotations

from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.checks.effective_size import with_enough_draws
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.reliability import path_shape
from surrogate.inference.view import View
from surrogate.samplers.psis import RELIABLE

__all__ = ["Pareto"]


class Pareto:
    """Requires a Pareto shape k-hat below 0.7 for the importance weights from the surrogate's mean to its paths.

    Divergences compare only means and covariances; this detects paths with mass where the mean has hardly any.
    """

    name = "k-hat"
    phases = SIGNALS
    columns = {"k_hat": float("inf")}

    @with_enough_draws
    def look(self, view: View) -> Finding:
        """Reports the shape, infinite if there are too few draws."""
        shape = path_shape(view, view.sample, view.rng("pareto"))
        numbers, grounds = {"k_hat": shape}, f"the Pareto shape of its weights is {shape:.2g} (limit {RELIABLE:g})"
        if shape < RELIABLE:
            return Finding(view.nowhere, numbers=numbers, grounds=grounds)
        reason = f"Pareto k-hat {shape:.2g} above {RELIABLE:g}"
        return Finding(view.nowhere, Claim.REFUTED, reason, numbers, shape / RELIABLE, grounds)
