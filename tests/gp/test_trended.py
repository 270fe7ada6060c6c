import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.solvers.cholesky import Cholesky
from surrogate.gp.trended import Hyperparameters, Trended
from surrogate.linalg.stationary import CORRELATIONS

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, as gpytorch is imported
    import gpytorch
    from gpytorch.kernels import LinearKernel, MaternKernel, RBFKernel, ScaleKernel

D, N = 3, 24
NUGGET = 1e-4
CASES = {
    "rbf quadratic": ("rbf", "quadratic"),
    "rbf constant": ("rbf", "constant"),
    "matern32 linear": ("matern32", "linear"),
    "matern52 quadratic": ("matern52", "quadratic"),
}
SCALED = Hyperparameters(np.log(0.6), np.log(0.02), np.log([0.8, 1.5, 3.0]), np.log(2.5))
PROFILED = Hyperparameters(SCALED.log_amplitude, SCALED.log_shaping, SCALED.log_lengthscale)
HYPERS = {"explicit scale": SCALED, "profiled scale": PROFILED}


@pytest.fixture(params=CASES)
def recipe(request):
    kernel, trend = CASES[request.param]
    return Trended(kernel, Polynomial(trend), nugget=NUGGET)


@pytest.fixture(params=HYPERS)
def hyper(request):
    return HYPERS[request.param]


def function(u):
    return 3.0 - 0.5 * (u**2).sum(1) + 0.3 * np.sin(2.0 * u[:, 0])


def points(n=N, *, seed=0, d=D):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.fixture
def data(device):
    return training(device)


def training(device="cpu", *, n=N):
    u = points(n)
    noise = np.where(np.arange(n) % 3 == 0, 0.1, 0.0)
    return Data.of(u, function(u), depth=np.maximum(0.0, (u**2).sum(1) - 2.0), noise=noise, device=device)


def covariance(recipe, a, b, hyper, scale):
    """Prior covariance s^2 (phi phi^T + a^2 k), pair by pair."""
    lengthscale = np.exp(hyper.log_lengthscale)
    r2 = (((a[:, None] - b[None]) / lengthscale) ** 2).sum(-1)
    k = CORRELATIONS[recipe.kernel].correlation(torch.as_tensor(r2)).numpy()
    phi_a, phi_b = (recipe.trend.basis(torch.as_tensor(x)).numpy() for x in (a, b))
    return scale**2 * (phi_a @ phi_b.T + np.exp(2 * hyper.log_amplitude) * k)


def dense(recipe, data, hyper):
    """The matrix of the data and the output scale, the obvious way."""
    u, y, depth, noise = (part.cpu().numpy() for part in (data.u, data.y, data.depth, data.noise))
    shaping = np.exp(hyper.log_shaping) * depth
    if hyper.log_scale is not None:
        scale = np.exp(hyper.log_scale)
        k = covariance(recipe, u, u, hyper, scale)
        return k + np.diag(scale**2 * recipe.nugget + shaping**2 + noise**2), scale
    k = covariance(recipe, u, u, hyper, 1.0) + np.diag(recipe.nugget + shaping**2)
    scale = np.sqrt(y @ np.linalg.solve(k, y) / len(y))
    return scale**2 * k, scale


def test_marginal_likelihood_is_that_of_the_dense_matrix(recipe, data, hyper):
    k, _ = dense(recipe, data, hyper)
    y = data.y.cpu().numpy()
    exact = stats.multivariate_normal.logpdf(y, np.zeros(len(y)), k)
    assert -recipe.negative_log_evidence(data, hyper.vector())[0] == pytest.approx(exact, rel=1e-8)
    assert recipe.condition(data, hyper).log_evidence == pytest.approx(exact, rel=1e-8)


def test_gradient_is_that_of_finite_differences(recipe, data, hyper):
    theta = hyper.vector()
    gradient = recipe.negative_log_evidence(data, theta)[1]
    steps = 1e-5 * np.eye(len(theta))
    values = [[recipe.negative_log_evidence(data, theta + sign * s)[0] for sign in (1, -1)] for s in steps]
    difference = [(up - down) / 2e-5 for up, down in values]
    np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("trend", ["constant", "quadratic"])
@pytest.mark.parametrize("hyper", HYPERS.values(), ids=HYPERS)
def test_gradient_is_that_of_automatic_differentiation(trend, hyper):
    """Of the dense matrix, which has no trace of the clever algebra."""
    recipe, data = Trended("rbf", Polynomial(trend), nugget=NUGGET), training()
    phi, n = recipe.trend.basis(data.u), len(data.y)

    def variance(theta):
        shaped = (torch.exp(theta[1]) * data.depth).square()
        return shaped if len(theta) == D + 2 else (shaped + data.noise.square()) * torch.exp(-2 * theta[D + 2])

    def value(theta):
        z = data.u / torch.exp(theta[2 : D + 2])
        k = torch.exp(2 * theta[0]) * torch.exp(-0.5 * (z[:, None] - z[None]).square().sum(-1)) + phi @ phi.T
        k = k + torch.diag(NUGGET + variance(theta))
        q = data.y @ torch.linalg.solve(k, data.y)
        s2 = torch.exp(2 * theta[D + 2]) if len(theta) > D + 2 else q / n
        return 0.5 * (torch.logdet(k) + n * torch.log(2 * np.pi * s2) + q / s2)

    theta = torch.tensor(hyper.vector(), requires_grad=True)
    (gradient,) = torch.autograd.grad(value(theta), theta)
    ours = recipe.negative_log_evidence(data, hyper.vector())
    assert ours[0] == pytest.approx(value(theta).item(), rel=1e-9)
    np.testing.assert_allclose(ours[1], gradient, rtol=1e-7, atol=1e-7)


def test_the_gradient_vanishes_at_the_profiled_scale(recipe, data):
    """Profiling is maximising: with the scale that it finds the explicit gradient has no component along it."""
    exact = Data(data.u, data.y, torch.zeros_like(data.y), torch.zeros_like(data.y))
    model = recipe.condition(exact, PROFILED)
    theta = np.append(PROFILED.vector(), np.log(model.scale))
    value, gradient = recipe.negative_log_evidence(exact, theta)
    assert value == pytest.approx(-model.log_evidence, rel=1e-10)
    assert gradient[-1] == pytest.approx(0.0, abs=1e-7)


def test_posterior_is_that_of_the_dense_matrix(recipe, data, hyper):
    model, x = recipe.condition(data, hyper), points(15, seed=1)
    k, scale = dense(recipe, data, hyper)
    u = data.u.cpu().numpy()
    cross = covariance(recipe, u, x, hyper, scale)
    solved = np.linalg.solve(k, cross)
    posterior = covariance(recipe, x, x, hyper, scale) - cross.T @ solved
    assert model.scale == pytest.approx(scale, rel=1e-9)
    np.testing.assert_allclose(model.mean(x), solved.T @ data.y.cpu().numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(model.covariance(x), posterior, rtol=1e-5, atol=1e-6 * scale**2)
    np.testing.assert_allclose(model.variance(x), np.diag(posterior), rtol=1e-5, atol=1e-6 * scale**2)


class OfGpytorch(gpytorch.models.ExactGP):
    """The same prior; the basis functions of the trend are further columns of the inputs."""

    def __init__(self, inputs, y, likelihood, kernel, hyper, p):
        super().__init__(inputs, y, likelihood)
        d, scale = len(hyper.log_lengthscale), np.exp(hyper.log_scale)
        residual = ScaleKernel(kernel(ard_num_dims=d, active_dims=tuple(range(d)))).double()
        residual.base_kernel.lengthscale = torch.as_tensor(np.exp(hyper.log_lengthscale))
        residual.outputscale = (scale * np.exp(hyper.log_amplitude)) ** 2
        trend = LinearKernel(active_dims=tuple(range(d, d + p))).double()
        trend.variance = scale**2
        self.mean_module = gpytorch.means.ZeroMean()
        self.covar_module = residual + trend

    def forward(self, inputs):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))


OF_GPYTORCH = {
    "rbf": RBFKernel,
    "matern32": lambda **options: MaternKernel(nu=1.5, **options),
    "matern52": lambda **options: MaternKernel(nu=2.5, **options),
}


@pytest.fixture
def exact_gpytorch():
    settings = gpytorch.settings
    with (
        settings.fast_computations(covar_root_decomposition=False, log_prob=False, solves=False),
        settings.max_cholesky_size(10_000),
        settings.cholesky_jitter(double_value=1e-14),
        settings.fast_pred_var(False),
    ):
        yield


@pytest.mark.usefixtures("exact_gpytorch")
@pytest.mark.parametrize("trend", ["constant", "quadratic"])
@pytest.mark.parametrize("kernel", OF_GPYTORCH)
def test_it_is_the_process_of_gpytorch(kernel, trend):
    """Marginal likelihood, mean, variance and covariance of ExactGP with the same prior and noise."""
    recipe, data, x = Trended(kernel, Polynomial(trend), nugget=NUGGET), training(), points(15, seed=1)
    model = recipe.condition(data, SCALED)
    scale = model.scale
    noise = scale**2 * NUGGET + (np.exp(SCALED.log_shaping) * data.depth) ** 2 + data.noise**2
    likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(noise)
    inputs = torch.cat([data.u, recipe.trend.basis(data.u)], 1)
    other = OfGpytorch(inputs, data.y, likelihood, OF_GPYTORCH[kernel], SCALED, recipe.trend.size(D)).double()
    with torch.no_grad():
        marginal = gpytorch.ExactMarginalLogLikelihood(likelihood, other)(other.train()(inputs), data.y) * len(data.y)
        new = torch.as_tensor(x)
        posterior = other.eval()(torch.cat([new, recipe.trend.basis(new)], 1))
    assert model.log_evidence == pytest.approx(float(marginal), rel=1e-7)
    np.testing.assert_allclose(model.mean(x), posterior.mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.covariance(x), posterior.covariance_matrix, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.variance(x), posterior.variance, rtol=1e-5, atol=1e-6)


def test_features_are_factors_of_the_posterior_covariance(recipe, data, hyper):
    model, x = recipe.condition(data, hyper), points(12, seed=3)
    a, b = model.features(x)
    k = covariance(Trended(recipe.kernel, Polynomial("constant")), x, x, hyper, 1.0) - (10.0 * D) ** 2
    expected = model.scale**2 * (k + (b.T @ b - a.T @ a).cpu().numpy())
    np.testing.assert_allclose(model.covariance(x), expected, rtol=1e-9, atol=1e-9 * model.scale**2)


def test_variance_is_the_diagonal_of_the_covariance(recipe, data, hyper):
    model, x = recipe.condition(data, hyper), points(40, seed=4)
    np.testing.assert_allclose(model.variance(x), np.diag(model.covariance(x)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("trend", ["constant", "linear", "quadratic"])
def test_the_polynomial_is_the_mean_without_its_residual(trend, data, device):
    """Far from all data nothing but the trend is left of the mean."""
    recipe = Trended("rbf", Polynomial(trend), nugget=NUGGET)
    model = recipe.condition(data, SCALED)
    x = 400.0 * points(5, seed=5)
    c, b, quadratic = (part.cpu().numpy() for part in model.polynomial)
    np.testing.assert_allclose(model.mean(x), c + x @ b + ((x @ quadratic) * x).sum(1), rtol=1e-9)


def test_without_noise_the_mean_goes_through_the_data():
    u = points()
    model = Trended("matern32", Polynomial(), nugget=1e-12).condition(Data.of(u, function(u)), SCALED)
    np.testing.assert_allclose(model.mean(u), function(u), atol=1e-6)
    assert model.variance(u).max() < 1e-6 * model.scale**2


@pytest.mark.parametrize("d", [1, 2, 4, 8])
def test_a_quadratic_is_reproduced_from_as_many_points_as_it_has_coefficients(d):
    """Any (d + 1) (d + 2) / 2 points in general position; the residual is small and the nugget negligible."""
    rng = np.random.default_rng(d)
    p = (d + 1) * (d + 2) // 2
    a = rng.standard_normal((d, d))

    def quadratic(u):
        return 2.0 + u @ np.arange(1.0, d + 1) - ((u @ (a @ a.T)) * u).sum(1)

    u, x = rng.standard_normal((p, d)), rng.standard_normal((50, d))
    hyper = Hyperparameters(np.log(2.5e-3), np.log(1e-6), np.full(d, np.log(2 * np.sqrt(d))), np.log(1e3))
    model = Trended("rbf", Polynomial(), nugget=1e-12).condition(Data.of(u, quadratic(u)), hyper)
    spread = quadratic(x).std()
    assert np.abs(model.mean(u) - quadratic(u)).max() < 1e-6 * spread
    _, b, curvature = (part.numpy() for part in model.polynomial)
    # The residual takes what is cheaper to explain without the trend: a^2 = 6e-6 of the trend's variance at most.
    conditioning = np.linalg.cond(Polynomial().basis(torch.as_tensor(u)).numpy())
    assert np.abs(model.mean(x) - quadratic(x)).max() < 1e-5 * conditioning * spread
    np.testing.assert_allclose(curvature, -a @ a.T, atol=1e-5 * conditioning * spread)
    np.testing.assert_allclose(b, np.arange(1.0, d + 1), atol=1e-5 * conditioning * spread)


def test_more_data_never_raise_the_variance(recipe):
    full, x = training(), points(30, seed=6)
    part = full.subset(np.arange(0, N, 2))
    less, more = (recipe.condition(data, SCALED).variance(x) for data in (full, part))
    assert np.all(less <= more * (1 + 1e-9))


def test_the_order_of_the_data_does_not_matter(recipe, data, hyper):
    shuffled = data.subset(np.random.default_rng(0).permutation(N))
    x = points(8, seed=7)
    a, b = recipe.condition(data, hyper), recipe.condition(shuffled, hyper)
    assert a.log_evidence == pytest.approx(b.log_evidence, rel=1e-9)
    np.testing.assert_allclose(a.mean(x), b.mean(x), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_values_in_other_units(recipe, data, factor):
    """Units of y multiply the profiled scale and the mean, and cost n log(factor)."""
    other = Data(data.u, factor * data.y, data.depth, data.noise)
    a, b = recipe.condition(data, PROFILED), recipe.condition(other, PROFILED)
    x = points(8, seed=8)
    assert b.scale == pytest.approx(factor * a.scale, rel=1e-9)
    assert b.log_evidence == pytest.approx(a.log_evidence - N * np.log(factor), rel=1e-9)
    np.testing.assert_allclose(b.mean(x), factor * a.mean(x), rtol=1e-7, atol=1e-9 * factor)


def test_a_shaped_point_is_a_point_with_noise(recipe):
    """The depth enters as noise c depth and in no other way."""
    data = training()
    depth_only = Data(data.u, data.y, data.depth, torch.zeros_like(data.y))
    noise_only = Data(data.u, data.y, torch.zeros_like(data.y), np.exp(SCALED.log_shaping) * data.depth)
    a, b = (recipe.negative_log_evidence(part, SCALED.vector())[0] for part in (depth_only, noise_only))
    assert a == pytest.approx(b, rel=1e-12)


def test_the_mean_in_blocks_is_the_mean():
    """More points than fit into one block of 4 million kernel values."""
    u = points(900, seed=9)
    model = Trended("rbf", Polynomial()).condition(Data.of(u, function(u)), SCALED)
    x = points(9000, seed=10)
    some = np.array([0, 4443, 4444, 4445, 8887, 8888, 8999])
    np.testing.assert_allclose(model.mean(x)[some], model.mean(x[some]), rtol=1e-9, atol=1e-9)


def test_hyperparameters_and_their_vector():
    for hyper in (SCALED, PROFILED):
        back = Hyperparameters.of(hyper.vector(), D)
        np.testing.assert_array_equal(back.vector(), hyper.vector())
        assert (back.log_scale is None) == (hyper.log_scale is None)
    assert len(Hyperparameters.default(4).vector()) == 6
    assert len(Hyperparameters.default(4, scale=2.0).vector()) == 7


def test_a_matrix_that_cannot_be_factored_is_said_to_be():
    """Two equal points without a nugget: the error is torch's, for the fit to handle."""
    u = np.repeat(points(5), 2, axis=0)
    recipe = Trended("rbf", Polynomial(), nugget=0.0)
    for function_of in (
        lambda data: Cholesky().condition(recipe.process(SCALED), data),
        lambda data: recipe.negative_log_evidence(data, SCALED.vector()),
    ):
        with pytest.raises(torch.linalg.LinAlgError):
            function_of(Data.of(u, np.zeros(10)))
