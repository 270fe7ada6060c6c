"""Gaussian processes that know derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.trended import Hyperparameters, Trended

D = 3


def recipe(kernel="rbf", trend="quadratic"):
    return Trended(kernel, Polynomial(trend))


def table(n=7, seed=0):
    rng = np.random.default_rng(seed)
    slope = rng.standard_normal((n, D))
    slope[[1, 4]] = np.nan
    return rng.standard_normal((n, D)), rng.standard_normal(n), np.abs(rng.standard_normal(n)), slope


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
@pytest.mark.parametrize("log_scale", [None, 0.5])
def test_gradient_of_the_marginal_likelihood(kernel, log_scale):
    u, y, depth, slope = table()
    noise = None if log_scale is None else np.full(len(y), 0.1)
    data = Data.of(u, y, depth=depth, noise=noise, slope=slope)
    theta = Hyperparameters(0.3, -1.0, np.array([0.1, -0.4, 0.3]), log_scale).vector()
    _, gradient = recipe(kernel).negative_log_evidence(data, theta)
    for i, move in enumerate(1e-5 * np.eye(len(theta))):
        above, below = (recipe(kernel).negative_log_evidence(data, theta + s * move)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx((above - below) / 2e-5, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_mean_has_the_known_values_and_derivatives(kernel):
    u, y, _, slope = table()
    rough = Hyperparameters(1.0, np.log(1e-6), np.zeros(D), 0.0)
    model = recipe(kernel).condition(Data.of(u, y, slope=slope), rough)
    np.testing.assert_allclose(model.mean(u), y, atol=2e-3)
    for i in np.flatnonzero(np.isfinite(slope).all(1)):
        step = 1e-4 * np.eye(D)
        np.testing.assert_allclose((model.mean(u[i] + step) - model.mean(u[i] - step)) / 2e-4, slope[i], atol=2e-2)


def test_a_quadratic_is_known_from_d_and_one_points():
    rng = np.random.default_rng(0)
    d = 10
    root = rng.standard_normal((d, d))
    curvature = root @ root.T / d
    u, new = rng.standard_normal((d + 1, d)), rng.standard_normal((50, d))
    data = Data.of(u, -0.5 * ((u @ curvature) * u).sum(1), slope=-u @ curvature)
    hyper = Hyperparameters(np.log(2.5e-3), np.log(1e-6), np.full(d, np.log(6.0)), np.log(10.0))
    model = recipe().condition(data, hyper)
    np.testing.assert_allclose(model.mean(new), -0.5 * ((new @ curvature) * new).sum(1), atol=0.05)


def test_variance_is_that_of_the_dense_formula():
    u, y, _, slope = table()
    data = Data.of(u, y, slope=slope)
    hyper = Hyperparameters(0.2, -3.0, np.array([0.1, 0.4, 0.3]), 0.0)
    model = recipe().condition(data, hyper)
    new = np.random.default_rng(1).standard_normal((5, D))
    both = Data.of(np.concatenate([u, new]), np.zeros(12), slope=np.concatenate([slope, np.full((5, D), np.nan)]))
    process, phi = recipe().process(hyper), both.basis(Polynomial())
    full = (process.kernel.forward(process.kernel.vector(), both.points).matrix() + phi @ phi.T).numpy()
    test = np.arange(7, 12)
    known = np.setdiff1d(np.arange(len(full)), test)
    k = full[np.ix_(known, known)] + 1e-6 * np.eye(len(known))
    cross = full[np.ix_(known, test)]
    expected = full[np.ix_(test, test)] - cross.T @ np.linalg.solve(k, cross)
    np.testing.assert_allclose(model.covariance(new), expected, atol=1e-8)
    np.testing.assert_allclose(model.variance(new), np.diag(expected), atol=1e-8)
    np.testing.assert_allclose(model.mean(new), cross.T @ np.linalg.solve(k, data.y.numpy()), atol=1e-8)


def test_subset_keeps_the_derivatives_of_its_points():
    u, y, depth, slope = table()
    part = Data.of(u, y, depth=depth, slope=slope).subset(np.array([4, 2, 0]))
    expected = Data.of(u[[4, 2, 0]], y[[4, 2, 0]], depth=depth[[4, 2, 0]], slope=slope[[4, 2, 0]])
    for name in ("u", "y", "depth", "noise", "at"):
        torch.testing.assert_close(getattr(part, name), getattr(expected, name))


def test_no_known_derivative_is_the_process_of_values():
    u, y, depth, _ = table()
    unknown = Data.of(u, y, depth=depth, slope=np.full_like(u, np.nan))
    theta = Hyperparameters.default(D, scale=1.0).vector()
    assert unknown.at is None
    assert (
        recipe().negative_log_evidence(unknown, theta)[0]
        == (recipe().negative_log_evidence(Data.of(u, y, depth=depth), theta)[0])
    )
