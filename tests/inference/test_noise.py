"""Noisy log-likelihoods: the common sd as a hyperparameter, how it is found, and what the stopping rule makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import surrogate
from likelihoods import TARGETS
from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.solvers.cholesky import Cholesky
from surrogate.gp.trended import Hyperparameters, Trended
from surrogate.inference.checks.batch_error import batch_error
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.parameters import Structure
from surrogate.log_density.search.noise import choose_noise
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation

RECIPE = Trended("rbf", Polynomial("quadratic"))


def training(n=25, d=2, seed=0, **columns):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n, d))
    y = np.sin(2 * u[:, 0]) - (u**2).sum(1) + 0.5 * rng.standard_normal(n)
    return Data.of(u, y, depth=np.maximum(0, -y - 2), **columns)


THETA = np.array([0.3, np.log(0.05), 0.2, -0.1, 0.7, np.log(0.4)])


def test_a_common_noise_is_the_same_as_that_noise_given():
    """v for all points, or the same sd with each of them."""
    given = Data.of(*(getattr(training(), name).numpy() for name in ("u", "y")), noise=np.full(25, 0.4))
    given = replace(given, depth=training().depth)
    value, gradient = RECIPE.negative_log_evidence(training(), THETA)
    other, slope = RECIPE.negative_log_evidence(given, THETA[:-1])
    assert value == pytest.approx(other, rel=1e-12)
    np.testing.assert_allclose(gradient[:-1], slope, rtol=1e-9)


def test_units_scale_the_common_noise():
    """A unit of two at half the sd is one at the whole."""
    halved = THETA - np.array([0, 0, 0, 0, 0, np.log(2.0)])
    expected = RECIPE.negative_log_evidence(training(), THETA)[0]
    assert RECIPE.negative_log_evidence(training(unit=np.full(25, 2.0)), halved)[0] == pytest.approx(
        expected, rel=1e-12
    )


def test_units_and_subsets():
    unit = np.linspace(1, 2, 25)
    part = training(unit=unit).subset(np.array([3, 1]))
    np.testing.assert_array_equal(part.unit.numpy(), unit[[3, 1]])


@pytest.mark.parametrize("unit", [None, np.linspace(0.5, 2.0, 25)])
def test_gradient_with_noise(unit):
    """Central differences; the error is h^2 relative to values of order 100."""
    data = training(unit=unit)
    given = data.subset(np.arange(5))
    _, gradient = RECIPE.negative_log_evidence(data, THETA, given=given)
    for i, step in enumerate(1e-5 * np.eye(len(THETA))):
        above, below = (RECIPE.negative_log_evidence(data, THETA + s * step, given=given)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-5)


def test_hyperparameters_go_through_a_vector():
    hyper = Hyperparameters.of(THETA, 2)
    assert hyper.log_noise == THETA[-1]
    np.testing.assert_array_equal(hyper.vector(), THETA)
    assert Hyperparameters.of(THETA[:-1], 2).log_noise is None


def test_the_common_sd_is_found():
    """60 points of a quadratic with noise of sd 0.5; the relative sd of the estimate is 1 / sqrt(2 (60 - 6))."""
    rng = np.random.default_rng(4)
    u = rng.standard_normal((60, 2))
    data = Data.of(u, 0.5 * rng.standard_normal(60) - (u**2).sum(1))
    start = replace(Hyperparameters.default(2, scale=1.0), log_noise=0.0)
    hyper, _ = RECIPE.fit(data, [start])
    assert np.exp(hyper.log_noise) == pytest.approx(0.5, rel=5 / np.sqrt(108))


def test_the_mean_is_that_of_least_squares_where_noise_dominates():
    """Parity with ridge regression on the basis: with a vanishing residual both are the same linear algebra."""
    data = training()
    hyper = Hyperparameters(np.log(2.5e-3), np.log(1e-6), np.zeros(2), 0.0, np.log(0.7))
    model = RECIPE.condition(data, hyper)
    phi = RECIPE.trend.basis(data.u).numpy()
    covariance = phi @ phi.T + (0.49 + 1e-6) * np.eye(25)
    expected = phi @ phi.T @ np.linalg.solve(covariance, data.y.numpy())
    np.testing.assert_allclose(model.mean(data.u.numpy()), expected, atol=1e-3)


def test_a_matrix_that_cannot_be_factored_gets_a_nugget():
    u = torch.zeros(30, 2, dtype=torch.float64)
    data = Data(u, torch.zeros(30, dtype=torch.float64), torch.zeros(30), torch.zeros(30))
    hyper = Hyperparameters(0.0, np.log(1e-6), np.zeros(2), 0.0)
    recipe = replace(RECIPE, nugget=1e-19)
    with pytest.raises(torch.linalg.LinAlgError):
        Cholesky().condition(recipe.process(hyper), data)
    assert "nugget 1e-1" in recipe.condition(data, hyper).status
    with pytest.raises(FloatingPointError, match="times the nugget: are all inputs finite"):
        replace(RECIPE, nugget=1e-40).condition(data, hyper)


def test_noise_explains_errors_of_a_batch():
    y, predicted = np.array([-1.0, -3.0]), np.array([0.0, -3.0])
    assert batch_error(y, predicted, 0.0, noise=np.array([0.4, 0.0])) == 0.0
    assert batch_error(y, predicted, 0.0, noise=np.array([0.2, 0.0])) == pytest.approx(0.5 / 0.25)
    assert batch_error(y, predicted, 0.0, noise=0.0) == batch_error(y, predicted, 0.0)


def quadratic_data(sd, n=40, seed=2):
    """Points of a Gaussian in three dimensions over the unit cube, with noise that nobody declares."""
    rng = np.random.default_rng(seed)
    t = rng.random((n, 3))
    y = -30.0 * ((t - 0.4) ** 2).sum(1) + sd * rng.standard_normal(n)
    return Dataset.empty(3).append(t, [Evaluation(float(v), "ok") for v in y], 0), t


@pytest.mark.parametrize("sd", [0.3, 1.0])
def test_undeclared_noise_is_taken_up(sd):
    """Its sd to five standard errors of 40 - 10 degrees of freedom."""
    data, t = quadratic_data(sd)
    present = fit_structure(FitProblem(data, t), Structure.plain(np.zeros(3), np.ones(3)))
    found = choose_noise(FitProblem(data, t), present)
    assert np.exp(found.hyper.log_noise) == pytest.approx(sd, rel=5 / np.sqrt(60))
    assert found.score > present.score + 8.0


def test_exact_values_are_left_alone():
    """A smooth function that is no quadratic: the same object comes back."""
    data, t = quadratic_data(0.0)
    y = data.y + 3.0 * np.sin(4 * t[:, 0]) * t[:, 1]
    data = replace(data, y=y)
    present = fit_structure(FitProblem(data, t), Structure.plain(np.zeros(3), np.ones(3)))
    assert choose_noise(FitProblem(data, t), present) is present
    declared = replace(data, noise=np.full(40, 0.1))
    assert choose_noise(FitProblem(declared, t), present) is present


def test_noise_that_vanished_is_dropped():
    data, t = quadratic_data(0.0)
    present = fit_structure(FitProblem(data, t), Structure.plain(np.zeros(3), np.ones(3)))
    noisy = replace(present, hyper=replace(present.hyper, log_noise=np.log(1e-3)))
    assert choose_noise(FitProblem(data, t), noisy).hyper.log_noise is None
    audible = replace(present, hyper=replace(present.hyper, log_noise=0.0))
    assert choose_noise(FitProblem(data, t), audible) is audible


@pytest.mark.slow
@pytest.mark.parametrize("name", ["noisy_gaussian2", "noisy_gaussian4", "silent_gaussian4"])
def test_runs_with_noise(name):
    """Means to five standard errors: of the draws, and of a fit to n noisy values, at most 2 sd_noise / sqrt(n) sd."""
    target = TARGETS[name]()
    result = surrogate.infer(target.log_likelihood, target.prior, seed=1, progress=False, n_samples=3000)
    assert result.converged
    sd = np.sqrt(np.diag(target.covariance))
    error = np.sqrt(1 / 2000 + 4 * target.noise**2 / result.n_evaluations)
    assert np.all(np.abs(result.mean - target.mean) < 5 * error * sd)
    assert result.log_evidence == pytest.approx(target.log_evidence, abs=5 * result.log_evidence_error)
