"""Parameters whose priors span many decades, by their logarithms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st

import surrogate
from surrogate.inference.setup import Setup
from surrogate.log_density.coordinates.decades import Decades
from surrogate.problem.prior import Prior


def test_the_map_and_its_inverse():
    decades = Decades(np.array([0.0, np.nan, 3.0]))
    x = np.array([[1e-200, -5.0, 4.0], [1e200, 5.0, 3.5]])
    w = decades.forward(x)
    np.testing.assert_allclose(w, [[np.log(1e-200), -5.0, 0.0], [np.log(1e200), 5.0, np.log(0.5)]])
    np.testing.assert_allclose(decades.inverse(w), x)
    step = 1e-6
    slope = (decades.inverse(w + step) - decades.inverse(w - step)) / (2.0 * step)
    np.testing.assert_allclose(np.exp(decades.log_slope(w)), slope, rtol=1e-6)


@pytest.mark.parametrize(
    ("prior", "origin"),
    [
        (st.loguniform(1e-12, 1.0), 0.0),
        (st.loguniform(1e-3, 10.0), 0.0),
        (st.lognorm(4.0, loc=2.0), 2.0),
        (st.gamma(0.1), 0.0),
        (st.loguniform(0.1, 1.0), None),
        (st.halfcauchy(0.0, 5.0), None),
        (st.norm(0.0, 1e6), None),
        ((0.0, 1.0), None),
    ],
)
def test_which_priors_span_decades(prior, origin):
    decades = Setup(Prior.of({"a": prior, "b": st.norm()})).scaled.decades
    assert (None if decades is None else decades.origin[0]) == origin


@pytest.mark.parametrize(("decades", "seed"), [pytest.param(12, 1, marks=pytest.mark.slow), (20, 2)])
def test_a_peak_in_many_decades(decades, seed):
    """A normal of log10 g with an sd of 0.2 somewhere in a prior that is uniform in log g."""
    prior = st.loguniform(10.0**-decades, 1.0)
    calls = []

    def log_likelihood(x):
        calls.append(x[0])
        return -0.5 * ((np.log10(x[0]) + 8.4) / 0.2) ** 2

    result = surrogate.infer(log_likelihood, {"g": prior}, seed=seed, progress=False, n_samples=2000)
    assert result.converged, result.status
    assert min(calls) >= 10.0**-decades
    assert max(calls) <= 1.0
    expected = np.log(np.sqrt(2.0 * np.pi) * 0.2 / decades)
    assert abs(result.log_evidence - expected) < max(4.0 * result.log_evidence_error, 0.03)
    logs = np.log10(result.samples[:, 0])
    mean = np.average(logs, weights=result.weights)
    assert abs(mean + 8.4) < 0.02
    assert abs(np.sqrt(np.average((logs - mean) ** 2, weights=result.weights)) / 0.2 - 1.0) < 0.05
    np.testing.assert_allclose(
        result.predictor()(np.array([1e-8])), result.emulator.log_likelihood([[1e-8]])[0], rtol=1e-8
    )


@pytest.mark.slow
def test_a_smooth_upper_limit():
    """Flat over seven decades, then a fall by 500,000 nats in three."""
    result = surrogate.infer(lambda x: -0.5 * (10.0 ** x[0] / 1e-3) ** 2, {"lg": (-10.0, 0.0)}, seed=1, progress=False)
    assert result.converged, result.status
    grid = np.linspace(-10.0, 0.0, 200_001)
    expected = np.log(np.exp(-0.5 * (10.0**grid / 1e-3) ** 2).mean())
    assert abs(result.log_evidence - expected) < max(4.0 * result.log_evidence_error, 0.03)
