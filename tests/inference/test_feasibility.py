"""Whole runs in which a support vector machine learns where a log-likelihood is -inf."""

import numpy as np
import pytest

import surrogate
from likelihoods import TARGETS
from surrogate.log_density.feasibility.process import FeasibilityProcess
from surrogate.log_density.feasibility.svm import FeasibilityMachine

OPTIONS = {"seed": 1, "progress": False, "n_samples": 2000}


def half_normal(x):
    """Standard normal of two parameters where the first is positive."""
    return float(-0.5 * (x @ x)) if x[0] > 0 else -np.inf


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return surrogate.infer(half_normal, [(-5, 5)] * 2, feasibility="svm", output=folder, **OPTIONS), folder


def test_the_posterior_of_a_half_normal(run):
    """Moments to 5 standard errors of 2000 draws and 0.05 sd; evidence pi / 100 to 0.1."""
    result, _ = run
    assert result.converged
    error = 5 / np.sqrt(2000) + 0.05
    mean = result.weights @ result.samples / result.weights.sum()
    np.testing.assert_allclose(mean, [np.sqrt(2 / np.pi), 0.0], atol=error)
    assert result.log_evidence == pytest.approx(np.log(np.pi / 100), abs=0.1)


def test_a_machine_has_learned_it(run):
    result, _ = run
    assert isinstance(result.emulator.model.feasibility, FeasibilityMachine)
    x = np.array([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(result.emulator.feasibility(x), [1.0, 0.0])


def test_a_finished_run_is_read_with_its_machine(run):
    result, folder = run
    again = surrogate.load_result(folder, n_samples=200)
    assert isinstance(again.emulator.model.feasibility, FeasibilityMachine)
    x = np.random.default_rng(0).uniform(-3, 3, (50, 2))
    np.testing.assert_array_equal(again.emulator.log_likelihood(x), result.emulator.log_likelihood(x))


def test_its_export_is_the_same_function(run, tmp_path):
    result, _ = run
    result.export(tmp_path / "p.npz")
    predictor = surrogate.load_predictor(tmp_path / "p.npz")
    x = np.random.default_rng(0).uniform(-3, 3, (50, 2))
    expected = result.emulator.log_likelihood(x)
    assert np.isneginf(expected).any()
    np.testing.assert_allclose(predictor.log_likelihood(x), expected, rtol=1e-7)
    np.testing.assert_allclose([predictor(each) for each in x], expected, rtol=1e-7)


def test_a_process_learns_it_unless_something_else_is_asked_for():
    options = OPTIONS | {"max_evaluations": 12, "n_samples": 200}
    result = surrogate.infer(half_normal, [(-5, 5)] * 2, **options)
    assert isinstance(result.emulator.model.feasibility, FeasibilityProcess)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cliff3", "crescent"])
def test_harder_regions(name):
    """Means to 5 standard errors of 2000 draws and 0.15 sd: a machine does not know how sure it is."""
    target = TARGETS[name]()
    result = surrogate.infer(target.log_likelihood, target.bounds, feasibility="svm", **OPTIONS)
    mean = result.weights @ result.samples / result.weights.sum()
    sd = np.sqrt(np.diag(target.covariance))
    np.testing.assert_allclose((mean - target.mean) / sd, 0.0, atol=5 / np.sqrt(2000) + 0.15)
