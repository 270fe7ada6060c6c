"""Record of the evidence and its error, and the limit on the error that a run of outputs states."""

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

    A run of outputs must not end with a larger error than is allowed. The error that a result states allows for twice
    the sds of the surrogate. Where some paths then raise a distant part of the posterior it may be many times that of
    the record, so that the limit on the spread of paths alone lets it pass.
    """

    name = "evidence"
    phases = SIGNALS
    columns = {"log_evidence": np.nan, "log_evidence_error": np.nan}

    def look(self, view: View) -> Finding:
        """The log evidence and its standard error, infinite if there are too few draws.

        The stated error is computed only where the spread of paths would allow a claim, since that takes as long.
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
