"""Likelihoods that return gradients: their answers, their records, the chain rule through all warps, and whole runs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import surrogate
from surrogate.executors.files import FilesExecutor
from surrogate.gp.trended import Hyperparameters
from surrogate.inference.setup import Setup
from surrogate.log_density.coordinates.warps import InputWarp, OutputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.fit import _slope_offset, fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Structure, SurrogateParameters
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Parameter, Prior
from surrogate.problem.target import Posterior
from surrogate.storage.journal import Entry, Journal

BOX = {"a": (0.0, 1.0), "b": (0.0, 2.0)}


def posterior(function, **options):
    return Posterior(function, BOX, gradient=True, **options)


# Answers


@pytest.mark.parametrize(
    "answer",
    [
        (-1.0, np.array([0.5, 2.0])),
        (-1.0, [0.5, 2.0]),
        (np.array([-1.0]), {"gradient": np.array([0.5, 2.0])}),
        (-1.0, {"gradient": (0.5, 2.0)}),
    ],
)
def test_the_ways_to_answer(answer):
    evaluation = posterior(lambda x: answer).evaluate([0.1, 0.2])
    assert (evaluation.y, evaluation.gradient, evaluation.derived) == (-1.0, (0.5, 2.0), {})


def test_derived_values_stay_beside_the_gradient():
    evaluation = posterior(lambda a, b: (-1.0, {"gradient": [a, b], "c": 3.0})).evaluate([0.1, 0.2])
    assert evaluation.gradient == (0.1, 0.2)
    assert evaluation.derived == {"c": 3.0}


@pytest.mark.parametrize("answer", [-1.0, (-1.0, {"c": 3.0}), (-1.0, {"gradient": None}), (-1.0, [np.nan, 1.0])])
def test_a_gradient_may_be_missing(answer):
    evaluation = posterior(lambda x: answer).evaluate([0.1, 0.2])
    assert (evaluation.status, evaluation.y, evaluation.gradient) == ("ok", -1.0, ())


def test_an_impossible_point_has_no_gradient():
    evaluation = posterior(lambda x: (-np.inf, [0.0, 0.0])).evaluate([0.1, 0.2])
    assert (evaluation.status, evaluation.gradient) == ("infeasible", ())


@pytest.mark.parametrize("gradient", [[1.0], 1.0, [[1.0, 2.0]], ["x", "y"]])
def test_another_shape_is_a_failure_that_says_so(gradient):
    evaluation = posterior(lambda x: (-1.0, {"gradient": gradient})).evaluate([0.1, 0.2])
    assert evaluation.status == "failed"
    assert "the gradient must be numbers with shape (2,)" in evaluation.reason


def test_without_the_option_the_word_has_no_meaning():
    assert Posterior(lambda x: (-1.0, {"gradient": 3.0}), BOX).evaluate([0.1, 0.2]).derived == {"gradient": 3.0}


def test_many_points_at_once():
    x = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    plain = posterior(lambda x: (-x.sum(1), -x), vectorized=True).evaluate_many(x)
    rich = posterior(lambda x: (-x.sum(1), {"gradient": -x, "c": x[:, 0]}), vectorized=True).evaluate_many(x)
    without = posterior(lambda x: -x.sum(1), vectorized=True).evaluate_many(x)
    assert [e.gradient for e in plain] == [e.gradient for e in rich] == [tuple(-row) for row in x]
    assert [e.derived["c"] for e in rich] == list(x[:, 0])
    assert [e.y for e in without] == list(-x.sum(1))
    wrong = posterior(lambda x: (-x.sum(1), -x.T), vectorized=True).evaluate_many(x)
    assert all("with shape (3, 2)" in e.reason for e in wrong)


# Records


def test_a_dataset_keeps_gradients():
    data = Dataset.empty(2).append(np.zeros((1, 2)), [Evaluation(0.0, "ok")], 0)
    assert not data.has_gradients
    more = data.append(np.ones((1, 2)), [Evaluation(0.0, "ok", gradient=(1.0, 2.0))], 1)
    np.testing.assert_array_equal(more.gradient, [[np.nan, np.nan], [1.0, 2.0]])
    np.testing.assert_array_equal(Dataset.from_arrays(more.to_arrays()).gradient, more.gradient)
    assert not more.head(1).has_gradients


def test_datasets_of_former_versions_are_read():
    data = Dataset.empty(2).append(np.zeros((1, 2)), [Evaluation(0.0, "ok")], 0)
    arrays = {name: array for name, array in data.to_arrays().items() if name != "gradient"}
    assert np.isnan(Dataset.from_arrays(arrays).gradient).all()


def test_the_journal_keeps_gradients_and_reads_lines_without(tmp_path):
    journal = Journal(tmp_path / "evaluations.jsonl")
    evaluation = Evaluation(-1.0, "ok", gradient=(0.1, -2.0 / 3.0))
    journal.append(Entry(0, 0, np.zeros(2), evaluation))
    journal.append(Entry(0, 1, np.zeros(2), replace(evaluation, gradient=())))
    first, second = (json.loads(line) for line in journal.path.read_text().splitlines())
    assert "gradient" in first
    assert "gradient" not in second
    assert [record.evaluation for record in journal.read()] == [evaluation, replace(evaluation, gradient=())]


@pytest.mark.parametrize(
    ("answer", "gradient", "reason"),
    [
        ({"log_likelihood": -1.0, "gradient": [0.5, 2.0]}, (0.5, 2.0), ""),
        ({"log_likelihood": -1.0, "gradient": [0.5, 2.0], "derived": {"c": 1.0}}, (0.5, 2.0), ""),
        ({"log_likelihood": -1.0, "gradient": [0.5]}, (), "the gradient must be numbers with shape (2,)"),
        ({"log_likelihood": -1.0, "gradient": [0.5, 2.0], "noise": 1.0}, (), "not both"),
    ],
)
def test_answers_in_files(tmp_path, answer, gradient, reason):
    executor = FilesExecutor(tmp_path, posterior(lambda x: 0.0), pause=0.01)
    future = executor.submit(None, np.array([0.1, 0.2]))
    key = next((tmp_path / "ask").glob("*.json")).stem
    (tmp_path / "tell" / "new").write_text(json.dumps(answer))
    (tmp_path / "tell" / "new").rename(tmp_path / "tell" / f"{key}.json")
    evaluation = future.result(timeout=300)
    executor.shutdown()
    assert evaluation.gradient == gradient
    assert reason in evaluation.reason


# The chain rule


def smooth(t):
    """A log-density in three scaled coordinates and its gradient."""
    y = -3.0 * (t[:, 0] - 0.4) ** 2 + np.sin(2.0 * t[:, 1]) - t[:, 0] * t[:, 2] ** 2 - 8.0 * (t[:, 1] - 0.6) ** 2
    slopes = [
        -6.0 * (t[:, 0] - 0.4) - t[:, 2] ** 2,
        2.0 * np.cos(2.0 * t[:, 1]) - 16.0 * (t[:, 1] - 0.6),
        -2.0 * t[:, 0] * t[:, 2],
    ]
    return y, np.stack(slopes, 1)


def known(n=20, seed=0):
    t = 0.1 + 0.8 * np.random.default_rng(seed).random((n, 3))
    y, slope = smooth(t)
    evaluations = [Evaluation(v, "ok", gradient=tuple(g)) for v, g in zip(y, slope, strict=True)]
    return t, Dataset.empty(3).append(t, evaluations, 0)


def structure(kinds=(0, 0, 0), output=0.0, kernel="rbf"):
    return Structure(kernel, "quadratic", output, InputWarp(np.array(kinds), np.zeros(3), np.ones(3)))


@pytest.mark.parametrize(
    "choice",
    [structure(), structure((1, 2, 3)), structure(output=6.0), structure((3, 0, 1), -6.0, "matern52")],
    ids=["plain", "warped", "compressed", "all"],
)
def test_the_surrogate_has_the_gradients_that_it_was_told(choice):
    t, data = known()
    mixing = np.array([[1.0, 0.4, 0.0], [0.0, 1.0, -0.3], [0.2, 0.0, 1.0]])
    whitening = Whitening.of(choice.warp.forward(t) @ mixing)
    hyper = Hyperparameters(1.0, np.log(1e-6), np.zeros(3), 0.0)
    model = build(data, t, SurrogateParameters(hyper, whitening, choice, 2.0, len(t)))
    for i in range(5):
        above, below = (2.0 * model.bare_mean(t[i] + s * 1e-5 * np.eye(3)) for s in (1, -1))
        np.testing.assert_allclose((above - below) / 2e-5, data.gradient[i], atol=0.02)


@pytest.mark.parametrize("kinds", [(0, 0, 0), (1, 2, 3)])
def test_the_jacobian_of_the_gradients(kinds):
    """Of one point: the determinant of the map from its gradient to the derivatives in whitened coordinates."""
    t, data = known(6)
    choice = structure(kinds, output=6.0)
    parameters = SurrogateParameters(
        Hyperparameters.default(3, scale=1.0), Whitening.of(choice.warp.forward(t)), choice, 1.0, 6
    )
    warp = OutputWarp(choice.output)
    expected = 0.0
    for i in range(6):
        u = parameters.whitening.whiten(choice.warp.forward(t[i : i + 1]))
        du_dt = np.stack(
            [
                (parameters.whitening.whiten(choice.warp.forward(t[i : i + 1] + h)) - u)[0] / 1e-6
                for h in 1e-6 * np.eye(3)
            ]
        )
        y = smooth(t[i : i + 1])[0] - data.y_max
        dz_dy = (warp.forward(y + 1e-6) - warp.forward(y - 1e-6))[0] / 2e-6
        expected += 3.0 * np.log(dz_dy) - np.linalg.slogdet(du_dt)[1]
    assert _slope_offset(FitProblem(data, t), parameters) == pytest.approx(expected, abs=1e-3)


def test_gradients_make_a_better_surrogate():
    t, data = known(12)
    new, _ = known(200, seed=1)
    truth = smooth(new)[0]
    errors = []
    for told in (data, replace(data, gradient=np.full((12, 3), np.nan))):
        parameters = fit_structure(FitProblem(told, t), structure())
        model = build(told, t, parameters)
        errors.append(np.sqrt(np.mean((model.y_max + model.bare_mean(new) - truth) ** 2)))
    assert errors[0] < errors[1] / 4


# Whole runs


def gaussian(x):
    z = (x - np.array([0.3, 0.2, 0.1, 0.4])) / np.array([0.1, 0.2, 0.1, 0.3])
    return -0.5 * float(z @ z), -z / np.array([0.1, 0.2, 0.1, 0.3])


@pytest.mark.slow
def test_a_run_needs_fewer_evaluations_and_is_right():
    bounds, limits = [(-2.0, 2.0)] * 4, {"max_evaluations": 100, "n_samples": 2000, "progress": False}
    with_gradients = surrogate.infer(gaussian, bounds, gradient=True, seed=1, **limits)
    without = surrogate.infer(lambda x: gaussian(x)[0], bounds, seed=1, **limits)
    assert with_gradients.converged
    assert with_gradients.n_evaluations < 0.7 * without.n_evaluations
    exact = 0.5 * 4 * np.log(2 * np.pi) + np.log(0.1 * 0.2 * 0.1 * 0.3) - 4 * np.log(4.0)
    assert with_gradients.log_evidence == pytest.approx(exact, abs=0.05)
    assert np.allclose(with_gradients.mean, [0.3, 0.2, 0.1, 0.4], atol=0.03)


@pytest.mark.slow
def test_a_gaussian_in_sixteen_dimensions_takes_sixty_evaluations():
    rng = np.random.default_rng(3)
    root = np.linalg.qr(rng.standard_normal((16, 16)))[0] * np.exp(rng.uniform(-0.7, 0.7, 16))
    inverse, sd = np.linalg.inv(root @ root.T), np.sqrt((root**2).sum(1))
    centre = 3.0 * sd * rng.uniform(-1, 1, 16)

    def log_likelihood(x):
        slope = -inverse @ (x - centre)
        return 0.5 * float((x - centre) @ slope), slope

    bounds = np.stack([-10.0 * sd, 10.0 * sd], 1)
    result = surrogate.infer(log_likelihood, bounds, gradient=True, seed=1, max_evaluations=100, progress=False)
    exact = 8.0 * np.log(2 * np.pi) + np.linalg.slogdet(root)[1] - np.log(20.0 * sd).sum()
    assert result.converged
    assert result.n_evaluations <= 60
    assert result.log_evidence == pytest.approx(exact, abs=0.2)
    np.testing.assert_allclose(result.sd, sd, rtol=0.1)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path):
    bounds = [(-2.0, 2.0)] * 4
    options = {"gradient": True, "seed": 2, "progress": False, "n_samples": 200, "max_evaluations": 100}
    surrogate.infer(gaussian, bounds, output=tmp_path, **options | {"max_evaluations": 8})
    first = surrogate.infer(gaussian, bounds, output=tmp_path, **options)
    second = surrogate.infer(gaussian, bounds, **options)
    np.testing.assert_array_equal(first.data.x, second.data.x)
    np.testing.assert_array_equal(first.data.gradient, second.data.gradient)
    again = surrogate.load_result(tmp_path, n_samples=200)
    np.testing.assert_array_equal(again.predict(bounds[0][1] * np.ones(4))[0], first.predict(2.0 * np.ones(4))[0])


def test_the_predictor_knows_the_weights_of_gradients():
    result = surrogate.infer(
        lambda x: (-np.sum(np.cosh(3 * x)), -3 * np.sinh(3 * x)),
        [(-1.0, 1.0)] * 2,
        gradient=True,
        progress=False,
        n_samples=200,
        max_evaluations=12,
    )
    x = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    predictor = result.predictor()
    assert len(predictor.residual.slope_points) > 0
    np.testing.assert_allclose(predictor.log_likelihood(x), result.emulator.log_likelihood(x), rtol=1e-8)
    np.testing.assert_allclose([predictor(row) for row in x], result.emulator.log_likelihood(x), rtol=1e-8)


def test_periodic_parameters_are_refused():
    prior = Prior((Parameter("a", (0.0, 1.0)), Parameter("phi", (0.0, 6.0), periodic=True)))
    with pytest.raises(ValueError, match="periodic parameters, got phi"):
        Setup(prior, gradient=True)
    with pytest.raises(ValueError, match="periodic"):
        InputWarp(np.array([4]), np.zeros(1), np.ones(1)).slopes(np.zeros((1, 1)))
