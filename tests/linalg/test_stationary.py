"""Laws of every correlation function."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import kernels as sklearn_kernels

from surrogate.linalg.stationary import CORRELATIONS, squared_distance

SKLEARN = {
    "rbf": sklearn_kernels.RBF(1.0),
    "matern12": sklearn_kernels.Matern(1.0, nu=0.5),
    "matern32": sklearn_kernels.Matern(1.0, nu=1.5),
    "matern52": sklearn_kernels.Matern(1.0, nu=2.5),
}


def radii(n=200, *, smallest=-3.0):
    return torch.logspace(smallest, 1.0, n, dtype=torch.float64)


@pytest.fixture(params=CORRELATIONS)
def kernel(request):
    return CORRELATIONS[request.param]


def test_every_kernel_is_one_at_zero(kernel):
    k, _ = kernel.evaluate(torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(k, torch.ones_like(k), rtol=0, atol=1e-10)
    torch.testing.assert_close(kernel.correlation(torch.zeros(3, dtype=torch.float64)), k, rtol=0, atol=1e-10)


def test_both_forms_agree(kernel):
    r2 = radii().square().reshape(20, 10)
    torch.testing.assert_close(kernel.evaluate(r2.clone())[0], kernel.correlation(r2.clone()), rtol=1e-13, atol=1e-15)


def test_slope_is_the_derivative(kernel):
    """H = -2 dk / d(r^2), against central differences."""
    r2 = radii(smallest=-1.0).square()
    step = 1e-6 * r2
    difference = (kernel.correlation(r2 + step) - kernel.correlation(r2 - step)) / (2 * step)
    slope = kernel.evaluate(r2.clone())[1]
    torch.testing.assert_close(slope, -2 * difference, rtol=1e-7, atol=1e-9)


def test_arrays_and_tensors_have_the_same_values(kernel):
    """Up to rounding: one unit in the last place of an argument t changes exp(-t) by t units, up to 23."""
    for dtype in (torch.float64, torch.float32):
        r2 = torch.cat([torch.zeros(3), radii().square(), torch.tensor([1e7])]).to(dtype)
        for function in (kernel.evaluate, lambda values: (kernel.correlation(values),)):
            of_tensor, of_array = function(r2.clone()), function(r2.numpy().copy())
            for one, other in zip(of_tensor, of_array, strict=True):
                assert other.dtype == r2.numpy().dtype
                np.testing.assert_allclose(other, one.numpy(), rtol=32 * torch.finfo(dtype).eps)


def test_functions_of_the_exponent_have_the_same_values(kernel):
    """Of e = -r^2 / 2, also where rounding has made it positive."""
    r2 = np.append(0.0, np.geomspace(1e-8, 100.0, 50))
    k, h = kernel.evaluate(r2.copy())
    np.testing.assert_allclose(kernel.of_exponent(-0.5 * r2), k, rtol=1e-13)
    np.testing.assert_allclose(kernel.of_exponent(np.array([1e-16])), 1.0, atol=1e-7)
    assert (kernel.slope_of_exponent is None) == (kernel.slopes is None)
    if kernel.slope_of_exponent is not None:
        np.testing.assert_allclose(kernel.slope_of_exponent(-0.5 * r2), h, rtol=1e-13)


def test_further_slopes_are_derivatives(kernel):
    """Each is -2 times the derivative of the one before with respect to r^2, against central differences."""
    if kernel.slopes is None:
        return
    r2 = radii(smallest=-1.0).square()
    step = 1e-6 * r2
    above, below, here = (kernel.slopes(r2 + s * step) for s in (1, -1, 0))
    torch.testing.assert_close(here[:2], kernel.evaluate(r2.clone()))
    for j in range(3):
        difference = (above[j] - below[j]) / (2 * step)
        torch.testing.assert_close(here[j + 1], -2 * difference, rtol=1e-6, atol=1e-9)


def test_derivative_with_respect_to_a_lengthscale(kernel):
    """Dk / d log l_j = h ((x_j - x'_j) / l_j)^2."""
    x = np.array([[0.3, -0.8, 1.1]])
    log_l = np.log([0.7, 1.3, 2.0])

    def k(theta):
        return float(kernel.correlation(torch.tensor(((x / np.exp(theta)) ** 2).sum(1))))

    z2 = (x[0] / np.exp(log_l)) ** 2
    slope = float(kernel.evaluate(torch.tensor([z2.sum()]))[1])
    steps = 1e-6 * np.eye(3)
    difference = [(k(log_l + s) - k(log_l - s)) / 2e-6 for s in steps]
    np.testing.assert_allclose(slope * z2, difference, rtol=1e-7)


def test_every_matrix_is_positive_semi_definite(kernel):
    x = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.eigvalsh(kernel.correlation(squared_distance(x, x).fill_diagonal_(0.0)))
    assert values.min() > -1e-10 * values.max()


def test_correlations_fall_with_distance(kernel):
    k = kernel.correlation(radii().square())
    assert bool((k.diff() <= 0).all())
    assert bool(((k >= 0) & (k <= 1)).all())


@pytest.mark.parametrize("name", CORRELATIONS)
def test_it_is_that_of_scikit_learn(name, rng):
    x = rng.standard_normal((30, 4))
    u = torch.as_tensor(x)
    k = CORRELATIONS[name].correlation(squared_distance(u, u).fill_diagonal_(0.0))
    np.testing.assert_allclose(k, SKLEARN[name](x), rtol=1e-10, atol=1e-12)


def test_squared_distance_is_the_obvious_one(dtype, device, tolerance):
    a, b = torch.randn(7, 3, dtype=dtype, device=device), torch.randn(5, 3, dtype=dtype, device=device)
    obvious = (a[:, None] - b[None]).square().sum(-1)
    torch.testing.assert_close(squared_distance(a, b), obvious, **tolerance())


def test_squared_distance_is_never_negative():
    """The product form cancels: far from the origin the distance of a point to itself could come out below zero."""
    a = 1e4 + torch.randn(50, 3, dtype=torch.float64)
    assert squared_distance(a, a).min() >= 0
