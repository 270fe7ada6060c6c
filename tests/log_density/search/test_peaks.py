"""Several peaks are chosen where they explain the values, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Structure, SurrogateParameters
from surrogate.log_density.peaks import Peaks
from surrogate.log_density.search.peaks import choose_peaks, with_peaks_of
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.samplers.mixture import Mixture

D = 2
TWO = Mixture(np.array([0.3, 0.7]), np.array([[0.25, 0.3], [0.7, 0.6]]), np.stack([0.08 * np.eye(D)] * 2))


def dataset(t, y, noise=0.0):
    return Dataset.empty(D).append(t, [Evaluation(value, "ok", noise=noise) for value in y], 0)


def problem_of(mixture, each, *, noise=0.0, temperature=1.0):
    rng = np.random.default_rng(0)
    draws = mixture.sample(400, rng)
    first = mixture.responsibilities(draws).argmax(1)
    near = np.concatenate([draws[first == k][:n] for k, n in enumerate(each)])
    t = np.concatenate([near, rng.random((8, D))])
    y = mixture.log_density(t)
    return FitProblem(dataset(t, y, noise), t, draws, temperature)


def fitted(problem):
    return fit_structure(problem, Structure.plain(np.zeros(D), np.ones(D)))


@pytest.fixture(scope="module")
def chosen():
    problem = problem_of(TWO, (9, 9))
    return problem, choose_peaks(problem, fitted(problem))


def test_two_gaussians_are_explained_exactly(chosen):
    problem, parameters = chosen
    assert parameters.exact
    assert len(parameters.structure.peaks) == 2
    t = TWO.sample(200, np.random.default_rng(1))
    mean, sd = build(problem.data, problem.t, parameters).predict(t)
    np.testing.assert_allclose(mean, TWO.log_density(t), atol=0.02)
    assert (sd < 0.1).all()


def test_saved_parameters_give_the_same_surrogate(chosen):
    problem, parameters = chosen
    again = SurrogateParameters.from_arrays(parameters.to_arrays())
    t = np.random.default_rng(1).random((20, D))
    expected = build(problem.data, problem.t, parameters).mean(t)
    np.testing.assert_array_equal(build(problem.data, problem.t, again).mean(t), expected)


def test_left_out_values_are_those_of_a_fit_without_them(chosen):
    problem, parameters = chosen
    row, data = 3, problem.data
    model = build(data, problem.t, parameters)
    others = np.arange(len(data)) != row
    less = build(dataset(problem.t[others], data.y[others]), problem.t[others], replace(parameters, n=len(data) - 1))
    expected = data.y_max - less.mean(problem.t[row : row + 1])
    np.testing.assert_allclose(model.left_out_depth(data.y)[row], expected, atol=1e-4)


def test_one_gaussian_needs_no_peaks():
    one = Mixture(np.ones(1), np.full((1, D), 0.5), 0.1 * np.eye(D)[None])
    problem = problem_of(one, (20,))
    present = fitted(problem)
    assert choose_peaks(problem, present) is present


@pytest.mark.parametrize(("each", "some"), [((9, 2), True), ((2, 9), True), ((9, 0), False), ((5, 5), False)])
def test_all_peaks_but_one_must_be_known(each, some):
    problem = problem_of(TWO, each)
    problem = replace(problem, data=problem.data.head(sum(each)), t=problem.t[: sum(each)])
    structure = Structure(
        "rbf", "quadratic", 0.0, InputWarp.identity(np.zeros(D), np.ones(D)), peaks=Peaks.of_mixture(TWO)
    )
    assert (with_peaks_of(problem, structure).peaks is not None) == some


@pytest.mark.parametrize("change", [{"temperature": 3.0}, {"noise": 0.5}])
def test_there_are_none_with_noise_or_while_a_posterior_is_looked_for(change):
    problem = problem_of(TWO, (9, 9), **change)
    present = fitted(problem)
    assert choose_peaks(problem, present) is present


def test_peaks_are_given_up_at_a_raised_temperature(chosen):
    problem, parameters = chosen
    assert with_peaks_of(problem, parameters.structure).peaks is not None
    assert with_peaks_of(replace(problem, temperature=2.0), parameters.structure).peaks is None
