from dataclasses import replace

import numpy as np
import pytest

from surrogate.gp.trended import Hyperparameters
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.feasibility.process import FeasibilityProcess
from surrogate.log_density.feasibility.protocol import Everywhere
from surrogate.log_density.fit import fit_structure, score_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Structure, SurrogateParameters, relevant_depth, trend_size
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation

LOW, HIGH = np.zeros(2), np.ones(2)


def dataset(x, y, *, noise=0.0):
    evaluations = [
        Evaluation(float(v), "ok", noise=noise)
        if np.isfinite(v)
        else (Evaluation.failure("no") if np.isnan(v) else Evaluation(-np.inf, "infeasible"))
        for v in y
    ]
    return Dataset.empty(x.shape[1]).append(x, evaluations, 0)


def curved(x):
    a, b = (x[:, 0] - 0.5) / 0.1, (x[:, 1] - 0.4) / 0.15
    return -0.5 * (a**2 + (b - 0.4 * a**2) ** 2)


def points(n=30, d=2, *, seed=0):
    return np.random.default_rng(seed).random((n, d))


def structure(kernel="rbf", trend="quadratic", output=0.0, kinds=(0, 0)):
    return Structure(kernel, trend, output, InputWarp(np.array(kinds), LOW, HIGH))


STRUCTURES = {
    "plain": structure(),
    "matern": structure("matern52"),
    "constant": structure(trend="constant"),
    "compressed": structure(output=7.0),
    "expanded": structure(output=-60.0),
    "warped": structure(kinds=(1, 3)),
    "everything": structure("matern52", "constant", 28.0, (2, 1)),
}
_FITTED = {}


def fitted(name):
    """Parameters and model of a structure on 30 points, fitted once."""
    if name not in _FITTED:
        x = points()
        data = dataset(x, curved(x))
        parameters = fit_structure(FitProblem(data, x), STRUCTURES[name])
        _FITTED[name] = data, x, parameters, build(data, x, parameters)
    return _FITTED[name]


@pytest.fixture(params=STRUCTURES)
def case(request):
    return fitted(request.param)


def test_sizes():
    assert [trend_size(d) for d in (1, 2, 4, 16)] == [3, 6, 15, 153]
    assert relevant_depth(1) < relevant_depth(8)


def test_the_model_is_a_function_of_numbers(case):
    """Built again from the same parameters it is the same, bit for bit."""
    data, x, parameters, model = case
    again, t = build(data, x, parameters), points(20, seed=1)
    np.testing.assert_array_equal(again.relative(t), model.relative(t))
    np.testing.assert_array_equal(again.predict(t), model.predict(t))


def test_later_data_do_not_matter_to_earlier_parameters(case):
    data, x, parameters, model = case
    new, t = points(5, seed=2), points(20, seed=1)
    more = data.append(new, [Evaluation(100.0, "ok")] * 5, 1)
    np.testing.assert_array_equal(build(more, np.concatenate([x, new]), parameters).predict(t), model.predict(t))


def test_the_mean_alone_is_that_of_a_prediction(case):
    model, t = case[-1], points(9, seed=5)
    np.testing.assert_array_equal(model.mean(t), model.predict(t)[0])


def test_predictions_go_through_the_relevant_data(case):
    """In the units of the log-likelihood, to a tenth where the posterior is."""
    data, x, _, model = case
    near = data.y > data.y_max - 3
    mean, sd = model.predict(x)
    np.testing.assert_allclose(mean[near], data.y[near], atol=0.1)
    assert np.all(sd >= 0)
    assert np.all(sd[near] < 0.5)


def test_mean_forms_agree_where_there_is_nothing_to_bend(case):
    """At the data: inside of the trust region, and nothing infeasible was seen."""
    data, x, parameters, model = case
    assert isinstance(model.feasibility, Everywhere)
    np.testing.assert_array_equal(model.relative(x), model.smooth(x))
    near = data.y > data.y_max - 10
    np.testing.assert_allclose(model.smooth(x[near]), model.bare_mean(x[near]), rtol=1e-12)
    mean = model.y_max + parameters.temperature * model.bare_mean(x)
    np.testing.assert_allclose(model.predict(x)[0], mean, rtol=1e-12)


def test_outside_of_the_trust_region_the_mean_is_bent_down(case):
    """Never up; and down by more than a nat where a compressed depth has not grown beyond all numbers."""
    model = case[3]
    low, high = model.region.low, model.region.high
    u = np.array([high + 2 * (high - low), low - 2 * (high - low)])
    far = model.parameters.whitening.unwhiten(u)
    if model.parameters.structure.warp.kinds.any():
        far = np.clip(far, 0.0, 1.0)  # warped axes end at the faces of the prior
    assert np.all(model.smooth(far) <= model.bare_mean(far))
    if not model.parameters.structure.warp.kinds.any() and model.parameters.structure.output <= 0:
        assert np.all(model.smooth(far) < model.bare_mean(far) - 1)


def test_slope_is_that_of_the_output_warp(case):
    data, x, _, model = case
    near = x[data.y > data.y_max - 10]
    z, step = model.gp.mean(model.whiten(near)), 1e-6
    difference = (model.output.inverse(z + step) - model.output.inverse(z - step)) / (2 * step)
    np.testing.assert_allclose(model.output.slope(model.gp.mean(model.whiten(near))), difference, rtol=1e-5)


def test_deviations_have_the_covariance_of_the_process():
    """Null: 20,000 joint normal draws; each entry within 6 standard errors. Without an output warp."""
    model, t, n = fitted("matern")[3], points(6, seed=3), 20_000
    exact = model.gp.covariance(model.whiten(t))
    paths = model.deviations(t, n, np.random.default_rng(0))
    error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / n)
    np.testing.assert_array_less(np.abs(paths.T @ paths / n - exact), 6 * error + 1e-12)
    inflated = model.deviations(t, n, np.random.default_rng(0), inflate=4.0)
    np.testing.assert_allclose(inflated, 2 * paths, rtol=1e-12)


def test_deviations_of_a_warped_surrogate_are_those_of_its_paths(case):
    model, t = case[3], points(5, seed=4)
    paths = model.deviations(t, 7, np.random.default_rng(0))
    assert paths.shape == (7, 5)
    assert np.isfinite(paths).all()


# Scores


def test_a_score_is_that_of_its_hyperparameters(case):
    """Scoring the fitted hyperparameters gives the fitted score again, whatever the structure."""
    data, x, parameters, _ = case
    score, hyper = score_structure(FitProblem(data, x), parameters.structure, (parameters.hyper,))
    assert score == pytest.approx(parameters.score, rel=1e-6, abs=1e-4)
    assert hyper is parameters.hyper


def test_scoring_takes_the_best(case):
    data, x, parameters, _ = case
    worse = replace(parameters.hyper, log_lengthscale=parameters.hyper.log_lengthscale - 3.0)
    score, hyper = score_structure(FitProblem(data, x), parameters.structure, (worse, parameters.hyper))
    assert hyper is parameters.hyper
    assert score == pytest.approx(parameters.score, rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("temperature", [3.0, 100.0])
def test_temperature_is_a_unit_of_the_log_likelihood(temperature):
    """A fit of y at temperature T is a fit of y / T."""
    x = points()
    hot = fit_structure(FitProblem(dataset(x, temperature * curved(x)), x, temperature=temperature), structure())
    cold = fit_structure(FitProblem(dataset(x, curved(x)), x), structure())
    np.testing.assert_allclose(hot.hyper.vector(), cold.hyper.vector(), rtol=1e-4, atol=1e-4)
    t = points(20, seed=1)
    models = [build(dataset(x, scale * curved(x)), x, p) for scale, p in ((temperature, hot), (1.0, cold))]
    np.testing.assert_allclose(models[0].smooth(t), models[1].smooth(t), rtol=1e-3, atol=1e-3)


def test_a_constant_in_the_data_moves_the_predictions_alone():
    x, t = points(), points(20, seed=1)
    plain, moved = (dataset(x, curved(x) + offset) for offset in (0.0, 1000.0))
    models = [build(data, x, fit_structure(FitProblem(data, x), structure())) for data in (plain, moved)]
    np.testing.assert_allclose(models[1].predict(t)[0] - 1000.0, models[0].predict(t)[0], atol=0.05)


# Exactness


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_quadratic_is_known_from_as_many_points_as_it_has_coefficients(d):
    """Where the posterior is: to a twentieth down to a depth of d + 6."""
    rng = np.random.default_rng(d)
    a = rng.standard_normal((d, d))
    precision = (a @ a.T / d + 0.3 * np.eye(d)) / 0.15**2

    def quadratic(x):
        return 7.0 - 0.5 * (((x - 0.45) @ precision) * (x - 0.45)).sum(1)

    x = rng.random((trend_size(d), d))
    data = dataset(x, quadratic(x))
    model = build(data, x, fit_structure(FitProblem(data, x), Structure.plain(np.zeros(d), np.ones(d))))
    t = 0.45 + rng.standard_normal((100, d)) @ np.linalg.cholesky(np.linalg.inv(precision)).T
    t = t[quadratic(t) > 7.0 - d - 6]
    np.testing.assert_allclose(model.predict(t)[0], quadratic(t), atol=0.05)


def test_the_trend_of_a_quadratic_is_its_depth():
    x, t = points(20), points(10, seed=1)
    y = -0.5 * (((x - 0.45) / [0.1, 0.2]) ** 2).sum(1)
    data = dataset(x, y)
    parameters = fit_structure(FitProblem(data, x), structure())
    assert parameters.exact
    depth = build(data, x, parameters).trend_depth(t)
    np.testing.assert_allclose(depth, 0.5 * (((t - 0.45) / [0.1, 0.2]) ** 2).sum(1), rtol=0.02, atol=0.02)


def test_there_is_no_depth_without_a_concave_trend():
    assert fitted("constant")[3].trend_depth(points(3)) is None
    assert fitted("compressed")[3].trend_depth(points(3)) is None
    x = points(20)
    data = dataset(x, 5 * (x**2).sum(1))
    assert build(data, x, fit_structure(FitProblem(data, x), structure())).trend_depth(points(3)) is None


# Infeasible and failed points


BAD = [
    pytest.param(-np.inf, id="infeasible"),
    pytest.param(np.nan, id="failed"),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_region_without_values_is_infeasible(bad):
    x = points(60)
    data = dataset(x, np.where(x[:, 0] > 0.6, bad, curved(x)))
    model = build(data, x, fit_structure(FitProblem(data, x), structure()))
    assert isinstance(model.feasibility, FeasibilityProcess)
    outside, inside = np.array([[0.9, 0.4]]), np.array([[0.45, 0.4]])
    with np.errstate(divide="ignore"):
        assert model.relative(outside) < model.smooth(outside) - 1
        np.testing.assert_allclose(model.relative(inside), model.smooth(inside), atol=0.7)
    assert np.isfinite(model.predict(outside)[0])


def test_deep_points_that_the_process_takes_for_noise_are_infeasible():
    """A cliff of a million nats beside a flat top: what the process says beyond it, feasibility denies."""
    x = points(60)
    data = dataset(x, np.where(x[:, 0] > 0.6, -1e6, curved(x)))
    hyper = Hyperparameters(np.log(0.1), np.log(0.3), np.zeros(2), np.log(0.5))
    whitening = Whitening(np.full(2, 0.5), 4.0 * np.eye(2), 0.25 * np.eye(2))
    blind = build(data, x, SurrogateParameters(hyper, whitening, structure(trend="constant"), 1.0, 60))
    deep = x[x[:, 0] > 0.65]
    assert blind.smooth(deep).max() > -14.0
    with np.errstate(divide="ignore"):
        assert np.mean(blind.relative(deep) < -14.0) > 0.9
        assert np.mean(np.isfinite(blind.relative(x[x[:, 0] < 0.5]))) > 0.95


def test_infeasible_points_do_not_change_the_process():
    x = points(30)
    y = np.where(np.arange(30) % 5 == 0, -np.inf, curved(x))
    with_them, without = dataset(x, y), dataset(x[np.isfinite(y)], y[np.isfinite(y)])
    t = points(10, seed=1)
    a = build(with_them, x, fit_structure(FitProblem(with_them, x), structure()))
    b = build(without, without.x, fit_structure(FitProblem(without, without.x), structure()))
    np.testing.assert_allclose(a.predict(t), b.predict(t), rtol=1e-9)


def test_known_noise_is_smoothed():
    """With an sd of 0.5 the mean at the data is nearer to the truth than the data; null: 5 standard errors."""
    rng, x = np.random.default_rng(0), points(80)
    quadratic = -0.5 * (((x - 0.45) / 0.2) ** 2).sum(1)
    data = dataset(x, quadratic + 0.5 * rng.standard_normal(80), noise=0.5)
    model = build(data, x, fit_structure(FitProblem(data, x), structure()))
    error = model.predict(x)[0] - quadratic
    assert np.sqrt((error**2).mean()) < 0.5 * 0.6
    assert np.mean(np.abs(error) < 5 * model.predict(x)[1] + 1e-6) == 1


def test_what_the_process_does_not_know_of_itself():
    """Nothing where the trend explains the data; else the sd covers the truth in the whole prior, far out too."""
    x = points()
    data = dataset(x, -200.0 * ((x - 0.4) ** 2).sum(1))
    found = fit_structure(FitProblem(data, x), structure())
    quadratic = build(data, x, replace(found, hyper=replace(found.hyper, log_amplitude=-5.0, log_shaping=-12.0)))
    assert quadratic.exact
    np.testing.assert_array_equal(quadratic.unseen_sd(points(50, seed=1)), 0.0)
    _, _, _, model = fitted("constant")
    t = points(300, seed=1)
    mean, sd = model.predict(t)
    error = np.abs(curved(t) - mean)
    assert (error < 3.0 * np.hypot(sd, model.unseen_sd(t))).mean() > 0.95
    far = np.array([[4.0, -3.0], [-5.0, 6.0]])
    assert (model.unseen_sd(far) > np.abs(model.predict(far)[0] - model.y_max)).all()
