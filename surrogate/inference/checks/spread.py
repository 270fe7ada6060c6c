"""Check that the posteriors of paths of the surrogate agree with the posterior of its mean."""

from __future__ import annotations

import numpy as np

from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.checks.effective_size import with_enough_draws
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.view import View

__all__ = ["Spread"]


class Spread:
    """Requires that the posteriors of joint paths agree with that of the mean, by re-weighting one set of draws.

    The comparison is made on the bulk, in the evidence, and on warmer draws that ignore the trust region, where it
    reveals a part of the posterior that the mean has cut off. If feasibility is uncertain, paths of the feasibility
    model are included.
    """

    name = "spread"
    phases = SIGNALS
    columns = {"spread": np.inf, "warm_spread": np.inf, "evidence_spread": np.inf, "inflation": 1.0}

    @with_enough_draws
    def look(self, view: View) -> Finding:
        """Reports the largest of the three spreads in units of their limits."""
        limits, bulk = view.setup.thresholds, view.spread.bulk
        measured = {
            "spread": (bulk, limits.spread),
            "warm spread": (view.spread.warm, limits.warm),
            "log-evidence sd": (view.spread.log_evidence, limits.log_evidence),
        }
        numbers = {
            "spread": bulk,
            "warm_spread": view.spread.warm,
            "evidence_spread": view.spread.log_evidence,
            "inflation": view.inflation,
        }
        grounds = f"paths of the surrogate differ from its mean by {bulk:.2g} (limit {limits.spread:g})"
        failing = {name: pair for name, pair in measured.items() if not pair[0] < pair[1]}
        if not failing:
            return Finding(view.nowhere, Claim.STANDS, "", numbers, grounds=grounds)
        name, (value, limit) = max(failing.items(), key=lambda item: item[1][0] / item[1][1])
        reason = f"{name} {value:.2g} above {limit:g}"
        return Finding(view.nowhere, Claim.REFUTED, reason, numbers, value / limit, grounds)
