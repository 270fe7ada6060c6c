import warnings

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import kernels as sklearn_kernels

from surrogate.gp.kernels import KERNELS, from_gpytorch, get_kernel, squared_distance

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, as gpytorch is imported
    from gpytorch.kernels import LinearKernel, MaternKernel, PeriodicKernel, RBFKernel, RQKernel, ScaleKernel


def scaled(kernel, value):
    out = ScaleKernel(kernel)
    out.outputscale = value
    return out


def rational_quadratic():
    kernel = RQKernel()
    kernel.alpha = 1.7
    return kernel


TRANSLATED = {
    "rbf": RBFKernel,
    "matern12": lambda: MaternKernel(nu=0.5),
    "matern32": lambda: MaternKernel(nu=1.5),
    "matern52": lambda: MaternKernel(nu=2.5),
    "rational quadratic": rational_quadratic,
    "scaled": lambda: scaled(RBFKernel(), 7.0),
    "sum": lambda: scaled(RBFKernel(), 0.3) + scaled(MaternKernel(nu=1.5), 2.0),
    "product": lambda: RBFKernel() * MaternKernel(nu=2.5),
}
INSTANCES = KERNELS | {f"gpytorch {name}": from_gpytorch(build()) for name, build in TRANSLATED.items()}

SKLEARN = {
    "rbf": sklearn_kernels.RBF(1.0),
    "matern32": sklearn_kernels.Matern(1.0, nu=1.5),
    "matern52": sklearn_kernels.Matern(1.0, nu=2.5),
}


def radii(n=200, *, smallest=-3.0):
    return torch.logspace(smallest, 1.0, n, dtype=torch.float64)


@pytest.fixture(params=INSTANCES)
def kernel(request):
    return INSTANCES[request.param]


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


@pytest.mark.parametrize("name", KERNELS)
def test_it_is_that_of_scikit_learn(name, rng):
    x = rng.standard_normal((30, 4))
    u = torch.as_tensor(x)
    k = KERNELS[name].correlation(squared_distance(u, u).fill_diagonal_(0.0))
    np.testing.assert_allclose(k, SKLEARN[name](x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translated_kernel_is_that_of_gpytorch(name):
    original = TRANSLATED[name]().double()
    r = radii(50)
    with torch.no_grad():
        k = original(torch.zeros(1, 1, dtype=torch.float64), r[:, None]).to_dense()[0]
        origin = original(torch.zeros(1, 1, dtype=torch.float64)).to_dense()[0, 0]
    torch.testing.assert_close(from_gpytorch(original).correlation(r.square()), k / origin, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["rbf", "matern32", "matern52"])
def test_a_translated_kernel_is_the_native_one(name):
    """Except for its lengthscale, which gpytorch starts at log 2: the surrogate fits its own."""
    original = TRANSLATED[name]()
    original.lengthscale = 1.0
    r2 = radii(smallest=-2.0).square()
    ours, translated = KERNELS[name].evaluate(r2.clone()), from_gpytorch(original).evaluate(r2.clone())
    torch.testing.assert_close(translated, ours, rtol=1e-6, atol=1e-10)


def test_translating_leaves_no_trace_of_autograd():
    k, slope = INSTANCES["gpytorch rbf"].evaluate(torch.ones(3, dtype=torch.float64))
    assert not k.requires_grad
    assert not slope.requires_grad


def test_translating_leaves_the_kernel_alone():
    original = RBFKernel()
    before = original.raw_lengthscale.dtype
    from_gpytorch(original)
    assert original.raw_lengthscale.dtype == before


def test_squared_distance_is_the_obvious_one(dtype, device, tolerance):
    a, b = torch.randn(7, 3, dtype=dtype, device=device), torch.randn(5, 3, dtype=dtype, device=device)
    obvious = (a[:, None] - b[None]).square().sum(-1)
    torch.testing.assert_close(squared_distance(a, b), obvious, **tolerance())


def test_squared_distance_is_never_negative():
    """The product form cancels: far from the origin the distance of a point to itself could come out below zero."""
    a = 1e4 + torch.randn(50, 3, dtype=torch.float64)
    assert squared_distance(a, a).min() >= 0


def test_kernels_by_name_instance_or_gpytorch():
    assert get_kernel("matern52") is KERNELS["matern52"]
    assert get_kernel(KERNELS["rbf"]) is KERNELS["rbf"]
    assert get_kernel(RBFKernel()).name == "gpytorch:RBFKernel"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("rbf2", ValueError, r"kernel must be one of \['matern32', 'matern52', 'rbf'\], got 'rbf2'"),
        (3.0, TypeError, "a name, a Stationary or a gpytorch kernel, got float"),
        (LinearKernel(), ValueError, "must be stationary, got LinearKernel"),
        (RBFKernel(ard_num_dims=2), ValueError, "without ard_num_dims"),
        (scaled(MaternKernel(ard_num_dims=3), 2.0), ValueError, "without ard_num_dims"),
        (RBFKernel() + LinearKernel(), ValueError, "must be stationary"),
    ],
)
def test_other_kernels_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        get_kernel(wrong)


def test_a_periodic_kernel_is_a_correlation_too():
    """Stationary but not falling, so it is outside of the laws above."""
    kernel = from_gpytorch(PeriodicKernel())
    assert float(kernel.correlation(torch.zeros(1, dtype=torch.float64))) == pytest.approx(1.0)
