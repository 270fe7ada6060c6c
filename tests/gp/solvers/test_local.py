"""Predictions given neighbours, also where rows repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogate.gp.evidence.neighbours import NeighbourEvidence
from surrogate.gp.kernels import RBF, STATIONARY
from surrogate.gp.scales import Observations, ScaledProcess
from surrogate.gp.solvers.local import local_posterior, local_prediction, nearest, predict_locally
from surrogate.linalg.stationary import CORRELATIONS
from tests.gp.problems import KERNELS, covariance, problem, uneven


def likelihood(x):
    y = torch.sin(3.0 * x[:, 0])
    targets = torch.arange(len(x))
    return NeighbourEvidence.of(
        CORRELATIONS["matern32"], Observations(x, y), targets=targets, m=8, lengthscale=np.ones(2), noise=None
    )


def points():
    return torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("copies", [2, 5])
def test_repeated_rows_have_next_to_no_variance_given_each_other(copies):
    """In place of an error: K of copies is singular at a noise below rounding."""
    x = points()
    theta = np.log([1e-18, 1.0, 1.0])
    apart, repeated = likelihood(x).variance(theta), likelihood(x.repeat(copies, 1)).variance(theta)
    assert float(apart.min()) > 1e-4
    assert repeated.shape == (40 * copies,)
    assert 0.0 < float(repeated.min()) <= float(repeated.max()) < 1e-10


def test_variance_is_the_schur_complement():
    x, theta = points(), np.log([1e-3, 0.7, 1.3])
    rows = likelihood(x).x[5] / torch.as_tensor([0.7, 1.3])
    k = CORRELATIONS["matern32"].correlation(torch.cdist(rows, rows).square()) + 1e-3 * torch.eye(9)
    expected = k[-1, -1] - k[-1, :-1] @ torch.linalg.solve(k[:-1, :-1], k[:-1, -1])
    torch.testing.assert_close(likelihood(x).variance(theta)[5], expected)


def test_nearest_are_those_of_a_sort():
    x, _ = problem(n=200)
    found = nearest(x, x[:7], 9)
    expected = torch.cdist(x[:7], x).argsort(1)[:, :9].flip(1)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="m must be in 1..200"):
        nearest(x, x[:7], 201)


def test_local_variance_bounds_the_exact_one():
    x, y = problem(n=150)
    new = torch.tensor(np.random.default_rng(5).standard_normal((40, 3)))
    of_units = {name: kernel(np.ones(3)) for name, kernel in STATIONARY.items()}
    for kernel in KERNELS:
        k = covariance(kernel, x, np.zeros(4)) + 0.01 * torch.eye(150, dtype=y.dtype)
        cross = covariance(kernel, x, np.zeros(4), new)
        exact = 1.0 - (cross * torch.linalg.solve(k, cross)).sum(0)
        few, many, everything = (
            local_prediction(of_units[kernel], x, y, new, nearest(x, new, m), noise=0.01)[1] for m in (10, 60, 150)
        )
        assert bool((few >= exact - 1e-10).all())
        assert bool((many >= exact - 1e-10).all())
        torch.testing.assert_close(everything, exact, rtol=1e-7, atol=1e-9)
    mean, _ = local_prediction(of_units[kernel], x, y, new, nearest(x, new, 150), noise=0.01)
    torch.testing.assert_close(mean, cross.T @ torch.linalg.solve(k, y))


@pytest.mark.parametrize("scale", [None, 1.3])
def test_all_neighbours_are_all_the_points(scale):
    """The simple kriging mean and variance, with noise that differs; a scale that is known is kept."""
    data = uneven(n=50)
    process = ScaledProcess.of("matern52", 0.05, np.array([0.8, 1.2, 1.0]), scale, "given")
    new = torch.tensor(np.random.default_rng(2).standard_normal((10, 3)))
    posterior = local_posterior(process, data, neighbours=100, calibration=torch.arange(50))
    operator = process.operator(data.x)
    cov, cross = operator.dense() + 0.05 * torch.diag(data.relative_noise), operator.cross(new).dense()
    torch.testing.assert_close(posterior.neighbours, 49)
    full = predict_locally(process, data, new, 50)
    torch.testing.assert_close(full[0], cross @ torch.linalg.solve(cov, data.y))
    torch.testing.assert_close(full[1], 1.0 - (cross * torch.linalg.solve(cov, cross.T).T).sum(1))
    assert posterior.process.scale == scale or scale is None
    near = posterior.factor * predict_locally(process, data, new, 49)[1]
    torch.testing.assert_close(posterior.variance(new), posterior.process.variance * near)


def test_scale_is_that_of_the_points_left_out():
    """Errors over sds that the calibration makes have a mean square of one, noise included."""
    data = uneven(n=80)
    process = ScaledProcess.of("rbf", 0.05, np.ones(3), None, "given")
    posterior = local_posterior(process, data, neighbours=20, calibration=torch.arange(80))
    z, total = data.x, 0.0
    for i in range(80):
        rest = torch.arange(80) != i
        rows = nearest(z[rest], z[i : i + 1], 20)
        kept = data.rows(rest.nonzero()[:, 0])
        centred = kept.y - posterior.constant
        mean, variance = local_prediction(RBF(np.ones(3)), kept.x, centred, z[i : i + 1], rows, noise=kept.noise(0.05))
        spread = posterior.process.variance * (posterior.factor * variance + data.noise(0.05)[i])
        total += float((data.y[i] - posterior.constant - mean) ** 2 / spread)
    assert total / 80 == pytest.approx(1.0, rel=1e-8)
    assert posterior.status == "20 nearest of 80 points for each prediction"
