"""Posteriors with heavy tails: evaluations go where the mass is uncertain, not to the top alone."""

import numpy as np
import pytest
from scipy import stats

import surrogate

HALF = 20.0
TAIL = stats.t(2, 0.3)


@pytest.mark.parametrize("seeds", [(4,), pytest.param((1, 2, 3), marks=pytest.mark.slow)])
def test_a_student_of_two_degrees_of_freedom(seeds):
    """Medians over seeds; of three, with most points on the top, 0.16 sds and 0.1 nats, and the last one below 4."""
    x = np.linspace(-HALF, HALF, 100_001)
    weights = TAIL.pdf(x) / TAIL.pdf(x).sum()
    mean = weights @ x
    sd = np.sqrt(weights @ (x - mean) ** 2)
    log_evidence = np.log(TAIL.cdf(HALF) - TAIL.cdf(-HALF)) - np.log(2 * HALF)
    runs = [
        surrogate.infer(lambda x: float(TAIL.logpdf(x[0])), [(-HALF, HALF)], seed=seed, progress=False)
        for seed in seeds
    ]
    for run in runs:
        assert run.converged
        assert len(run.data) <= 40
        assert abs(run.log_evidence - log_evidence) < 3.0 * run.log_evidence_error
    assert np.median([abs(run.mean[0] - mean) for run in runs]) < 0.06 * sd
    assert np.median([abs(run.sd[0] / sd - 1.0) for run in runs]) < 0.06
    assert np.median([abs(run.log_evidence - log_evidence) for run in runs]) < 0.05
    assert np.median([(np.abs(run.data.x[:, 0]) > 3.0 * sd).sum() for run in runs]) >= 4
