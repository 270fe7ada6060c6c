"""The surrogate with levels: which of them share a process, and agreement with surrogates of one level."""

import numpy as np
import pytest

from surrogate.log_density.learner import ScalarLearner
from surrogate.log_density.mixed.learner import MixedLearner, partitions
from surrogate.log_density.mixed.parameters import GroupParameters, MixedParameters
from surrogate.log_density.parameters import Structure
from surrogate.log_density.restore import parameters_from_arrays
from surrogate.log_density.search.structure import StructureSearch
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior

PRIOR = Prior.of({"kind": {"categories": ["a", "b"]}, "x": (0, 1), "y": (0, 1)})
OPTIONS = {"cold_start": True, "search": True, "noise": False}


def learner(prior=PRIOR):
    low, high = prior.bounds.T
    return MixedLearner(prior.levels, low, high, prior.periodic, StructureSearch(couplings=False))


def problem(function, n, *, prior=PRIOR, seed=0):
    x = prior.sample(n, np.random.default_rng(seed))
    x[:, prior.levels.columns] = prior.levels.codes[np.arange(n) % len(prior.levels)]
    evaluations = [Evaluation(float(function(*row)), "ok", {}, 0.0, "", 0.0, "") for row in x]
    return FitProblem(Dataset.empty(prior.d).append(x, evaluations, 0), x)


def shifted(kind, x, y):
    """One shape for both categories, at other places and of other height."""
    u, v = (x - 0.5 - 0.1 * kind) / 0.1, (y - 0.4 + 0.05 * kind) / 0.15
    return -0.5 * (u * u + v * v + 0.5 * u * v) - 0.7 * kind


def different(kind, x, y):
    """A peak in x alone, and one of quite another shape."""
    if kind == 0.0:
        return -0.5 * ((x - 0.5) / 0.1) ** 2 - 2.0 * ((x - 0.5) / 0.1) ** 4 / 50.0
    return -0.5 * (((x - 0.5) / 0.25) ** 2 + ((y - x) / 0.05) ** 2) - 3.0


def fitted(function, n, steps=2, prior=PRIOR):
    given, before = problem(function, n, prior=prior), None
    for _ in range(steps):
        before = learner(prior).fit(given, before, **OPTIONS)
    return given, before


def test_partitions_are_all_together_by_each_parameter_and_apart():
    levels = Prior.of({"k": {"categories": ["a", "b"]}, "n": {"integers": (0, 2)}, "x": (0, 1)}).levels
    sizes = [sorted(map(len, groups)) for groups in partitions(levels)]
    assert sizes == [[6], [3, 3], [2, 2, 2], [1] * 6]
    for groups in partitions(levels):
        np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(6))


def test_levels_of_one_shape_share_a_process_that_few_points_determine():
    given, parameters = fitted(shifted, 18)
    assert len(parameters.groups) == 1
    model = learner().build(given.data, given.t, parameters)
    test = problem(shifted, 200, seed=1)
    near = test.data.y > -8.0
    assert np.abs(model.predict(test.t)[0] - test.data.y)[near].max() < 0.3


def test_levels_of_different_shape_have_processes_of_their_own_and_leave_out_what_has_no_effect():
    given, parameters = fitted(different, 60)
    assert [group.members.tolist() for group in parameters.groups] == [[0], [1]]
    assert parameters.groups[0].columns.tolist() == [1]
    assert parameters.groups[1].columns.tolist() == [1, 2]


def test_a_group_of_one_level_is_the_scalar_surrogate_of_its_points():
    given = problem(shifted, 40)
    apart = []
    for level in range(2):
        mine = given.data.x[:, 0] == level
        plain = ScalarLearner(Structure.plain(np.zeros(2), np.ones(2)))
        own = FitProblem(given.data.where(mine), given.t[mine][:, 1:])
        apart.append((plain.fit(own, None, cold_start=True, search=False, noise=False), own, plain))
    groups = tuple(GroupParameters(np.array([i]), np.array([1, 2]), one) for i, (one, _, _) in enumerate(apart))
    whitening = apart[0][0].whitening
    model = learner().build(given.data, given.t, MixedParameters(groups, whitening, 40))
    for level, (parameters, own, plain) in enumerate(apart):
        alone = plain.build(own.data, own.t, parameters)
        t = np.random.default_rng(5).random((20, 2))
        full = PRIOR.levels.points(t, level)
        np.testing.assert_allclose(model.predict(full)[0], alone.predict(t)[0], rtol=1e-12)
        np.testing.assert_allclose(model.predict(full)[1], alone.predict(t)[1], rtol=1e-12)
        np.testing.assert_array_equal(model.mean(full), model.predict(full)[0])
        np.testing.assert_allclose(model.relative(full), alone.relative(t) + alone.y_max - model.y_max, atol=1e-11)
        part = model.at_level(level, alone.y_max)
        np.testing.assert_allclose(part.smooth(t), alone.smooth(t), atol=1e-11)
        y = own.data.y
        np.testing.assert_allclose(part.left_out_depth(y), alone.left_out_depth(y), atol=1e-9)


@pytest.mark.parametrize("function", [shifted, different])
def test_covariance_is_that_of_paths(function):
    given, parameters = fitted(function, 40)
    model = learner().build(given.data, given.t, parameters)
    t = PRIOR.sample(6, np.random.default_rng(2))
    gram = model.covariance(t, np.ones(6))
    matrix = np.stack([gram.column(i).numpy() for i in range(6)], 1)
    np.testing.assert_allclose(np.diag(matrix), gram.diag().numpy(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(np.sqrt(np.diag(matrix)), model.predict(t)[1], rtol=1e-4, atol=1e-6)
    paths = model.deviations(t, 4000, np.random.default_rng(3))
    scale = np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    assert (np.abs(np.cov(paths.T) - matrix) < 6.0 * scale / np.sqrt(4000)).all()


def test_arrays_define_it_exactly():
    given, parameters = fitted(different, 60)
    again = parameters_from_arrays(parameters.to_arrays())
    t = PRIOR.sample(10, np.random.default_rng(4))
    first, second = (learner().build(given.data, given.t, p).predict(t) for p in (parameters, again))
    np.testing.assert_array_equal(first, second)
    assert again.searched == parameters.searched == 60


def test_left_out_depths_are_in_the_order_of_the_data():
    given, parameters = fitted(different, 60)
    model = learner().build(given.data, given.t, parameters)
    depth = given.data.y_max - given.data.y
    found = model.left_out_depth(given.data.y)
    near = depth < 5.0
    assert np.median(np.abs(found - depth)[near]) < 1.0


def test_parameters_of_another_run_are_refused():
    with pytest.raises(TypeError, match="needs MixedParameters"):
        learner().fit(problem(shifted, 10), object(), **OPTIONS)


def test_it_cannot_be_exported():
    given, parameters = fitted(shifted, 18, steps=1)
    with pytest.raises(ValueError, match=r"use result\.predict"):
        learner().build(given.data, given.t, parameters).predictor(("kind", "x", "y"), PRIOR.bounds, 0.0, 1.0)
