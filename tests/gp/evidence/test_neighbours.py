from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from surrogate.gp.evidence.neighbours import NeighbourEvidence
from surrogate.gp.scales import Observations
from surrogate.linalg.stationary import CORRELATIONS
from tests.gp.problems import KERNELS, covariance, problem, slope, uneven


@pytest.mark.parametrize("noise", [None, 0.02])
@pytest.mark.parametrize("kernel", KERNELS)
def test_neighbour_gradient(kernel, noise):
    x, y = problem()
    theta = np.array([-3.0, 0.2, 0.5, -0.1])
    likelihood = NeighbourEvidence.of(
        CORRELATIONS[kernel],
        Observations(x, y),
        targets=torch.arange(0, 60, 2),
        m=12,
        lengthscale=np.exp(theta[1:]),
        noise=noise,
    )
    expected = slope(lambda t: likelihood.objective(t)[0], theta)
    np.testing.assert_allclose(likelihood.objective(theta)[1], expected, rtol=1e-5, atol=1e-5)


def test_all_neighbours_are_leave_one_out():
    """With m = n - 1 it is the leave-one-out density, from the inverse of the whole matrix."""
    x, y = problem(n=40)
    theta = np.array([-3.0, 0.2, 0.5, -0.1])
    likelihood = NeighbourEvidence.of(
        CORRELATIONS["matern32"], Observations(x, y), targets=torch.arange(40), m=39, lengthscale=np.ones(3)
    )
    inverse = torch.linalg.inv(covariance("matern32", x, theta) + math.exp(-3.0) * torch.eye(40, dtype=y.dtype))
    b, alpha = inverse.diagonal(), inverse @ y
    s2 = float((alpha**2 / b).mean())
    expected = 0.5 * float((torch.log(2 * math.pi * s2 / b) + alpha**2 / b / s2).sum())
    assert likelihood.objective(theta)[0] == pytest.approx(expected, rel=1e-10)
    torch.testing.assert_close(likelihood.variance(theta), 1.0 / b)


def test_targets_are_not_their_own_neighbours():
    x, y = problem(n=50)
    x = torch.cat([x, x[:1].expand(30, 3)])  # more copies of a point than neighbours
    y = torch.cat([y, torch.arange(30.0, dtype=torch.float64)])
    targets = torch.arange(80)
    likelihood = NeighbourEvidence.of(
        CORRELATIONS["rbf"], Observations(x, y), targets=targets, m=10, lengthscale=np.ones(3)
    )
    torch.testing.assert_close(likelihood.y[:, -1], y)
    assert not bool((likelihood.y[50:, :-1] == y[50:, None]).any())


@pytest.mark.parametrize("noise", [None, 0.02])
def test_unequal_noise(noise):
    """The gradient, and the leave-one-out density from the inverse of the whole matrix."""
    data, theta = uneven(n=40), np.array([-3.0, 0.2, 0.5, -0.1])
    evidence = NeighbourEvidence.of(
        CORRELATIONS["matern32"], data, targets=torch.arange(40), m=39, lengthscale=np.ones(3), noise=noise
    )
    inverse = torch.linalg.inv(covariance("matern32", data.x, theta) + math.exp(-3.0) * torch.diag(data.relative_noise))
    b, alpha = inverse.diagonal(), inverse @ data.y
    s2 = float((alpha**2 / b).mean()) if noise is None else noise * math.exp(3.0)
    expected = 0.5 * float((torch.log(2 * math.pi * s2 / b) + alpha**2 / b / s2).sum())
    value, gradient = evidence.objective(theta)
    assert value == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(gradient, slope(lambda t: evidence.objective(t)[0], theta), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(evidence.variance(theta), 1.0 / b)
