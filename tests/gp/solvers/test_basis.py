from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from surrogate.gp.bases import FourierBasis, HilbertBasis
from surrogate.gp.scales import Observations, ScaledProcess
from surrogate.gp.solvers.basis import basis_posterior
from tests.gp.problems import uneven

PROCESS = ScaledProcess.of("rbf", 0.05, np.array([0.8, 1.2]), 1.3, "given")


def dense_posterior(process, basis, data, new):
    """Mean and covariance by dense formulas, about the mean of the values."""
    f, g = (basis.features(x, process.lengthscale) for x in (data.x, new))
    cov = f @ f.T + torch.diag(data.noise(process.eta))
    solved = torch.linalg.solve(cov, f @ g.T)
    constant = data.level(process.eta)
    return constant + solved.T @ (data.y - constant), process.variance * (g @ g.T - g @ f.T @ solved)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: HilbertBasis.of("rbf", x, PROCESS.lengthscale, 40),
        lambda x: FourierBasis.of("rbf", x, 30, generator=torch.Generator().manual_seed(0)),
    ],
)
def test_it_is_linear_regression(make):
    data = uneven(d=2)
    basis, new = make(data.x), torch.tensor(np.random.default_rng(2).standard_normal((9, 2)))
    posterior = basis_posterior(PROCESS, data, basis, "functions")
    mean, covariance = dense_posterior(PROCESS, basis, data, new)
    torch.testing.assert_close(posterior.mean(new), mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(posterior.covariance(new), covariance, rtol=1e-6, atol=1e-8)
    missing = 1.0 - basis.features(new, PROCESS.lengthscale).square().sum(1)
    expected = covariance.diagonal() + PROCESS.variance * missing.clamp(min=0.0)
    torch.testing.assert_close(posterior.variance(new), expected, rtol=1e-6, atol=1e-8)
    assert posterior.process.scale == pytest.approx(1.3)
    assert posterior.residual < 1e-10
    assert posterior.status == "functions, eta = 0.05"


def test_paths_have_the_posterior_law():
    data = uneven(d=2)
    basis = HilbertBasis.of("rbf", data.x, PROCESS.lengthscale, 40)
    posterior, new = basis_posterior(PROCESS, data, basis, ""), data.x[:4] + 0.3
    paths = posterior.paths(new, 20_000, generator=torch.Generator().manual_seed(0))
    sd = posterior.covariance(new).diagonal().sqrt()
    assert bool(((paths.mean(0) - posterior.mean(new)).abs() < 5.0 * sd / math.sqrt(20_000)).all())
    torch.testing.assert_close(
        torch.cov(paths.T), posterior.covariance(new), rtol=0.1, atol=0.05 * float(sd.max()) ** 2
    )


def test_scale_of_points_left_out_is_that_of_refits():
    data = uneven(n=30, d=2)
    data = replace(data, y=data.y - data.level(PROCESS.eta))
    process = PROCESS.with_(scale=None)
    basis = HilbertBasis.of("rbf", data.x, process.lengthscale, 20)
    found = basis_posterior(process, data, basis, "", calibration=torch.arange(30)).process.variance
    f = basis.features(data.x, process.lengthscale)
    cov, total = f @ f.T + torch.diag(data.noise(0.05)), 0.0
    for i in range(30):
        rest = torch.arange(30) != i
        weights = torch.linalg.solve(cov[rest][:, rest], cov[rest, i])
        total += float((data.y[i] - weights @ data.y[rest]) ** 2 / (cov[i, i] - weights @ cov[rest, i]))
    assert found == pytest.approx(total / 30, rel=1e-8)


def test_a_singular_matrix_is_rescued_and_the_status_tells():
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64)[:, None]
    process = ScaledProcess.of("rbf", 1e-18, np.array([5.0]), None, "given")
    basis = FourierBasis.of("rbf", x, 40, generator=torch.Generator().manual_seed(0))
    posterior = basis_posterior(process, Observations(x, x[:, 0]), basis, "random")
    assert posterior.process.eta > 1e-18
    assert f"{posterior.process.eta:.3g}" in posterior.status
