"""Record of the evidence and its error, and a limit on the stated error of a run that learns outputs."""

from __future__ import annotations

import numpy as np

from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.checks.effective_size import too_few_draws
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.labels import label_error
from surrogate.inference.reliability import largest_stated_error, stated_error
from surrogate.inference.view import View

__all__ = ["Evidence"]


class Evidence:
    """Records the log evidence and its error due to sampling, the surrogate, and unknown infeasible regions.

    A run that learns outputs must not end with a stated error above `largest_stated_error`. The error that a result
    states is computed with doubled sds of the surrogate. If some paths then raise the posterior far from its bulk, it
    can be many times the recorded error, and the limit on the spread of paths would not notice.
    """

    name = "evidence"
    phases = SIGNALS
    columns = {"log_evidence": np.nan, "log_evidence_error": np.nan}

    def look(self, view: View) -> Finding:
        """The log evidence and its standard error, infinite if there are too few draws.

        With learned outputs, the claim is refuted if the error that a result would state is too large. This error takes
        as long to compute as the spread of paths, so it is computed only if that spread would allow a claim.
        """
        sample, error = view.sample, np.inf
        if not too_few_draws(view):
            parts = [sample.log_integral_error, view.spread.log_evidence, label_error(view, sample)]
            error = float(np.linalg.norm(parts))
        value = view.state.data.y_max + sample.log_integral
        numbers = {"log_evidence": value, "log_evidence_error": error}
        limit = largest_stated_error(view)
        if view.learns_outputs and view.spread.log_evidence < view.setup.thresholds.log_evidence:
            stated = view.once(stated_error)[2]
            if not stated <= limit:
                reason = f"the error of the log evidence would be {stated:.2g}, above {limit:g}"
                return Finding(view.nowhere, Claim.REFUTED, reason, numbers, stated / limit)
        return Finding(view.nowhere, numbers=numbers)
