import numpy as np
import pytest
import torch
from scipy import stats

from surrogate.networks.architecture import Architecture
from surrogate.networks.posteriors import Linearised, Rows, members_of
from surrogate.networks.uncertainty import (
    _EXPONENT,
    Calibration,
    NoiseTrend,
    _objective,
    _powers,
    calibrate,
    in_blocks,
    spreads,
)

D = 3


@pytest.fixture(scope="module")
def networks():
    architecture = Architecture(D, (20, 15))
    return architecture, [architecture.build(torch.Generator().manual_seed(m)) for m in range(3)]


def points(n, seed):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def last_layers(architecture, modules, x):
    rows = Rows(x, torch.zeros(len(x)), architecture, classes=False)
    members = members_of("last-layer", modules, rows, [torch.Generator()] * len(modules))
    return [Linearised(member.posterior.with_hyperparameters(prior_precision=1.0, noise=0.01)) for member in members]


def test_more_rows_leave_less_variance(networks):
    architecture, modules = networks
    x, new = points(200, 2), points(50, 3)
    few, many = (last_layers(architecture, modules[:1], torch.cat([x[:100]] * k))[0] for k in (1, 2))
    assert bool((many.outputs(new)[1] < few.outputs(new)[1]).all())


def test_network_given_keeps_its_precision(networks):
    architecture, modules = networks
    last_layers(architecture, modules[:1], points(5, 0))
    assert modules[0][0].weight.dtype == torch.float32


def test_draws_add_their_variance(networks):
    """A mixture: the variance around the draws, and that between them."""

    class Two:
        def outputs(self, x):
            mean = torch.stack([x[:, :1], x[:, :1] + 2.0])
            return mean, torch.full_like(mean, 3.0)

    mean, columns = spreads([Two()], points(4, 0).double(), disagree=False)
    torch.testing.assert_close(mean, points(4, 0).double()[:, 0] + 1.0)
    torch.testing.assert_close(columns, torch.full((4, 1), 5.0).double())


def test_spreads_of_several_networks(networks):
    architecture, modules = networks
    x, new = points(40, 4), points(10, 5)
    layers = last_layers(architecture, modules, x)
    mean, columns = spreads(layers, new, disagree=True)
    with torch.no_grad():
        outputs = np.stack([module(new).numpy()[:, 0] for module in modules])
    variances = np.stack([layer.outputs(new)[1][0, :, 0].numpy() for layer in layers])
    np.testing.assert_allclose(mean, outputs.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(columns, np.stack([variances.mean(0), outputs.var(0, ddof=1)], 1), rtol=1e-5, atol=1e-7)
    assert spreads(layers, new, disagree=False)[1].shape == (10, 1)


def test_blocks_make_no_difference(networks):
    architecture, modules = networks
    (layer,) = last_layers(architecture, modules[:1], points(40, 4))
    new = points(50, 6)
    whole, parts = (in_blocks(lambda x: spreads([layer], x, disagree=False), new, block=b) for b in (50, 7))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_objective_is_that_of_scipy_and_its_gradient_that_of_differences():
    rng = np.random.default_rng(3)
    z, u, powers = rng.standard_normal(30), rng.exponential(size=(30, 2)), _powers(rng.standard_normal(30), 0.1, 0.5)
    theta = np.array([-0.3, 0.2, -1.0, 0.7, 0.4, -0.2])
    value, gradient = _objective(theta, z, u, powers)
    size = np.sqrt(np.exp(theta[0] + powers @ theta[4:]) + u @ np.exp(theta[1:3]))
    prior = 0.5 * np.sum(theta[4:] ** 2) / _EXPONENT**2
    assert value == pytest.approx(prior - stats.t(np.exp(theta[3]), scale=size).logpdf(z).sum(), rel=1e-12)
    differences = [
        (_objective(theta + h, z, u, powers)[0] - _objective(theta - h, z, u, powers)[0]) / 2e-6
        for h in 1e-6 * np.eye(6)
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-7)


def test_noise_that_follows_the_mean_is_found():
    """Noise of variance exp(z - 0.3 z^2) beside 2 u: exponents within 5 standard errors, shrunk by at most a tenth."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        u, means = rng.exponential(size=(4000, 1)), 5 + 3 * rng.standard_normal(4000)
        factor = NoiseTrend(5.0, 3.0, (1.0, -0.3)).factor(means)
        errors = rng.standard_normal(4000) * np.sqrt(factor + 0.3 * u[:, 0])
        fit = calibrate(errors, u, means)
        found.append(fit.trend.exponents)
        ratio = fit.size(u, means) / np.sqrt(factor + 0.3 * u[:, 0])
        assert np.abs(np.log(ratio)).mean() < 0.1
    shrunk = np.mean(found, 0) / (1.0, -0.3)
    assert np.all(shrunk > 0.9 - 5 * np.std(found, 0) / 10**0.5 / 0.3)
    assert np.all(shrunk < 1 + 5 * np.std(found, 0) / 10**0.5 / 0.3)


def test_noise_that_does_not_follow_the_mean_is_left_alone():
    rng = np.random.default_rng(0)
    u, means = rng.exponential(size=(500, 1)), rng.standard_normal(500)
    fit = calibrate(rng.standard_normal(500), u, means)
    assert np.abs(fit.trend.exponents).max() < 0.15
    assert calibrate(rng.standard_normal(500), u, np.ones(500)).trend is None


def test_log_density_integrates_to_one():
    fit = Calibration(np.zeros(1), 1.0, 3.0, np.ones(1))
    grid = np.linspace(-400, 400, 400_001)
    assert np.exp(fit.log_density(grid, np.full(len(grid), 2.0))).sum() * 0.002 == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("tail", [3.0, 100.0])
def test_sizes_are_recovered(tail):
    """Squared sizes 0.5 + 2 u of Student t errors: the mean of 20 estimates is within 5 standard errors."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        u = rng.exponential(size=(2000, 1))
        errors = stats.t(tail).rvs(2000, random_state=rng) * np.sqrt(0.5 + 2 * u[:, 0])
        fit = calibrate(errors, u)
        found.append((np.log(fit.noise / 0.5), np.log(fit.weights[0] / 2)))
    mean, error = np.mean(found, 0), np.std(found, 0, ddof=1) / 20**0.5
    assert np.all(np.abs(mean) < 5 * error)
    assert np.all(np.std(found, 0) < 0.5)


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e6])
def test_units_of_the_errors_do_not_matter(factor):
    rng = np.random.default_rng(0)
    u, errors = rng.exponential(size=(300, 1)), rng.standard_normal(300)
    one, other = calibrate(errors, u), calibrate(factor * errors, u)
    np.testing.assert_allclose(other.size(u), factor * one.size(u), rtol=1e-3)
    np.testing.assert_allclose(other.quantile(0.9), one.quantile(0.9), rtol=1e-3)


def test_errors_of_zero_are_fitted():
    fit = calibrate(np.zeros(10), np.ones((10, 1)))
    assert fit.size(np.ones((3, 1))) == pytest.approx(0, abs=1e-10)
    assert np.isfinite(fit.quantile(0.9))


def test_quantile_is_the_conformal_one():
    fit = Calibration(np.zeros(1), 1.0, 5.0, np.arange(1.0, 100.0))  # 99 ratios: the 90th of 100 for 90 %
    assert [fit.quantile(c) for c in (0.5, 0.9, 0.99)] == [50.0, 90.0, 99.0]
    assert fit.quantile(0.995) == 99.0  # beyond the largest: the Student t, but no less
    assert fit.quantile(1 - 1e-12) == pytest.approx(stats.t(5).ppf(1 - 5e-13))


@pytest.mark.parametrize(
    "law",
    [
        pytest.param(stats.norm(), id="normal", marks=pytest.mark.slow),
        pytest.param(stats.t(1.5), id="heavy"),
        pytest.param(stats.uniform(-1, 2), id="bounded", marks=pytest.mark.slow),
    ],
)
def test_intervals_cover_new_errors(law):
    """Of 400 calibrations on 60 errors the mean coverage of the next one is 0.9 to 0.9 + 1 / 61, within 5 s.e."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        errors, new = law.rvs(60, random_state=rng), law.rvs(100, random_state=rng)
        fit = calibrate(errors, np.full((60, 1), 0.3))
        covered.append(np.mean(np.abs(new) <= fit.quantile(0.9) * fit.size(np.full((1, 1), 0.3))))
    error = np.std(covered, ddof=1) / 20
    assert 0.9 - 5 * error < np.mean(covered) < 0.9 + 1 / 61 + 5 * error
