"""Solvers for many points answer as a Cholesky factor does, for processes of the same form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogate.gp import (
    RBF,
    BasisFunctions,
    Common,
    ConjugateGradients,
    Data,
    Given,
    Linear,
    Local,
    Matern32,
    Nugget,
    Polynomial,
    Process,
    Projections,
    Scale,
)
from surrogate.gp.kernels import Points
from surrogate.gp.solvers.large import in_units_of_the_scale

RNG = np.random.default_rng(0)
U, NEW = RNG.uniform(-1.5, 1.5, (120, 2)), torch.tensor(RNG.uniform(-1.5, 1.5, (30, 2)))
Y = np.sin(2 * U).sum(1) + 0.1 * RNG.standard_normal(120)
SDS = RNG.uniform(0.05, 0.3, 120)

PROCESSES = {
    "nugget": Process(Scale(1.5) * RBF([0.8, 1.1]), noise=Nugget(0.02)),
    "common": Process(RBF([0.8, 1.1]), noise=Nugget(1e-6) + Common(0.1), scale=2.0),
    "given": Process(Scale(1.5) * RBF([0.8, 1.1]), noise=Nugget(1e-6) + Given(), scale=2.0),
}
SOLVERS = {
    "cg": ConjugateGradients(tolerance=1e-8, precision="float64"),
    "local": Local(119),
    "projections": Projections(120),
    "basis": BasisFunctions(600),
}


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_means_and_variances_are_those_of_cholesky(process, solver):
    """Nearly: sines lack a thousandth of the prior variance, neighbours one point of the data."""
    data = Data.of(U, Y, noise=SDS)
    exact = PROCESSES[process].condition(data)
    posterior = PROCESSES[process].condition(data, SOLVERS[solver])
    mean, variance = exact.mean(NEW), exact.variance(NEW)
    size = float(variance.sqrt().mean())
    assert float((posterior.mean(NEW) - mean).abs().max()) < 0.3 * size
    if solver in {"projections", "basis"}:  # the others are calibrated by their own errors
        torch.testing.assert_close(posterior.variance(NEW), variance, rtol=0.1, atol=1e-3 * posterior.process.variance)
    assert posterior.status


def test_a_profiled_scale_is_found_and_a_constant_is_estimated():
    process = Process(Scale(2.0) * RBF([0.8, 1.1]), Polynomial("constant"), Nugget(0.01), scale=None)
    data = Data.of(U, Y + 5.0)
    posterior = process.condition(data, Projections(120, policy="pivots"))
    exact = process.condition(data)
    assert float((posterior.mean(NEW) - exact.mean(NEW)).abs().max()) < 0.1
    scaled, points = in_units_of_the_scale(process, data)
    assert scaled.scale is None
    assert scaled.eta == pytest.approx(0.01 / 4.0)
    assert points.constant is None


@pytest.mark.parametrize(
    ("process", "error", "message"),
    [
        (Process(RBF([1.0]), noise=Given()), ValueError, "the noise must be positive for every point"),
        (
            Process(RBF([1.0]) * Matern32([1.0]), noise=Nugget(0.1)),
            TypeError,
            "sums of .* got the part Product",
        ),
    ],
)
def test_misuse_is_told(process, error, message):
    with pytest.raises(error, match=message):
        process.condition(Data.of(U, Y), BasisFunctions())


COMPOSED = {
    "sum": Process(Scale(1.2) * RBF([0.8]).on([0]) + Scale(0.8) * Matern32([0.9]).on([1]), noise=Nugget(0.02)),
    "linear": Process(Scale(0.7) * RBF([0.8, 1.1]) + Linear([1.0, 2.0]) + Scale(3.0), noise=Nugget(0.02)),
    "quadratic mean": Process(Scale(0.7) * RBF([0.8, 1.1]), Polynomial("quadratic"), Nugget(0.02)),
    "product": Process(Scale(1.5) * (RBF([0.8]).on([0]) * Matern32([0.9]).on([1])), noise=Nugget(0.02)),
}


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("solver", SOLVERS)
def test_composed_kernels_and_means(name, solver):
    """As for one stationary kernel: near the posterior by Cholesky, and exactly it where nothing is left out."""
    if name == "product" and solver == "basis":
        pytest.skip("no basis of a product")
    process, data = COMPOSED[name], Data.of(U, Y)
    exact, posterior = process.condition(data), process.condition(data, SOLVERS[solver])
    mean, variance = exact.mean(NEW), exact.variance(NEW)
    tolerance = {"cg": 1e-5, "projections": 1e-5}.get(solver, 0.4 * float(variance.sqrt().mean()))
    assert float((posterior.mean(NEW) - mean).abs().max()) < tolerance
    if solver == "projections":
        torch.testing.assert_close(posterior.variance(NEW), variance, rtol=1e-4, atol=1e-7)
    if solver == "basis":
        torch.testing.assert_close(posterior.variance(NEW), variance, rtol=0.2, atol=0.02)


@pytest.mark.parametrize("name", COMPOSED)
def test_the_covariance_of_a_composed_kernel_as_an_operator(name):
    """Products, columns and diagonal are those of the stored matrix, by rows of several tiles."""
    kernel = COMPOSED[name].kernel
    x = torch.tensor(np.random.default_rng(1).standard_normal((1100, 2)))
    operator, dense = kernel.operator(Points(x), 2.5), 2.5 * kernel.covariance(x)
    v = torch.tensor(np.random.default_rng(2).standard_normal((1100, 2)))
    index = torch.tensor([1050, 3, 17])
    torch.testing.assert_close(operator.matmul(v), dense @ v)
    torch.testing.assert_close(operator.diag(), dense.diagonal())
    torch.testing.assert_close(operator.columns(index), dense[:, index])
    torch.testing.assert_close(operator.column(7), dense[:, 7])
    torch.testing.assert_close(operator.submatrix(index), dense[index][:, index])
    torch.testing.assert_close(operator.cross(x[:5]).matmul(v), dense[:5] @ v)
    torch.testing.assert_close(operator.cross(x[:5]).transpose().dense(), dense[:, :5])


def test_products_with_derivatives_are_refused_for_composed_kernels():
    points = Points(torch.tensor(U), torch.tensor([0]))
    with pytest.raises(TypeError, match="need a scaled stationary kernel, got Sum"):
        (RBF([1.0]) + RBF([2.0])).operator(points)


def test_derivatives_are_not_for_these():
    data = Data.of(U, Y, slope=np.zeros_like(U))
    with pytest.raises(ValueError, match="values of one output"):
        PROCESSES["nugget"].condition(data, Local())
