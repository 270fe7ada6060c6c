"""Record of the evidence and its error."""

from __future__ import annotations

import numpy as np

from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.checks.effective_size import too_few_draws
from surrogate.inference.findings import Finding
from surrogate.inference.labels import label_error
from surrogate.inference.view import View

__all__ = ["Evidence"]


class Evidence:
    """Records the log evidence and its error due to sampling, the surrogate, and unknown infeasible regions."""

    name = "evidence"
    phases = SIGNALS
    columns = {"log_evidence": np.nan, "log_evidence_error": np.nan}

    def look(self, view: View) -> Finding:
        """The log evidence and its standard error, infinite if there are too few draws."""
        sample, error = view.sample, np.inf
        if not too_few_draws(view):
            parts = [sample.log_integral_error, view.spread.log_evidence, label_error(view, sample)]
            error = float(np.linalg.norm(parts))
        value = view.state.data.y_max + sample.log_integral
        return Finding(view.nowhere, numbers={"log_evidence": value, "log_evidence_error": error})
