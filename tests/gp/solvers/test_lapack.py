"""The numbers of few points by LAPACK are those of the general formulas in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogate.gp import process as gp
from surrogate.gp.evidence.marginal import log_evidences
from surrogate.gp.kernels import STATIONARY
from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.trended import Hyperparameters, Trended


def training(n=40, d=3, **options):
    rng = np.random.default_rng(n)
    u = rng.standard_normal((n, d))
    y = -0.5 * (u**2).sum(1) + 0.3 * np.sin(2.0 * u[:, 0])
    options = {
        "depth": np.maximum(0.0, -y - 2.0),
        "noise": np.full(n, 0.05),
        "unit": rng.uniform(0.5, 2.0, n),
    } | options
    return Data.of(u, y, **options)


def log_marginals(family, data, hypers, given=None):
    return log_evidences(family.process(hypers[0]), data, [hyper.of_process() for hyper in hypers], given=given)


TAILS = {"profiled": [], "scaled": [0.3], "noisy": [0.3, -1.0]}


@pytest.fixture(params=TAILS)
def theta(request):
    return np.concatenate([[-0.3, -3.0, 0.8, 1.1, 1.3], TAILS[request.param]])


@pytest.mark.parametrize("trend", ["quadratic", "linear", "constant"])
@pytest.mark.parametrize("kernel", STATIONARY)
def test_value_and_gradient_are_those_of_torch(kernel, trend, theta, monkeypatch):
    recipe, data = Trended(kernel, Polynomial(trend)), training()
    assert data.is_small
    value, gradient = recipe.negative_log_evidence(data, theta)
    (alone,) = log_marginals(recipe, data, [Hyperparameters.of(theta, 3)])
    monkeypatch.setattr(gp, "MOST_POINTS", 0)
    data = training(len(data.y))
    expected, slope = recipe.negative_log_evidence(data, theta)
    assert value == pytest.approx(expected, rel=1e-9)
    assert alone == pytest.approx(-expected, rel=1e-9)
    assert log_marginals(recipe, data, [Hyperparameters.of(theta, 3)])[0] == pytest.approx(alone, rel=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-7 * np.abs(slope).max())


@pytest.mark.parametrize("rows", [[*range(12)], [3, 17, 5]], ids=["leading", "any"])
def test_given_points_are_divided_out(rows, theta, monkeypatch):
    """Where they are the first of the data, with which they share the factor, and elsewhere."""
    recipe, data = Trended("matern52", Polynomial()), training()
    given, hypers = data.subset(np.array(rows)), [Hyperparameters.of(theta + shift, 3) for shift in (0.0, 0.1)]
    assert data.begins_with(given) == (rows[0] == 0)
    value, gradient = recipe.negative_log_evidence(data, theta, given=given)
    values = log_marginals(recipe, data, hypers, given=given)
    monkeypatch.setattr(gp, "MOST_POINTS", 0)
    data, given = training(), training().subset(np.array(rows))
    expected, slope = recipe.negative_log_evidence(data, theta, given=given)
    assert value == pytest.approx(expected, rel=1e-9)
    assert values == pytest.approx(log_marginals(recipe, data, hypers, given=given), rel=1e-9)
    assert values[0] == pytest.approx(-value, rel=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-7 * np.abs(slope).max())


def test_fewer_points_than_coefficients(monkeypatch):
    recipe, data, theta = Trended("rbf", Polynomial()), training(n=6), np.array([0.0, -3.0, 1.0, 1.0, 1.0, 0.5])
    value, gradient = recipe.negative_log_evidence(data, theta)
    monkeypatch.setattr(gp, "MOST_POINTS", 0)
    data = training(len(data.y))
    expected, slope = recipe.negative_log_evidence(data, theta)
    assert value == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-7 * np.abs(slope).max())


def test_a_matrix_that_cannot_be_factored_is_told_as_torch_tells_it(monkeypatch):
    data = Data.of(np.zeros((5, 1)), np.arange(5.0))
    recipe, hyper = Trended("rbf", Polynomial("constant"), nugget=0.0), Hyperparameters.of(np.zeros(3), 1)
    for _ in range(2):
        with pytest.raises(torch.linalg.LinAlgError, match="not positive definite"):
            recipe.negative_log_evidence(data, np.zeros(3))
        assert log_marginals(recipe, data, [hyper, hyper]) == [-np.inf, -np.inf]
        monkeypatch.setattr(gp, "MOST_POINTS", 0)
        data = Data.of(np.zeros((5, 1)), np.arange(5.0))


def test_derivatives_and_other_types_go_through_torch():
    rng = np.random.default_rng(0)
    assert not training(slope=rng.standard_normal((40, 3))).is_small
    half = torch.zeros(5, dtype=torch.float32)
    assert not Data(half[:, None], half, half, half).is_small


def test_data_are_left_as_they_are():
    data = training()
    before = [part.clone() for part in (data.u, data.y, data.depth, data.noise)]
    for _ in range(2):
        Trended("rbf", Polynomial()).negative_log_evidence(data, np.zeros(6))
    for part, kept in zip((data.u, data.y, data.depth, data.noise), before, strict=True):
        assert torch.equal(part, kept)
