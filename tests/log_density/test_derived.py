"""Regressions of derived quantities, and what they say of their own error."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.trended import Hyperparameters, Trended
from surrogate.log_density.derived import fit_derived


def cloud(rng, n, d):
    """Points of about a posterior's width, and the standard normal log-density there."""
    x = 1.5 * rng.standard_normal((n, d))
    return x, -0.5 * (x**2).sum(1)


def smooth(x):
    return 67.0 + 3.0 * x[:, 0] - x[:, 1] * x[:, 2] + 0.3 * np.exp(0.5 * x[:, 0])


def test_leave_one_out_is_what_leaving_out_gives(rng):
    u = rng.standard_normal((30, 2))
    y = np.sin(u[:, 0]) + u[:, 1] ** 2 + 0.1 * rng.standard_normal(30)
    recipe = Trended("rbf", Polynomial("quadratic"), nugget=1e-2)
    hyper = Hyperparameters(0.0, np.log(1e-3), np.log([1.0, 2.0]), 0.0)
    got = recipe.condition(Data.of(u, y), hyper).leave_one_out()
    for i in range(30):
        rest = np.delete(np.arange(30), i)
        alone = recipe.condition(Data.of(u[rest], y[rest]), hyper).mean(u[i : i + 1])[0]
        assert got[i] == pytest.approx(y[i] - alone, rel=1e-6, abs=1e-9)


def test_quadratic_is_exact(rng):
    x, height = cloud(rng, 40, 3)
    values = (1.0 + x @ [1.0, 2.0, 3.0] + x[:, 0] * x[:, 2])[:, None]
    model = fit_derived(x, height, values, ("q",), x)
    new = rng.standard_normal((100, 3))
    truth = 1.0 + new @ [1.0, 2.0, 3.0] + new[:, 0] * new[:, 2]
    assert np.abs(model.predict(new)[:, 0] - truth).max() < 0.02
    assert model.error[0] < 0.02


def test_held_out_error_is_the_error(rng):
    x, height = cloud(rng, 120, 3)
    model = fit_derived(x, height, smooth(x)[:, None], ("H0",), x)
    new = rng.standard_normal((2000, 3))
    new = new[(new**2).sum(1) < 11.3]  # the 99 % region, which is what the held-out error speaks of
    truth = smooth(new)
    rms = np.sqrt(np.mean((model.predict(new)[:, 0] - truth) ** 2))
    assert rms < 0.01 * truth.std()
    assert 0.2 * rms < model.error[0] < 10 * rms


def test_far_points_do_not_spoil(rng):
    x, height = cloud(rng, 120, 2)
    far = 200.0 * rng.standard_normal((40, 2))
    values = np.concatenate([np.sin(0.3 * x[:, :1]), 1e3 * rng.standard_normal((40, 1))])
    every, heights = np.concatenate([x, far]), np.concatenate([height, -0.5 * (far**2).sum(1)])
    model = fit_derived(every, heights, values, ("s",), x)
    new = rng.standard_normal((200, 2))
    assert np.abs(model.predict(new)[:, 0] - np.sin(0.3 * new[:, 0])).max() < 0.01


def test_constant_missing_and_no_quantities(rng):
    x, height = cloud(rng, 40, 2)
    values = np.stack([np.full(40, 3.0), np.full(40, np.nan), np.where(np.arange(40) % 7, x[:, 0], np.nan)], axis=1)
    model = fit_derived(x, height, values, ("constant", "missing", "some"), x)
    got = model.predict(x[:5])
    np.testing.assert_array_equal(got[:, 0], 3.0)
    assert np.isnan(got[:, 1]).all()
    np.testing.assert_allclose(got[:, 2], x[:5, 0], atol=0.02)
    assert model.error[0] == 0.0
    assert np.isnan(model.error[1])
    assert fit_derived(x, height, np.empty((40, 0)), (), x).predict(x).shape == (40, 0)


def test_shapes_are_checked(rng):
    x, height = cloud(rng, 10, 2)
    with pytest.raises(ValueError, match=r"values \(n, 2\).*\(10, 1\)"):
        fit_derived(x, height, np.zeros((10, 1)), ("a", "b"), x)


def test_a_straight_line_of_the_log_likelihood_needs_no_regression():
    """A chi2 is -2 log L at every draw, to rounding, however rough the log-likelihood is."""
    rng = np.random.default_rng(3)
    x, new = rng.standard_normal((40, 2)), rng.standard_normal((7, 2))
    log_likelihood, at_new = rng.standard_normal(40) * 100.0, rng.standard_normal(7)
    values = np.stack([3.0 - 2.0 * log_likelihood, x[:, 0]], axis=1)
    model = fit_derived(x, log_likelihood, values, ("chi2", "a"), x, log_likelihood=log_likelihood)
    assert model.error[0] == 0.0
    assert model.error[1] > 0.0
    np.testing.assert_allclose(model.predict(new, at_new)[:, 0], 3.0 - 2.0 * at_new, rtol=1e-12)
    with pytest.raises(ValueError, match="'chi2' is computed from the log-likelihood"):
        model.predict(new)


def test_a_sum_with_another_term_is_no_straight_line():
    rng = np.random.default_rng(4)
    x, log_likelihood = rng.standard_normal((40, 2)), rng.standard_normal(40)
    values = (-2.0 * log_likelihood + 1e-6 * x[:, 0])[:, None]
    assert fit_derived(x, log_likelihood, values, ("q",), x, log_likelihood=log_likelihood).error[0] > 0.0
