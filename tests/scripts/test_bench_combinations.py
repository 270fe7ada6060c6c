"""Combinations of data sets: their exact likelihoods, and all evidences from the evaluations of one run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from bench_combinations import PRIOR, Data, all_results, exact, subsets  # noqa: E402

from likelihoods import desi  # noqa: E402
from surrogate.problem.prior import Prior  # noqa: E402


def test_all_combinations_the_largest_first():
    assert subsets(("a", "b", "c"))[:4] == [("a", "b", "c"), ("a", "b"), ("a", "c"), ("b", "c")]
    assert len(subsets(("a", "b", "c"))) == 7


def test_the_likelihood_of_two_data_sets_is_that_of_the_ready_target():
    """Where nucleosynthesis is a factor of the likelihood instead of the prior."""
    x = np.array([[68.0, 0.31, -0.9, -0.3, 0.0222], [72.0, 0.28, -1.2, 0.4, 0.0215], [60.0, 0.4, 0.5, -0.1, 0.0222]])
    found = Data().log_posterior(("bao", "rates"), x)
    nucleosynthesis = -0.5 * ((x[:, 4] - desi.OMEGA_B_BBN) / desi.OMEGA_B_BBN_SD) ** 2
    expected = [desi.log_likelihood(*point)[0] for point in x] - nucleosynthesis + Prior.of(PRIOR).log_density(x)
    assert found[2] == -np.inf  # no matter era
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-10)


def test_the_magnitude_is_integrated_out():
    data, x = Data(), np.array([[68.0, 0.31, -0.9, -0.3, 0.0222]])
    compare, outputs = data.compare(("sn",)), data.outputs(x)
    m = np.linspace(-8.0, 8.0, 40_001)
    values = np.array([compare(outputs, {"magnitude": np.array([a])})[0] for a in m[::20]])
    density = np.exp(values - values.max() - 0.5 * m[::20] ** 2) / np.sqrt(2.0 * np.pi)
    integral = np.log(density.sum() * (m[20] - m[0])) + values.max()
    found = data.log_posterior(("sn",), x)[0] - Prior.of(PRIOR).log_density(x)[0]
    assert found == pytest.approx(integral, abs=1e-3)


@pytest.mark.slow
def test_evidences_of_all_combinations_from_one_run():
    data = Data()
    for part, result in all_results(data, ("bao", "sn"), 1, n_samples=2000).items():
        assert result.converged, result.status
        assert abs(result.log_evidence - exact(data, part, result)[0]) < 0.2
