"""Regression on values and gradients: fewer evaluations, and conjugate gradients against the dense solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from surrogate.estimators.gradient_gp import GradientGPRegressor
from surrogate.gp.derivative import SMOOTH_KERNELS, JointCovariance, JointOperator
from surrogate.gp.noise import Nugget
from surrogate.gp.process import Data, Process
from surrogate.linalg.stationary import CORRELATIONS

D = 10
MIXING = np.random.default_rng(0).standard_normal((D, D)) / np.sqrt(D)


def function(x):
    return np.sin(x @ MIXING.T).sum(1) + 0.5 * np.cos(x[:, 0] * x[:, 1]) + 0.3 * np.exp(-0.5 * (x**2).sum(1) / D)


def slope(x):
    out = np.cos(x @ MIXING.T) @ MIXING
    bent = 0.5 * np.sin(x[:, 0] * x[:, 1])
    out[:, 0], out[:, 1] = out[:, 0] - bent * x[:, 1], out[:, 1] - bent * x[:, 0]
    return out - 0.3 / D * x * np.exp(-0.5 * (x**2).sum(1) / D)[:, None]


def points(n, seed):
    return np.random.default_rng(seed).uniform(-2, 2, (n, D))


def error(regressor, seed=2):
    new = points(1000, seed)
    return float(np.sqrt(np.mean((regressor.predict(new) - function(new)) ** 2)))


@parametrize_with_checks([GradientGPRegressor(trend="linear")])
def test_scikit_learn_estimator(estimator, check):
    if check.func.__name__ == "check_array_api_input":
        pytest.skip("the array API of scipy is off")
    check(estimator)


def test_the_slope_of_the_test_function():
    x = points(1, 0)
    numeric = [(function(x + h) - function(x - h))[0] / 2e-5 for h in 1e-5 * np.eye(D)]
    np.testing.assert_allclose(slope(x)[0], numeric, atol=1e-8)


@pytest.mark.slow
def test_a_quarter_of_the_evaluations_is_enough():
    """In 10 dimensions 50 points with gradients are as good as 400 without: 0.50 and 0.51."""
    few, many = points(50, 1), points(200, 1)
    with_gradients = GradientGPRegressor().fit(few, function(few), slope(few))
    without = GradientGPRegressor().fit(many, function(many))
    assert error(with_gradients) < 0.8 * error(without)


def test_errors_are_of_the_size_that_is_claimed():
    x, new = points(60, 1), points(500, 2)
    mean, sd = GradientGPRegressor().fit(x, function(x), slope(x)).predict(new, return_std=True)
    assert 0.6 < np.sqrt(np.mean(((mean - function(new)) / sd) ** 2)) < 1.6


def test_some_gradients_may_be_unknown_and_units_do_not_matter():
    x = points(40, 1)
    gradient = slope(x)
    gradient[::2] = np.nan
    plain = GradientGPRegressor().fit(x, function(x), gradient)
    scales = np.geomspace(1e-3, 1e3, D)
    scaled = GradientGPRegressor().fit(x * scales + 5.0, 1e4 * function(x), 1e4 * gradient / scales)
    new = points(50, 2)
    np.testing.assert_allclose(scaled.predict(new * scales + 5.0), 1e4 * plain.predict(new), rtol=2e-2, atol=200.0)
    np.testing.assert_allclose(plain.predict(x), function(x), atol=0.02)


@pytest.mark.parametrize("kernel", sorted(SMOOTH_KERNELS))
def test_products_and_columns_without_the_matrix(kernel):
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(9, 3, dtype=torch.float64, generator=generator)
    lengthscale = torch.tensor([0.7, 1.3, 2.0], dtype=torch.float64)
    joint = JointCovariance(CORRELATIONS[kernel], u, lengthscale, torch.tensor([7, 0, 2, 4]))
    operator, dense = JointOperator(joint, 2.5, block=4), 2.5 * joint.dense()
    v = torch.randn(joint.rows, 3, dtype=torch.float64, generator=generator)
    index = torch.tensor([20, 3, 9, 0, 14])
    torch.testing.assert_close(operator.matmul(v), dense @ v)
    torch.testing.assert_close(operator.matmul(v[:, 0]), dense @ v[:, 0])
    torch.testing.assert_close(operator.diag(), dense.diagonal())
    torch.testing.assert_close(operator.columns(index), dense[:, index])
    torch.testing.assert_close(operator.column(12), dense[:, 12])
    torch.testing.assert_close(operator.submatrix(index), dense[index][:, index])


@pytest.mark.slow
def test_conjugate_gradients_give_what_cholesky_gives():
    x, new = points(40, 1), points(3, 2)
    machine = GradientGPRegressor(max_exact=400, rank=300, tol=1e-8).fit(x, function(x), slope(x))
    u, z = (x - machine._centre) / machine._scale, (function(x) - machine._mean) / machine._sd
    data = Data.of(u, z, slope=slope(x) * machine._scale / machine._sd)
    fitted = machine._posterior
    process = fitted.process
    exact = Process(process.kernel, process.mean, Nugget(fitted.noise), scale=fitted.scale).condition(data)
    inside = (new - machine._centre) / machine._scale
    np.testing.assert_allclose(fitted.mean(inside), exact.mean(inside), atol=1e-5)
    np.testing.assert_allclose(fitted.variance(inside), exact.variance(inside), rtol=1e-4)
    assert machine.residual_ < 1.1e-8


@pytest.mark.slow
def test_the_preconditioner_saves_iterations():
    x = points(90, 1)
    few, many = (
        GradientGPRegressor(max_exact=360, rank=rank, tol=1e-3).fit(x, function(x), slope(x)).n_iter_
        for rank in (180, 720)
    )
    assert many < few / 2


def test_says_when_it_has_not_converged():
    x = points(60, 1)
    with pytest.warns(ConvergenceWarning, match="a larger rank or max_iter helps"):
        GradientGPRegressor(max_exact=300, rank=5, max_iter=3).fit(x, function(x), slope(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": "matern32"}, "kernel must be one of matern52, rbf"),
        ({"trend": "cubic"}, "trend must be one of"),
        ({"rank": 0}, "rank must be at least 1"),
    ],
)
def test_refuses_settings(settings, message):
    x = points(5, 0)
    with pytest.raises(ValueError, match=message):
        GradientGPRegressor(**settings).fit(x, function(x))


def test_refuses_a_gradient_of_another_shape():
    x = points(5, 0)
    with pytest.raises(ValueError, match=r"gradient must have the shape \(5, 10\) of X, got \(5, 9\)"):
        GradientGPRegressor().fit(x, function(x), slope(x)[:, 1:])
