from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.utils.estimator_checks import parametrize_with_checks

import surrogate
from surrogate.estimators import gp as regressor
from surrogate.estimators.gp import GPRegressor
from surrogate.gp import choose
from surrogate.gp.choose import choose_process
from surrogate.gp.scales import Observations, ScaledProcess
from surrogate.gp.solvers import iterative as solver
from surrogate.gp.solvers.exact import exact_posterior
from surrogate.gp.solvers.iterative import iterative_posterior


@parametrize_with_checks([GPRegressor(kernel="rbf")])
def test_scikit_learn(estimator, check):
    check(estimator)


def problem(n=150, d=2, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, d))
    return x, 5.0 + 3.0 * np.sin(2 * x).sum(1) + 3.0 * noise * rng.standard_normal(n)


def nll(model, x, y):
    mean, sd = model.predict(x, return_std=True)
    return float(np.mean(0.5 * np.log(2 * np.pi * sd**2) + 0.5 * ((y - mean) / sd) ** 2))


def test_it_is_public():
    assert surrogate.GPRegressor is GPRegressor


def test_predictions_are_those_of_scikit_learn_at_the_same_hyperparameters():
    x, y = problem()
    model = GPRegressor(kernel="rbf").fit(x, y)
    kernel = ConstantKernel(model.output_scale_**2) * RBF(model.lengthscale_) + WhiteKernel(model.noise_**2)
    constant = model._offset + model._unit * model._posterior.constant
    other = GaussianProcessRegressor(kernel, optimizer=None).fit(x, y - constant)
    new = np.random.default_rng(1).uniform(-2, 2, (40, 2))
    mean, sd = model.predict(new, return_std=True)
    expected, expected_sd = other.predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected + constant, rtol=1e-6)
    # Ours knows that the constant was estimated.
    assert (sd >= expected_sd * (1 - 1e-9)).all()
    np.testing.assert_allclose(sd, expected_sd, rtol=0.02)
    assert model.log_marginal_likelihood_ == pytest.approx(other.log_marginal_likelihood_value_, rel=1e-8)


def test_ordinary_kriging_by_a_wide_prior():
    """An unknown constant is the limit of a constant with a wide normal prior."""
    x, y = (torch.tensor(part) for part in problem(n=40))
    process = ScaledProcess.of("matern52", 0.05, np.array([0.8, 1.2]), 1.0, "given")
    new = torch.tensor(np.random.default_rng(2).uniform(-3, 3, (10, 2)))
    k = process.operator(x)
    cov = k.dense() + 0.05 * torch.eye(40, dtype=x.dtype) + 1e7
    cross = k.cross(new).dense() + 1e7
    posterior = exact_posterior(process, Observations(x, y))
    torch.testing.assert_close(posterior.mean(new), cross @ torch.linalg.solve(cov, y), rtol=1e-5, atol=1e-5)
    variance = 1.0 + 1e7 - (cross * torch.linalg.solve(cov, cross.T).T).sum(1)
    torch.testing.assert_close(posterior.variance(new), variance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_it_finds_noise_and_scale(seed):
    x, y = problem(n=400, seed=seed)
    model = GPRegressor().fit(x, y)
    assert model.noise_ == pytest.approx(0.3, rel=4 / math.sqrt(2 * 400) + 0.05)
    new, truth = problem(n=400, seed=seed + 100)
    mean, sd = model.predict(new, return_std=True)
    inside = np.abs(truth - mean) < 1.96 * sd
    assert abs(inside.mean() - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400) + 0.02
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 1.25 * 0.3


def test_noise_may_be_left_out_of_the_sd():
    x, y = problem()
    model = GPRegressor(kernel="rbf").fit(x, y)
    _, with_noise = model.predict(x, return_std=True)
    _, without = model.predict(x, return_std=True, include_noise=False)
    np.testing.assert_allclose(with_noise**2 - without**2, model.noise_**2, rtol=1e-8)


def test_exact_values_are_interpolated():
    x, y = problem(n=80, noise=0.0)
    model = GPRegressor(noise=0.0).fit(x, y)
    mean, sd = model.predict(x, return_std=True)
    np.testing.assert_allclose(mean, y, atol=1e-4)
    new, truth = problem(n=200, noise=0.0, seed=5)
    assert np.sqrt(np.mean((model.predict(new) - truth) ** 2)) < 0.02
    assert sd.max() < 1e-2


def test_given_noise_is_kept():
    x, y = problem()
    model = GPRegressor(kernel="rbf", noise=0.5).fit(x, y)
    assert model.noise_ == pytest.approx(0.5, rel=1e-9)


def test_units_do_not_matter():
    x, y = problem(n=60)
    first, second = GPRegressor().fit(x, y), GPRegressor().fit(x * [1e3, 1e-3] + [5.0, 7.0], 1e4 * y - 3.0)
    new = np.random.default_rng(1).uniform(-2, 2, (20, 2))
    mean, sd = first.predict(new, return_std=True)
    other, other_sd = second.predict(new * [1e3, 1e-3] + [5.0, 7.0], return_std=True)
    np.testing.assert_allclose(other, 1e4 * mean - 3.0, rtol=1e-4)
    np.testing.assert_allclose(other_sd, 1e4 * sd, rtol=1e-3)


def test_repeated_inputs_with_other_outputs_are_noise():
    x, y = problem(n=60)
    model = GPRegressor().fit(np.vstack([x, x]), np.concatenate([y, y + 0.6]))
    assert 0.2 < model.noise_ < 0.7


def test_noise_has_a_floor_beside_the_roughness_of_the_kernel():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    y = np.abs(x).sum(1) + 0.3 * np.sign(x[:, 0])
    model = GPRegressor(kernel="matern12").fit(x, y)
    _, sd = model.predict(rng.standard_normal((200, 3)), return_std=True, include_noise=False)
    assert model.noise_**2 > 0.02 * np.median(sd**2)


def test_the_kernel_with_the_most_evidence_is_taken():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 10, 200))[:, None]
    smooth = np.sin(x[:, 0]) + 0.01 * rng.standard_normal(200)
    rough = np.cumsum(rng.standard_normal(200) * np.sqrt(np.diff(x[:, 0], prepend=0.0)))  # Brownian motion
    assert GPRegressor().fit(x, smooth).kernel_ in {"rbf", "matern52"}
    assert GPRegressor().fit(x, rough).kernel_ == "matern12"


def test_beyond_the_exact_fit_neighbours_find_the_hyperparameters(monkeypatch):
    for name, value in {"EXACT_FIT": 500, "_PILOT": 200, "_TARGETS": 300, "_NEIGHBOURS": 40}.items():
        monkeypatch.setattr(choose, name, value)
    monkeypatch.setattr(regressor, "EXACT_FIT", 500)
    x, y = problem(n=700)
    model = GPRegressor(kernel="rbf").fit(x, y)
    assert "predictions of 300 points from their 40 nearest of 700" in model.status_
    assert model.noise_ == pytest.approx(0.3, rel=4 / math.sqrt(2 * 600))
    new, truth = problem(n=500, seed=9)
    ideal = 0.5 * math.log(2 * math.pi * 0.09) + 0.5
    assert nll(model, new, truth) < ideal + 0.1


@pytest.mark.slow
def test_conjugate_gradients_give_the_posterior_of_cholesky(monkeypatch):
    """The same hyperparameters, both solvers: means within the residual, variances near and on the safe side."""
    x, y = problem(n=500)
    exact = GPRegressor(kernel="matern32").fit(x, y)
    monkeypatch.setattr(regressor, "_MOST_EXACT", {"cpu": 400})
    iterative = GPRegressor(kernel="matern32").fit(x, y)
    assert (exact.solver_, iterative.solver_) == ("cholesky", "cg")
    assert iterative.residual_ <= 1e-2
    assert math.isnan(iterative.log_marginal_likelihood_)
    new, truth = problem(n=400, seed=7)
    (mean, sd), (other, other_sd) = (model.predict(new, return_std=True) for model in (exact, iterative))
    assert np.sqrt(np.mean((mean - other) ** 2)) < 0.02 * sd.mean()
    assert np.median(other_sd / sd) == pytest.approx(1.0, abs=0.25)  # 40 points were held out for the scale
    assert nll(iterative, new, truth) < nll(exact, new, truth) + 0.05


@pytest.mark.parametrize("d", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (4, 8))])
def test_conjugate_gradients_of_exact_values(d):
    """No noise at all: errors near those of Cholesky, of the size that is claimed, and a word on the raised eta."""
    rng = np.random.default_rng(0)
    x, new = (torch.tensor(rng.uniform(-1.7, 1.7, (n, d))) for n in (900, 300))
    y, truth = (torch.sin(part).sum(1) + 0.3 * part[:, 0] * part[:, 1] for part in (x, new))
    eps = torch.finfo(torch.float64).eps
    process = ScaledProcess.of("rbf", 900 * eps, np.full(d, 2.5), None, "given")
    exact = exact_posterior(process, Observations(x, y), calibration=torch.arange(100))
    iterative = iterative_posterior(process, Observations(x, y), generator=torch.Generator().manual_seed(0), rank=300)
    errors = [float((model.mean(new) - truth).square().mean().sqrt()) for model in (exact, iterative)]
    assert iterative.residual <= 1e-2
    assert errors[1] < 3.0 * errors[0]
    z = (iterative.mean(new) - truth) / (iterative.variance(new) + iterative.process.noise_variance).sqrt()
    assert 0.4 < float(z.square().mean().sqrt()) < 2.5
    assert iterative.process.eta >= 10 * process.eta * (1.0 - eps)
    assert f"eta raised to {iterative.process.eta:.1e}" in iterative.status


def test_a_correction_that_loses_is_not_made(monkeypatch):
    """Float32 for a matrix that rounding makes indefinite: the residual is no worse than that of nothing at all."""
    monkeypatch.setattr(solver, "_SINGLE", 0.0)
    monkeypatch.setattr(solver, "_SOLVABLE", 0.0)
    x = torch.tensor(np.random.default_rng(0).uniform(-1.7, 1.7, (600, 2)))
    y = torch.sin(x).sum(1)
    process = ScaledProcess.of("rbf", 1e-11, np.full(2, 2.0), None, "given")
    posterior = iterative_posterior(process, Observations(x, y), generator=torch.Generator().manual_seed(0))
    assert posterior.residual <= 1.0


def test_a_residual_that_is_not_reached_is_told():
    x, y = (torch.tensor(part) for part in problem(n=400))
    process = ScaledProcess.of("rbf", 1e-6, np.array([1.0, 1.0]), None, "given")
    generator = torch.Generator().manual_seed(0)
    posterior = iterative_posterior(process, Observations(x, y), generator=generator, rank=5, max_iterations=3)
    assert posterior.residual > 1e-2
    assert f"stopped at a residual of {posterior.residual:.1e}, for 0.01" in posterior.status


def test_what_the_solver_left_is_filled_from_the_neighbours():
    """Exactly where all points are among the 64 neighbours, and nearly so with one iteration of many points."""
    x, y = (torch.tensor(part) for part in problem(n=60))
    process = ScaledProcess.of("matern32", 0.01, np.array([0.7, 0.7]), None, "given")
    generator = torch.Generator().manual_seed(0)
    posterior = iterative_posterior(process, Observations(x, y), generator=generator, rank=5, max_iterations=1)
    assert posterior.residual > 0.1
    new = torch.tensor(np.random.default_rng(2).uniform(-2, 2, (10, 2)))
    operator = process.operator(x)
    k = operator.dense() + 0.01 * torch.eye(60, dtype=x.dtype)
    exact = y.mean() + operator.cross(new).dense() @ torch.linalg.solve(k, y - y.mean())
    torch.testing.assert_close(posterior.mean(new), exact)
    torch.testing.assert_close(posterior.rest, y - y.mean() - k @ posterior.weights)


def test_factorisation_is_rescued_and_says_so():
    x, y = (torch.tensor(part) for part in problem(n=60))
    x, y = torch.cat([x, x]), torch.cat([y, y])
    process = ScaledProcess.of("rbf", 1e-18, np.array([5.0, 5.0]), None, "given")
    posterior = exact_posterior(process, Observations(x, y))
    assert posterior.process.eta > 1e-18
    assert f"{posterior.process.eta:.3g}" in posterior.status


def test_left_out_scale_is_that_of_refits():
    """The mean square of leave-one-out errors over variances, by leaving out one point after the other."""
    x, y = (torch.tensor(part) for part in problem(n=30))
    y = y - y.mean()
    process = ScaledProcess.of("rbf", 0.05, np.array([1.0, 1.0]), None, "given")
    posterior = exact_posterior(process, Observations(x, y), calibration=torch.arange(30))
    cov = process.operator(x).dense() + 0.05 * torch.eye(30, dtype=x.dtype)
    rest = y - posterior.constant
    total = 0.0
    for i in range(30):
        others = torch.arange(30) != i
        weights = torch.linalg.solve(cov[others][:, others], cov[others, i])
        total += float((rest[i] - weights @ rest[others]) ** 2 / (cov[i, i] - weights @ cov[others, i]))
    assert posterior.process.variance == pytest.approx(total / 30, rel=1e-8)


def test_the_seed_decides_all():
    x, y = problem(n=500)
    first, second = (
        GPRegressor(kernel="rbf", random_state=3).fit(x, y),
        GPRegressor(kernel="rbf", random_state=3).fit(x, y),
    )
    np.testing.assert_array_equal(first.predict(x[:5]), second.predict(x[:5]))


def test_two_points_and_constant_targets():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GPRegressor().fit(np.array([[0.0], [1.0]]), np.array([1.0, 2.0]))
        assert np.isfinite(model.predict(np.array([[0.5]]), return_std=True)).all()
        flat = GPRegressor().fit(np.arange(10.0)[:, None], np.full(10, 7.0))
        mean, sd = flat.predict(np.array([[3.5]]), return_std=True)
    assert mean[0] == pytest.approx(7.0)
    assert np.isfinite(sd).all()
    assert flat.status_.endswith("all values of y are equal: the standard deviations are meaningless")


def test_misuse_is_told():
    x, y = problem(n=10)
    with pytest.raises(ValueError, match="kernel must be one of"):
        GPRegressor(kernel="cubic").fit(x, y)
    with pytest.raises(ValueError, match="noise must be 'fit', 'profile', or standard"):
        GPRegressor(noise=-1.0).fit(x, y)


def test_known_noise_fixes_the_scale_through_eta():
    x, y = (torch.tensor(part) for part in problem(n=100))
    y = (y - y.mean()) / y.std()
    process = choose_process(
        Observations(x, y), kernels=("rbf",), noise=0.02, generator=torch.Generator().manual_seed(0)
    )
    assert process.noise_variance == pytest.approx(0.02, rel=1e-9)


def test_copies_of_rows_count_once():
    """A copy is no second observation: it would say that there is no noise."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, (60, 2))
    y = np.sin(2 * x[:, 0]) + 0.3 * rng.standard_normal(60)
    once, copied = GPRegressor().fit(x, y), GPRegressor().fit(np.r_[x, x, x[:5]], np.r_[y, y, y[:5]])
    assert copied.noise_ == once.noise_
    np.testing.assert_array_equal(copied.predict(x, return_std=True), once.predict(x, return_std=True))
