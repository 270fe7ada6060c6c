from dataclasses import replace

import numpy as np

from surrogate.inference.checks import CHECKS
from surrogate.inference.trace import columns_of, with_row


def test_columns_are_different():
    assert len(set(columns_of(CHECKS))) == len(columns_of(CHECKS))


def test_a_row_holds_what_the_checks_found(armed):
    state = with_row(armed.state, CHECKS)
    assert len(state.trace) == len(armed.state.trace) + 1
    row = state.rows()[-1]
    assert row["spread"] == armed.state.findings["spread"].numbers["spread"]
    assert row["n_evaluations"] == len(armed.state.data)


def test_checks_that_are_not_made_have_the_values_that_they_name(armed):
    row = with_row(replace(armed.state, findings={}), CHECKS).rows()[-1]
    for check in CHECKS:
        np.testing.assert_equal({name: row[name] for name in check.columns}, dict(check.columns))


def test_a_trace_with_other_columns_goes_on(armed):
    """As of a run that was begun with other checks."""
    old = replace(armed.state, columns=("former", "step"), trace=np.array([[5.0, 1.0]]))
    state = with_row(old, CHECKS)
    assert state.columns[:2] == ("former", "step")
    assert state.rows()[0]["former"] == 5.0
    assert np.isnan(state.rows()[0]["spread"])
    assert np.isnan(state.rows()[1]["former"])
    assert state.rows()[1]["step"] == armed.state.step
