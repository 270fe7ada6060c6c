from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from surrogate.gp.evidence.exact import ExactEvidence, marginal_with_noise
from surrogate.gp.scales import Observations
from surrogate.linalg.stationary import CORRELATIONS
from tests.gp.problems import KERNELS, covariance, problem, slope, uneven


@pytest.mark.parametrize("noise", [None, 0.02])
@pytest.mark.parametrize("kernel", KERNELS)
def test_exact_gradient(kernel, noise):
    x, y = problem()
    theta = np.array([-3.0, 0.2, 0.5, -0.1])
    function = CORRELATIONS[kernel]
    evidence = ExactEvidence(function, Observations(x, y), noise)
    _, gradient = evidence.objective(theta)
    expected = slope(lambda t: evidence.objective(t)[0], theta)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


def test_exact_value_is_the_dense_one_with_a_free_constant():
    x, y = problem()
    theta = np.array([-3.0, 0.2, 0.5, -0.1])
    k = covariance("rbf", x, theta) + math.exp(theta[0]) * (torch.eye(60, dtype=x.dtype) + 30.0**2)
    s2 = float(y @ torch.linalg.solve(k, y)) / 60
    value = 0.5 * float(60 * (math.log(2 * math.pi * s2) + 1) + torch.logdet(k))
    assert ExactEvidence(CORRELATIONS["rbf"], Observations(x, y)).objective(theta)[0] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("noise", [None, 0.02])
def test_gradient_with_unequal_noise(noise):
    evidence, theta = ExactEvidence(CORRELATIONS["matern52"], uneven(), noise), np.array([-3.0, 0.2, 0.5, -0.1])
    expected = slope(lambda t: evidence.objective(t)[0], theta)
    np.testing.assert_allclose(evidence.objective(theta)[1], expected, rtol=1e-5, atol=1e-5)


def test_equal_noise_given_for_each_point_is_equal_noise():
    x, y = problem()
    ones, theta = Observations(x, y, torch.ones_like(y)), np.array([-3.0, 0.2, 0.5, -0.1])
    for noise in (None, 0.02):
        value, gradient = ExactEvidence(CORRELATIONS["rbf"], ones, noise).objective(theta)
        other, slopes = ExactEvidence(CORRELATIONS["rbf"], Observations(x, y), noise).objective(theta)
        assert value == pytest.approx(other, rel=1e-12)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-10)


@pytest.mark.parametrize("data", [uneven(), Observations(*problem())], ids=["unequal", "equal"])
def test_gradient_with_respect_to_the_noise(data):
    theta = np.array([-3.0, 0.2, 0.5, -0.1])

    def value(vector):
        return marginal_with_noise(CORRELATIONS["rbf"], data, vector[:-1], vector[-1])[0]

    gradient = marginal_with_noise(CORRELATIONS["rbf"], data, theta, -4.0)[1]
    np.testing.assert_allclose(gradient, slope(value, np.append(theta, -4.0)), rtol=1e-5, atol=1e-5)


def test_value_with_unequal_noise_is_the_dense_one_with_a_free_constant():
    data, theta = uneven(), np.array([-3.0, 0.2, 0.5, -0.1])
    k = covariance("rbf", data.x, theta) + math.exp(-3.0) * (torch.diag(data.relative_noise) + 30.0**2)
    s2 = 0.02 * math.exp(3.0)
    value = 0.5 * float(60 * math.log(2 * math.pi * s2) + data.y @ torch.linalg.solve(k, data.y) / s2 + torch.logdet(k))
    assert ExactEvidence(CORRELATIONS["rbf"], data, 0.02).objective(theta)[0] == pytest.approx(value, rel=1e-9)
