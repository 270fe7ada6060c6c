"""Re-weighting with true evaluations corrects a wrong surrogate, and says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest

import surrogate
from surrogate.executors.serial import SerialExecutor
from surrogate.inference.reweighting import reweighted
from surrogate.problem.target import Posterior
from surrogate.storage.journal import Journal
from tests import finished

PRIOR = {"a": (-6, 6), "b": (-6, 6)}


def log_likelihood(a, b):
    y = -0.5 * (a**2 + (b - 0.3 * a) ** 2)
    return y, {"sum": a + b, "product": a * b}


@pytest.fixture(scope="module")
def run():
    return surrogate.infer(log_likelihood, PRIOR, seed=3, progress=False, n_samples=2000)


def test_derived_values_are_emulated(run):
    assert run.derived_names == ("sum", "product")
    a, b = run.samples.T
    truth = np.stack([a + b, a * b], axis=1)
    assert np.abs(run.derived - truth).max() < 0.05
    assert (run.derived_error < 0.02).all()
    assert "held-out error of each: sum" in run.summary()


def test_a_good_surrogate_hardly_changes(run):
    posterior = Posterior(log_likelihood, PRIOR)
    got = reweighted(run, posterior, SerialExecutor(), 300, np.random.default_rng(0))
    assert got.reweighting.reliable
    assert got.reweighting.ess > 290
    assert got.n_evaluations == run.n_evaluations + 300
    np.testing.assert_array_equal(got.derived[:, 0], got.samples.sum(1))
    np.testing.assert_array_equal(got.derived_error, 0.0)
    assert abs(got.log_evidence - run.log_evidence) < 0.02
    assert "re-weighted with 300 true evaluations: effective size" in got.status


def test_a_wrong_surrogate_is_corrected(run):
    """Told that the truth is narrower and shifted by half a sd, the weighted mean follows within 5 standard errors."""

    def shifted(x):
        return -0.5 * (((x[0] - 0.5) / 0.9) ** 2 + ((x[1] - 0.3 * x[0]) / 0.9) ** 2)

    got = reweighted(run, Posterior(shifted, PRIOR), SerialExecutor(), 1500, np.random.default_rng(0))
    assert got.reweighting.reliable
    assert 200 < got.reweighting.ess < 1400
    assert abs(got.mean[0] - 0.5) < 5 * 0.9 / np.sqrt(got.reweighting.ess)
    exact = np.log(2 * np.pi * 0.81 / 144)
    assert abs(got.log_evidence - exact) < 5 * got.log_evidence_error


def test_failures_and_holes_get_no_weight(run):
    def holes(a, b):
        if a > 1:
            return -np.inf
        if b > 1.5:
            raise RuntimeError
        return log_likelihood(a, b)

    got = reweighted(run, Posterior(holes, PRIOR), SerialExecutor(), 400, np.random.default_rng(0))
    assert got.samples[:, 0].max() <= 1
    assert len(got.weights) < 400
    assert got.weights.sum() == pytest.approx(1.0)
    assert got.reweighting.failed > 0


def test_unreliable_weights_are_called_so(run):
    def elsewhere(a, b):
        return -0.5 * ((a - 5) ** 2 + b**2) / 0.05

    got = reweighted(run, Posterior(elsewhere, PRIOR), SerialExecutor(), 400, np.random.default_rng(0))
    assert not got.reweighting.reliable
    assert "NOT RELIABLE" in got.status
    assert got.log_evidence_error >= run.log_evidence_error


def test_nothing_finite_and_too_many_are_refused(run):
    posterior = Posterior(lambda a, b: float("nan"), PRIOR)
    with pytest.raises(ValueError, match=r"none of 10 evaluations.*NaN"):
        reweighted(run, posterior, SerialExecutor(), 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match="at most the number of draws"):
        reweighted(run, posterior, SerialExecutor(), 10**6, np.random.default_rng(0))


def test_evaluations_in_the_journal_are_not_repeated(run, tmp_path):
    journal, calls = Journal(tmp_path / "reweighting.jsonl"), []

    def counted(a, b):
        calls.append(a)
        return log_likelihood(a, b)

    posterior = Posterior(counted, PRIOR)
    first = reweighted(run, posterior, SerialExecutor(), 20, np.random.default_rng(0), journal=journal)
    again = reweighted(run, posterior, SerialExecutor(), 20, np.random.default_rng(0), journal=journal)
    assert len(calls) == 20
    np.testing.assert_array_equal(first.weights, again.weights)
    reweighted(run, posterior, SerialExecutor(), 20, np.random.default_rng(1), journal=journal)
    assert len(calls) > 30


@pytest.mark.slow
def test_infer_reweights(tmp_path):
    got = surrogate.infer(
        log_likelihood, PRIOR, seed=3, progress=False, n_samples=500, reweight=100, output=tmp_path / "run"
    )
    assert got.reweighting.n == len(got.weights) == 100
    assert (tmp_path / "run" / "reweighting.jsonl").exists()
    assert np.loadtxt(tmp_path / "run" / "chain.txt").shape == (100, 2 + 2 + 2)


def test_summary_of_exact_values_has_no_held_out_error():
    made = finished.result(derived_error=np.zeros(1))
    assert "held-out" not in made.summary()
