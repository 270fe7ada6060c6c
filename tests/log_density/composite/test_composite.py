"""The surrogate of outputs: components against exact algebra, the push-forward against paths, numbers on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from surrogate.inference.setup import Setup
from surrogate.log_density.composite.comparison import CAUTION, GaussianComparison, GeneralComparison, comparison_of
from surrogate.log_density.composite.parameters import CompositeParameters
from surrogate.log_density.composite.reduction import Rows, reduce
from surrogate.log_density.model import ScalarLogDensity
from surrogate.log_density.restore import parameters_from_arrays
from surrogate.problem.dataset import Dataset
from surrogate.problem.gaussian_data import GaussianData
from surrogate.problem.observables import Observables
from surrogate.problem.target import Posterior
from surrogate.rng import generator

D, M = 2, 9
A = np.random.default_rng(0).standard_normal((M, D))
TEMPLATE = np.random.default_rng(1).standard_normal(M)
Y = np.random.default_rng(2).standard_normal(M)
C = 0.05 * np.eye(M) + 0.02
PRIOR = {"a": (-2.0, 2.0), "n": (-1.0, 1.0), "b": (-2.0, 2.0)}


def curved(x: np.ndarray) -> np.ndarray:
    return A @ x + 0.2 * np.sin(A[:, ::-1] @ x)


def learned(simulator: Any = curved, n: int = 18, **options: Any) -> tuple[Any, Posterior, Setup]:
    """A fitted surrogate, its target and setup: n points of the prior, of which one in the middle."""
    compare = options.pop("compare", GaussianData(Y, C, templates={"n": TEMPLATE}))
    posterior = Posterior(Observables(simulator, compare, ["a", "b"], **options), PRIOR)
    setup = Setup(posterior.prior, observables=posterior.observables)
    x = np.concatenate([np.zeros((1, 3)), 0.8 * posterior.prior.sample(n - 1, np.random.default_rng(3))])
    data = Dataset.empty(3).append(x, [posterior.evaluate(point) for point in x], 0)
    problem = setup.problem(data)
    parameters = setup.learner.fit(problem, None, cold_start=True, search=True, noise=False)
    return setup.learner.build(data, problem.t, parameters), posterior, setup


def by_hand(outputs: dict[str, Any] | np.ndarray, parameters: dict[str, Any]) -> np.ndarray:
    """The same comparison without a template, as a user may write it."""
    r = np.asarray(outputs) + np.asarray(parameters["n"])[:, None] * TEMPLATE - Y
    return -0.5 * np.einsum("mi,ij,mj->m", r, np.linalg.inv(C), r)


def test_components_give_back_the_log_likelihood_of_the_rows() -> None:
    model, _, _ = learned()
    known = model.output_data
    values = known.comparison.value(known.reduction.scores, known.x)
    assert np.allclose(values, known.data.y, atol=0.05)
    assert known.reduction.basis.T @ known.reduction.basis == pytest.approx(np.eye(model.parameters.size), abs=1e-12)


def test_gaussian_comparison_agrees_with_reconstructed_outputs() -> None:
    posterior = learned()[1]
    x = posterior.prior.sample(8, np.random.default_rng(4))
    outputs = np.array([curved(point[[0, 2]]) for point in x])
    layout = posterior.evaluate(x[0]).outputs.layout
    target = posterior.observables
    exact = comparison_of(target, reduce(Rows(target), x, outputs, layout, best=0), x[0])
    plain = Observables(curved, by_hand, ["a", "b"], vectorized=True).bound(target.names)
    reduction = reduce(Rows(plain), x, outputs, layout, best=0)
    general = comparison_of(plain, reduction, x[0])
    assert isinstance(exact, GaussianComparison)
    assert isinstance(general, GeneralComparison)
    z = reduce(Rows(target), x, outputs, layout, best=0).scores
    assert np.allclose(exact.value(z, x), general.value(reduction.scores, x), rtol=1e-9)
    assert np.allclose(reduction.outputs(reduction.scores), outputs, atol=1e-10)
    variance = np.full(reduction.scores.shape, 0.01)
    expansion = general.expansion(reduction.scores, variance, x)
    step = 1e-5 * np.eye(reduction.scores.shape[1])[0]
    slope = (general.value(reduction.scores + step, x) - general.value(reduction.scores - step, x)) / 2e-5
    assert np.allclose(expansion.slope[:, 0], slope, rtol=1e-4, atol=1e-4)


def test_expected_log_likelihood_against_an_average() -> None:
    comparison = learned()[0].comparison
    rng = np.random.default_rng(5)
    k = comparison.basis.shape[1]
    z, variance, x = 0.3 * rng.standard_normal((1, k)), rng.uniform(0.1, 0.5, (1, k)), np.zeros((1, 3))
    draws = z + np.sqrt(variance) * rng.standard_normal((200_000, k))
    values = comparison.value(draws, np.zeros((len(draws), 3)))
    top = values.max()
    expected = top + CAUTION * np.log(np.exp((values - top) / CAUTION).mean())
    assert comparison.expected(z, variance, x)[0] == pytest.approx(expected, abs=0.02)
    expansion = comparison.expansion(z, variance, x)
    assert expansion.mean(variance)[0] == pytest.approx(values.mean(), abs=6 * values.std() / 447)
    assert expansion.variance(variance)[0] == pytest.approx(values.var(), rel=0.03)


def test_prediction_and_paths_agree() -> None:
    model, posterior, setup = learned(n=9)
    t = setup.scaled.to_unit(0.7 * posterior.prior.sample(40, np.random.default_rng(6)))
    mean, sd = model.predict(t)
    paths = model.y_max + model.smooth(t) + model.deviations(t, 4000, generator(0, "paths"))
    assert np.abs((paths.mean(0) - mean) / (paths.std(0) / np.sqrt(4000))).max() < 5
    assert np.allclose(paths.std(0), sd, rtol=0.15)
    gram = model.covariance(t, np.ones(40))
    diagonal = gram.diag().numpy()
    assert np.allclose(diagonal, np.log1p(sd**2), rtol=1e-6)
    small = np.flatnonzero(sd < 0.3)
    if len(small) > 1:
        i, j = small[:2]
        assert float(gram.column(int(i))[j]) == pytest.approx(np.cov(paths[:, i], paths[:, j])[0, 1], abs=0.02)


def test_fast_parameters_need_no_points_and_are_exact() -> None:
    model, posterior, setup = learned(lambda x: A @ x)
    assert model.parameters.linear
    x = posterior.prior.sample(50, np.random.default_rng(7))
    expected = [posterior.evaluate(point).y for point in x]
    mean, sd = model.predict(setup.scaled.to_unit(x))
    assert np.abs(mean - expected).max() < 0.02
    assert sd.max() < 0.1
    assert model.whiten(setup.scaled.to_unit(x)).shape == (50, 2)


def test_left_out_rows_are_foreseen_where_the_simulator_is_smooth() -> None:
    model, _, _ = learned(lambda x: A @ x)
    depth = model.left_out_depth(model.output_data.data.y)
    assert np.allclose(depth, model.y_max - model.output_data.data.y)
    residual, sd = model.left_out()
    data = model.output_data
    k = 3
    keep = np.arange(len(data.x)) != k
    again = model.processes[0].group.family.condition(
        model.processes[0].gp.data.subset(np.flatnonzero(keep)), model.processes[0].group.hyper
    )
    u = model.processes[0].gp.u.numpy()[k : k + 1]
    predicted = np.atleast_1d(again.mean(u)[0])
    column = model.processes[0].group.columns[0]
    assert data.reduction.scores[k, column] - predicted[0] == pytest.approx(residual[k, column], rel=1e-4, abs=1e-5)
    assert (np.abs(residual / sd) < 5).all()


def test_general_comparison_learns_the_same_posterior() -> None:
    first, posterior, setup = learned()
    second, _, _ = learned(compare=by_hand, vectorized=True)
    t = setup.scaled.to_unit(0.5 * posterior.prior.sample(30, np.random.default_rng(8)))
    assert np.allclose(first.predict(t)[0], second.predict(t)[0], atol=0.3)


def test_logarithms_of_outputs() -> None:
    def growth(x: np.ndarray) -> np.ndarray:
        return np.exp(0.4 * A @ x)

    def compare(outputs: np.ndarray, parameters: dict[str, float]) -> float:  # noqa: ARG001
        return -50.0 * float(((outputs - 1.0) ** 2).sum())

    posterior = Posterior(Observables(growth, compare, ["a", "b"]), PRIOR)
    x = posterior.prior.sample(8, np.random.default_rng(9))
    outputs = np.array([growth(point[[0, 2]]) for point in x])
    target, layout = posterior.observables, posterior.evaluate(x[0]).outputs.layout
    reduction = reduce(Rows(target), x, outputs, layout, best=2, logs=frozenset({""}))
    assert reduction.scores.shape[1] == D  # the logarithms are linear: two components
    assert np.allclose(reduction.outputs(reduction.scores), outputs, rtol=1e-8)
    comparison = comparison_of(target, reduction, x[2])
    expected = [posterior.evaluate(point).y for point in x]
    assert np.allclose(comparison.value(reduction.scores, x), expected, rtol=1e-8)


def test_parameters_survive_a_file_bit_for_bit() -> None:
    model, posterior, setup = learned()
    arrays = model.parameters.to_arrays()
    back = parameters_from_arrays(arrays)
    assert isinstance(back, CompositeParameters)
    again = setup.learner.build(model.output_data.data, model.output_data.t, back)
    t = setup.scaled.to_unit(posterior.prior.sample(20, np.random.default_rng(10)))
    assert again.relative(t).tobytes() == model.relative(t).tobytes()
    assert all(back.to_arrays()[name].tobytes() == array.tobytes() for name, array in arrays.items())


def test_many_outputs_are_cheap() -> None:
    wide = np.random.default_rng(11).standard_normal((50_000, D))
    model, _, _ = learned(lambda x: wide @ x, n=10, compare=GaussianData(np.zeros(50_000), np.ones(50_000)))
    assert model.parameters.size == D


class Cosines:
    """A comparison that is declared to be smooth, and is not: it has as many modes as there are calls."""

    smooth = True

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, outputs: Any, parameters: Any) -> float:  # noqa: ARG002
        self.calls += 1
        return 0.5 * float(np.cos(100.0 * np.asarray(outputs)).sum())


def test_the_log_likelihood_is_learned_while_no_quadratic_describes_a_smooth_comparison() -> None:
    """The comparison is called for the quadratic, not at draws."""
    compare = Cosines()
    model, _, setup = learned(compare=compare)
    assert isinstance(model, ScalarLogDensity)
    calls = compare.calls
    assert calls < 8000  # of four ways to a quadratic, each with corrections
    t = np.random.default_rng(5).random((1000, 3))
    assert np.isfinite(model.predict(setup.scaled.to_unit(setup.prior.quantile(t)))[0]).all()
    assert compare.calls == calls


def test_a_smooth_comparison_that_is_a_quadratic_is_learned_by_its_outputs() -> None:
    class Smooth:
        smooth = True

        def __call__(self, outputs: Any, parameters: Any) -> float:
            r = np.asarray(outputs) + parameters["n"] * TEMPLATE - Y
            return -0.5 * float(r @ np.linalg.inv(C) @ r)

    model, _, _ = learned(compare=Smooth())
    assert not isinstance(model, ScalarLogDensity)
    assert not model.output_data.misses
