from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from surrogate.gp import fitting
from surrogate.gp.kernels import RBF, Linear, Scale
from surrogate.gp.means import Polynomial
from surrogate.gp.noise import Nugget
from surrogate.gp.process import Data, Process
from surrogate.gp.trended import Hyperparameters, HyperPrior, Trended

D, N = 2, 30


def negative_log_posterior(data, theta, given=None):
    penalty, pull = RECIPE.priors(Hyperparameters.of(theta, D)).penalty(theta)
    value, gradient = RECIPE.negative_log_evidence(data, theta, given=given)
    return value + penalty, gradient + pull


RECIPE = Trended("rbf", Polynomial())
STARTS = {"explicit scale": Hyperparameters.default(D, scale=1.0), "profiled scale": Hyperparameters.default(D)}


@pytest.fixture(params=STARTS)
def start(request):
    return STARTS[request.param]


def training(*, n=N, depths=True, seed=0):
    u = np.random.default_rng(seed).standard_normal((n, D))
    y = -0.5 * (u**2).sum(1) + 0.5 * np.sin(1.5 * u[:, 0]) * u[:, 1]
    return Data.of(u, y, depth=np.maximum(0.0, -y - 1.0) if depths else None)


def split(data, count=12):
    """The data, and the first of them to be conditioned on."""
    return data, data.subset(np.arange(count))


def test_penalty_is_the_log_density_of_its_normals():
    prior, theta = HyperPrior(), np.array([0.3, -5.0, 0.1, 2.0, 1.7])
    priors = RECIPE.priors(STARTS["explicit scale"])
    centres = np.log(2 * np.sqrt(D))

    def log_density(t):
        normals = stats.norm.logpdf(t[2:4], centres, prior.lengthscale_sd).sum()
        return stats.norm.logpdf(t[0], 0, prior.amplitude_sd) + normals + stats.norm.logpdf(t[4], 0, prior.scale_sd)

    other = theta + [0.5, 1.0, -0.2, 0.4, -2.0]
    difference = priors.penalty(theta)[0] - priors.penalty(other)[0]
    assert difference == pytest.approx(log_density(other) - log_density(theta), rel=1e-12)


@pytest.mark.parametrize("condition_on", [False, True])
def test_gradient_is_that_of_finite_differences(start, condition_on):
    data, given = split(training())
    given = given if condition_on else None
    theta = start.vector() + 0.1 * np.arange(len(start.vector()))

    def value(t):
        return negative_log_posterior(data, t, given=given)[0]

    gradient = negative_log_posterior(data, theta, given=given)[1]
    difference = [(value(theta + s) - value(theta - s)) / 2e-5 for s in 1e-5 * np.eye(len(theta))]
    np.testing.assert_allclose(gradient, difference, rtol=1e-5, atol=5e-6 * np.abs(gradient).max())


def test_given_points_are_divided_out():
    """What remains is log p(others | given), of the model conditioned on the given points."""
    data, given = split(training(depths=False))
    hyper = Hyperparameters.default(D, scale=1.3)
    model, rest = RECIPE.condition(given, hyper), data.subset(np.arange(12, N))
    u = rest.u.numpy()
    k = model.covariance(u) + model.scale**2 * RECIPE.nugget * np.eye(len(u))
    exact = stats.multivariate_normal.logpdf(rest.y.numpy(), model.mean(u), k)
    ours = negative_log_posterior(data, hyper.vector(), given=given)[0]
    assert RECIPE.priors(hyper).penalty(hyper.vector())[0] - ours == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("condition_on", [False, True])
def test_the_value_is_that_of_the_hyperparameters(start, condition_on):
    data, given = split(training())
    given = given if condition_on else None
    hyper, found = RECIPE.fit(data, [start], given=given)
    assert found.value == pytest.approx(-negative_log_posterior(data, hyper.vector(), given=given)[0])
    assert found.rescues == ()
    assert (hyper.log_scale is None) == (start.log_scale is None)


def projected_gradient(theta, gradient, bounds):
    """The gradient without the components that point out of the box."""
    low, high = np.isclose(theta, bounds[:, 0]) & (gradient > 0), np.isclose(theta, bounds[:, 1]) & (gradient < 0)
    return np.where(low | high, 0.0, gradient)


@pytest.mark.parametrize("condition_on", [False, True])
def test_the_end_is_a_maximum_inside_of_the_bounds(start, condition_on):
    data, given = split(training())
    given = given if condition_on else None
    hyper, found = RECIPE.fit(data, [start], given=given, max_evaluations=500)
    theta, bounds = hyper.vector(), RECIPE.priors(start).bounds
    assert np.all((theta >= bounds[:, 0]) & (theta <= bounds[:, 1]))
    at_end = projected_gradient(theta, negative_log_posterior(data, theta, given=given)[1], bounds)
    at_start = negative_log_posterior(data, start.vector(), given=given)
    assert np.abs(at_end).max() < 1e-2 * np.abs(at_start[1]).max()
    assert found.value > -at_start[0]


def test_more_starts_are_never_worse():
    data = training()
    starts = [Hyperparameters.default(D, scale=s) for s in (1e-3, 1.0, 1e5)]
    each = [RECIPE.fit(data, [start])[1].value for start in starts]
    assert RECIPE.fit(data, starts)[1].value == max(each)


def test_a_start_outside_of_the_bounds_is_moved_inside():
    far = Hyperparameters(100.0, -100.0, np.array([50.0, -50.0]), 80.0)
    hyper, found = RECIPE.fit(training(), [far])
    assert np.isfinite(found.value)
    bounds = RECIPE.priors(far).bounds
    assert np.all((hyper.vector() >= bounds[:, 0]) & (hyper.vector() <= bounds[:, 1]))


def test_a_fit_from_where_a_fit_ended_stays():
    data = training()
    hyper, found = RECIPE.fit(data, [STARTS["explicit scale"]], max_evaluations=500)
    again, same = RECIPE.fit(data, [hyper], max_evaluations=500)
    assert same.value >= found.value - 1e-9 * abs(found.value)
    assert same.value == pytest.approx(found.value, abs=1e-3)
    np.testing.assert_allclose(again.vector(), hyper.vector(), atol=0.1)


def test_hyperparameters_are_recovered():
    """Null: a draw of the process. Twice the log ratio to the truth is chi-squared with d + 2 degrees; p < 1e-6."""
    truth = Hyperparameters(0.0, np.log(1e-6), np.log([0.7, 2.0]), 0.0)
    recipe = Trended("rbf", Polynomial("constant"), nugget=1e-4)
    rng = np.random.default_rng(5)
    u = 2.0 * rng.standard_normal((150, D))
    z = torch.as_tensor(u / np.exp(truth.log_lengthscale))
    k = torch.exp(-0.5 * (z[:, None] - z[None]).square().sum(-1)).numpy() + 1e-4 * np.eye(150)
    data = Data.of(u, np.linalg.cholesky(k) @ rng.standard_normal(150))
    flat = replace(recipe, prior=HyperPrior(amplitude_sd=1e3, lengthscale_sd=1e3, scale_sd=1e3))
    starts = [STARTS["explicit scale"], Hyperparameters(0.0, np.log(1e-3), np.zeros(D), 0.0)]  # one ends in "all noise"
    hyper, _ = flat.fit(data, starts, max_evaluations=300)
    gain = recipe.negative_log_evidence(data, truth.vector())[0] - recipe.negative_log_evidence(data, hyper.vector())[0]
    assert 0 < 2 * gain < stats.chi2(D + 2).isf(1e-6)
    np.testing.assert_allclose(hyper.log_lengthscale, truth.log_lengthscale, atol=0.5)


def test_the_residual_of_a_quadratic_vanishes():
    u = np.random.default_rng(0).standard_normal((20, D))
    y = -0.5 * (u**2).sum(1)
    hyper, _ = RECIPE.fit(Data.of(u, y), [STARTS["explicit scale"]], max_evaluations=200)
    assert np.exp(hyper.log_amplitude + hyper.log_scale) < 0.01 * y.std()


# Rescue


def failing(monkeypatch, should_fail):
    """Lets the factorisation fail at the calls with a small nugget for which ``should_fail(number)``."""
    calls = []
    original = fitting.negative_log_evidence

    def replacement(process, data, vector, **options):
        if process.noise.forward(vector[-1:], data).relative == RECIPE.nugget:
            calls.append(vector)
            if should_fail(len(calls)):
                message = "the leading minor of order 7 is not positive-definite"
                raise torch.linalg.LinAlgError(message)
        return original(process, data, vector, **options)

    monkeypatch.setattr(fitting, "negative_log_evidence", replacement)
    return calls


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_one_failed_factorisation_does_not_end_the_optimisation(monkeypatch, number):
    data = training()
    _, plain = RECIPE.fit(data, [STARTS["explicit scale"]], max_evaluations=200)
    calls = failing(monkeypatch, lambda call: call == number)
    hyper, found = RECIPE.fit(data, [STARTS["explicit scale"]], max_evaluations=200)
    assert found.rescues == (10.0,)
    assert len(calls) > number
    assert found.value == pytest.approx(plain.value, abs=0.5)
    assert np.isfinite(hyper.vector()).all()


def test_when_every_factorisation_fails_the_raised_nugget_is_fitted(monkeypatch):
    """The same optimum as with that nugget from the start."""
    data = training()
    raised = replace(RECIPE, nugget=10 * RECIPE.nugget)
    expected = raised.fit(data, [STARTS["explicit scale"]])
    calls = failing(monkeypatch, lambda call: True)
    hyper, found = RECIPE.fit(data, [STARTS["explicit scale"]])
    assert len(found.rescues) == len(calls) == found.n_evaluations > 1
    assert found.value == pytest.approx(expected[1].value, rel=1e-12)
    np.testing.assert_array_equal(hyper.vector(), expected[0].vector())


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_rescued_too(monkeypatch, wrong):
    original = fitting.negative_log_evidence
    calls = []

    def replacement(process, data, vector, **options):
        calls.append(vector)
        value, gradient = original(process, data, vector, **options)
        return (wrong, gradient) if len(calls) == 2 else (value, gradient)

    monkeypatch.setattr(fitting, "negative_log_evidence", replacement)
    _, found = RECIPE.fit(training(), [STARTS["explicit scale"]])
    assert found.rescues == (10.0,)
    assert np.isfinite(found.value)


def test_repeated_points_without_a_nugget_are_survived():
    """A kernel matrix that is singular at every theta; the values differ by rounding alone."""
    u = np.repeat(np.random.default_rng(0).standard_normal((10, D)), 3, axis=0)
    data = Data.of(u, -0.5 * (u**2).sum(1))
    with pytest.raises(FloatingPointError, match=r"cannot be factored even with 1e\+12 times the nugget"):
        replace(RECIPE, nugget=1e-300).fit(data, [STARTS["explicit scale"]])
    hyper, found = replace(RECIPE, nugget=1e-18).fit(data, [STARTS["explicit scale"]])
    assert len(found.rescues) > 0
    assert np.isfinite(found.value)
    assert np.isfinite(hyper.vector()).all()


def test_no_starts_are_refused():
    with pytest.raises(ValueError, match="at least one start is needed, got none"):
        RECIPE.fit(training(), [])


def test_any_process_is_fitted():
    """A composed kernel with a fitted nugget: a maximum inside of the bounds, better than the start."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal((60, D))
    data = Data.of(u, np.sin(2.0 * u[:, 0]) + 0.3 * u[:, 1] + 0.1 * rng.standard_normal(60))
    process = Process(Scale(1.0) * RBF(1.0).on([0]) + Linear([1.0, 1.0]), noise=Nugget(0.1, fitted=True))
    found = fitting.fit(process, data, starts=[process.vector(), process.vector() - 1.0], max_evaluations=300)
    values = [-fitting.negative_log_evidence(process, data, v)[0] for v in (process.vector(), found.vector)]
    assert found.value == pytest.approx(values[1])
    assert found.value > values[0]
    fitted = process.with_vector(found.vector).condition(data)
    assert np.abs(fitted.mean(u) - np.sin(2.0 * u[:, 0]) - 0.3 * u[:, 1]).mean() < 0.1
