"""A run of outputs makes no claim with a large error of its evidence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from surrogate.inference.checks.evidence import Evidence
from surrogate.inference.findings import Claim
from surrogate.problem.accuracy import Thresholds


def view_of(stated, *, outputs, spread=0.05):
    """A view whose paths have an sd of the log evidence, and whose result would state an error."""
    unit = SimpleNamespace(everywhere=True)
    return SimpleNamespace(
        setup=SimpleNamespace(thresholds=Thresholds()),
        state=SimpleNamespace(data=SimpleNamespace(y_max=-3.0)),
        sample=SimpleNamespace(log_integral=-1.0, log_integral_error=0.0, ess=1000.0),
        spread=SimpleNamespace(log_evidence=spread),
        model=SimpleNamespace(feasibility=unit),
        learns_outputs=outputs,
        nowhere=np.empty((0, 2)),
        once=lambda _: (None, None, stated),
    )


@pytest.mark.parametrize(("stated", "claim"), [(0.19, Claim.STANDS), (0.21, Claim.REFUTED), (2.8, Claim.REFUTED)])
def test_the_stated_error_has_a_limit(stated, claim):
    found = Evidence().look(view_of(stated, outputs=True))
    assert found.claim is claim
    assert found.numbers == {"log_evidence": -4.0, "log_evidence_error": 0.05}


def test_the_reason_names_both():
    found = Evidence().look(view_of(2.8, outputs=True))
    assert found.reason == "the error of the log evidence would be 2.8, above 0.2"
    assert found.excess == pytest.approx(14.0)


def test_it_is_not_computed_while_paths_disagree_or_the_log_likelihood_is_learned():
    for view in (view_of(2.8, outputs=False), view_of(2.8, outputs=True, spread=0.2)):
        view.once = None
        assert Evidence().look(view).claim is Claim.STANDS
