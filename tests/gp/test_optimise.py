import numpy as np
import pytest
import torch
from scipy import stats

from surrogate.gp import optimise as fitting
from surrogate.gp.kernels import KERNELS
from surrogate.gp.means import Trend
from surrogate.gp.optimise import HyperPrior, fit, negative_log_posterior
from surrogate.gp.process import GPRecipe, Hyperparameters, TrainingSet, condition, negative_log_marginal

D, N = 2, 30
RECIPE = GPRecipe(KERNELS["rbf"], Trend())
STARTS = {"explicit scale": Hyperparameters.default(D, scale=1.0), "profiled scale": Hyperparameters.default(D)}


@pytest.fixture(params=STARTS)
def start(request):
    return STARTS[request.param]


def training(*, n=N, gaps=True, seed=0):
    u = np.random.default_rng(seed).standard_normal((n, D))
    y = -0.5 * (u**2).sum(1) + 0.5 * np.sin(1.5 * u[:, 0]) * u[:, 1]
    return TrainingSet.of(u, y, gap=np.maximum(0.0, -y - 1.0) if gaps else None)


def split(data, count=12):
    """The data, and the first of them to be conditioned on."""
    return data, data.subset(np.arange(count))


def test_penalty_is_the_log_density_of_its_normals():
    prior, theta = HyperPrior(), np.array([0.3, -5.0, 0.1, 2.0, 1.7])
    centres = np.log(2 * np.sqrt(D))

    def log_density(t):
        normals = stats.norm.logpdf(t[2:4], centres, prior.lengthscale_sd).sum()
        return stats.norm.logpdf(t[0], 0, prior.amplitude_sd) + normals + stats.norm.logpdf(t[4], 0, prior.scale_sd)

    other = theta + [0.5, 1.0, -0.2, 0.4, -2.0]
    difference = prior.penalty(theta, D)[0] - prior.penalty(other, D)[0]
    assert difference == pytest.approx(log_density(other) - log_density(theta), rel=1e-12)


@pytest.mark.parametrize("condition_on", [False, True])
def test_gradient_is_that_of_finite_differences(start, condition_on):
    data, given = split(training())
    given = given if condition_on else None
    theta = start.vector() + 0.1 * np.arange(len(start.vector()))

    def value(t):
        return negative_log_posterior(RECIPE, data, HyperPrior(), t, given=given)[0]

    gradient = negative_log_posterior(RECIPE, data, HyperPrior(), theta, given=given)[1]
    difference = [(value(theta + s) - value(theta - s)) / 2e-5 for s in 1e-5 * np.eye(len(theta))]
    np.testing.assert_allclose(gradient, difference, rtol=1e-5, atol=5e-6 * np.abs(gradient).max())


def test_given_points_are_divided_out():
    """What remains is log p(others | given), of the model conditioned on the given points."""
    data, given = split(training(gaps=False))
    hyper = Hyperparameters.default(D, scale=1.3)
    model, rest = condition(RECIPE, given, hyper), data.subset(np.arange(12, N))
    u = rest.u.numpy()
    k = model.covariance(u) + model.scale**2 * RECIPE.nugget * np.eye(len(u))
    exact = stats.multivariate_normal.logpdf(rest.y.numpy(), model.mean(u), k)
    ours = negative_log_posterior(RECIPE, data, HyperPrior(), hyper.vector(), given=given)[0]
    assert HyperPrior().penalty(hyper.vector(), D)[0] - ours == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("condition_on", [False, True])
def test_the_value_is_that_of_the_hyperparameters(start, condition_on):
    data, given = split(training())
    given = given if condition_on else None
    hyper, value, rescues = fit(RECIPE, data, [start], given=given)
    assert value == pytest.approx(-negative_log_posterior(RECIPE, data, HyperPrior(), hyper.vector(), given=given)[0])
    assert rescues == 0
    assert (hyper.log_scale is None) == (start.log_scale is None)


def projected_gradient(theta, gradient, bounds):
    """The gradient without the components that point out of the box."""
    low, high = np.isclose(theta, bounds[:, 0]) & (gradient > 0), np.isclose(theta, bounds[:, 1]) & (gradient < 0)
    return np.where(low | high, 0.0, gradient)


@pytest.mark.parametrize("condition_on", [False, True])
def test_the_end_is_a_maximum_inside_of_the_bounds(start, condition_on):
    data, given = split(training())
    given = given if condition_on else None
    prior = HyperPrior()
    hyper, value, _ = fit(RECIPE, data, [start], given=given, max_evaluations=500)
    theta, bounds = hyper.vector(), prior.bounds(D, scaled=start.log_scale is not None)
    assert np.all((theta >= bounds[:, 0]) & (theta <= bounds[:, 1]))
    at_end = projected_gradient(theta, negative_log_posterior(RECIPE, data, prior, theta, given=given)[1], bounds)
    at_start = negative_log_posterior(RECIPE, data, prior, start.vector(), given=given)
    assert np.abs(at_end).max() < 1e-2 * np.abs(at_start[1]).max()
    assert value > -at_start[0]


def test_more_starts_are_never_worse():
    data = training()
    starts = [Hyperparameters.default(D, scale=s) for s in (1e-3, 1.0, 1e5)]
    each = [fit(RECIPE, data, [start])[1] for start in starts]
    assert fit(RECIPE, data, starts)[1] == max(each)


def test_a_start_outside_of_the_bounds_is_moved_inside():
    far = Hyperparameters(100.0, -100.0, np.array([50.0, -50.0]), 80.0)
    hyper, value, _ = fit(RECIPE, training(), [far])
    assert np.isfinite(value)
    bounds = HyperPrior().bounds(D, scaled=True)
    assert np.all((hyper.vector() >= bounds[:, 0]) & (hyper.vector() <= bounds[:, 1]))


def test_a_fit_from_where_a_fit_ended_stays():
    data = training()
    hyper, value, _ = fit(RECIPE, data, [STARTS["explicit scale"]], max_evaluations=500)
    again, same, _ = fit(RECIPE, data, [hyper], max_evaluations=500)
    assert same >= value - 1e-9 * abs(value)
    assert same == pytest.approx(value, abs=1e-3)
    np.testing.assert_allclose(again.vector(), hyper.vector(), atol=0.1)


def test_hyperparameters_are_recovered():
    """Null: a draw of the process. Twice the log ratio to the truth is chi-squared with d + 2 degrees; p < 1e-6."""
    truth = Hyperparameters(0.0, np.log(1e-6), np.log([0.7, 2.0]), 0.0)
    recipe = GPRecipe(KERNELS["rbf"], Trend("constant"), nugget=1e-4)
    rng = np.random.default_rng(5)
    u = 2.0 * rng.standard_normal((150, D))
    z = torch.as_tensor(u / np.exp(truth.log_lengthscale))
    k = torch.exp(-0.5 * (z[:, None] - z[None]).square().sum(-1)).numpy() + 1e-4 * np.eye(150)
    data = TrainingSet.of(u, np.linalg.cholesky(k) @ rng.standard_normal(150))
    flat = HyperPrior(amplitude_sd=1e3, lengthscale_sd=1e3, scale_sd=1e3)
    starts = [STARTS["explicit scale"], Hyperparameters(0.0, np.log(1e-3), np.zeros(D), 0.0)]  # one ends in "all noise"
    hyper, _, _ = fit(recipe, data, starts, prior=flat, max_evaluations=300)
    gain = (
        negative_log_marginal(recipe, data, truth.vector())[0] - negative_log_marginal(recipe, data, hyper.vector())[0]
    )
    assert 0 < 2 * gain < stats.chi2(D + 2).isf(1e-6)
    np.testing.assert_allclose(hyper.log_lengthscale, truth.log_lengthscale, atol=0.5)


def test_the_residual_of_a_quadratic_vanishes():
    u = np.random.default_rng(0).standard_normal((20, D))
    y = -0.5 * (u**2).sum(1)
    hyper, _, _ = fit(RECIPE, TrainingSet.of(u, y), [STARTS["explicit scale"]], max_evaluations=200)
    assert np.exp(hyper.log_amplitude + hyper.log_scale) < 0.01 * y.std()


# Rescue


def failing(monkeypatch, should_fail):
    """Lets the factorisation fail at the calls with a small nugget for which ``should_fail(number)``."""
    calls = []
    original = fitting.negative_log_marginal

    def replacement(recipe, data, theta, **options):
        if recipe.nugget == RECIPE.nugget:
            calls.append(theta)
            if should_fail(len(calls)):
                message = "the leading minor of order 7 is not positive-definite"
                raise torch.linalg.LinAlgError(message)
        return original(recipe, data, theta, **options)

    monkeypatch.setattr(fitting, "negative_log_marginal", replacement)
    return calls


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_one_failed_factorisation_does_not_end_the_optimisation(monkeypatch, number):
    data = training()
    _, value, _ = fit(RECIPE, data, [STARTS["explicit scale"]], max_evaluations=200)
    calls = failing(monkeypatch, lambda call: call == number)
    hyper, rescued, rescues = fit(RECIPE, data, [STARTS["explicit scale"]], max_evaluations=200)
    assert rescues == 1
    assert len(calls) > number
    assert rescued == pytest.approx(value, abs=0.5)
    assert np.isfinite(hyper.vector()).all()


def test_when_every_factorisation_fails_the_raised_nugget_is_fitted(monkeypatch):
    """The same optimum as with that nugget from the start."""
    data = training()
    raised = GPRecipe(KERNELS["rbf"], Trend(), nugget=10 * RECIPE.nugget)
    expected = fit(raised, data, [STARTS["explicit scale"]])
    calls = failing(monkeypatch, lambda call: True)
    got = fit(RECIPE, data, [STARTS["explicit scale"]])
    assert got[2] == len(calls) > 1
    assert got[1] == pytest.approx(expected[1], rel=1e-12)
    np.testing.assert_array_equal(got[0].vector(), expected[0].vector())


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_rescued_too(monkeypatch, wrong):
    original = fitting.negative_log_marginal
    calls = []

    def replacement(recipe, data, theta, **options):
        calls.append(theta)
        value, gradient = original(recipe, data, theta, **options)
        return (wrong, gradient) if len(calls) == 2 else (value, gradient)

    monkeypatch.setattr(fitting, "negative_log_marginal", replacement)
    _, value, rescues = fit(RECIPE, training(), [STARTS["explicit scale"]])
    assert rescues == 1
    assert np.isfinite(value)


def test_repeated_points_without_a_nugget_are_survived():
    """A kernel matrix that is singular at every theta; the values differ by rounding alone."""
    u = np.repeat(np.random.default_rng(0).standard_normal((10, D)), 3, axis=0)
    recipe = GPRecipe(KERNELS["rbf"], Trend(), nugget=1e-300)
    data = TrainingSet.of(u, -0.5 * (u**2).sum(1))
    with pytest.raises(
        FloatingPointError, match=r"kernel matrix of 30 points cannot be factored even with a nugget of"
    ):
        fit(recipe, data, [STARTS["explicit scale"]])
    hyper, value, rescues = fit(GPRecipe(KERNELS["rbf"], Trend(), nugget=1e-18), data, [STARTS["explicit scale"]])
    assert rescues > 0
    assert np.isfinite(value)
    assert np.isfinite(hyper.vector()).all()


def test_no_starts_are_refused():
    with pytest.raises(ValueError, match="starts must hold at least one"):
        fit(RECIPE, training(), [])
