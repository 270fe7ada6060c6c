from dataclasses import replace

import numpy as np
import pytest

from surrogate.log_density.coordinates.warps import FOLDS, InputWarp
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Division, Structure, SurrogateParameters, trend_size
from surrogate.log_density.search.structure import StructureSearch, choose_structure, divided, foldable, neighbours
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation

SUPPORTS = {
    "box": (np.zeros(2), np.ones(2)),
    "half-lines": (np.array([0.0, -np.inf]), np.array([np.inf, 1.0])),
    "unbounded": (np.full(3, -np.inf), np.full(3, np.inf)),
}


def dataset(x, y):
    return Dataset.empty(x.shape[1]).append(x, [Evaluation(float(v), "ok") for v in y], 0)


def normal(x):
    return -0.5 * (((x - [0.4, 0.5]) / [0.1, 0.2]) ** 2).sum(1)


def skewed(x):
    """Normal in log x, near an edge of the box."""
    return -0.5 * ((np.log(x / [0.05, 0.1]) / 0.5) ** 2).sum(1)


def present(log_density, n=40):
    x = np.random.default_rng(0).random((n, 2)) * 0.9 + 0.01
    data = dataset(x, log_density(x))
    return data, x, fit_structure(FitProblem(data, x), Structure.plain(np.zeros(2), np.ones(2)))


@pytest.fixture(params=SUPPORTS)
def plain(request):
    return Structure.plain(*SUPPORTS[request.param])


def test_neighbours_are_all_different_and_admissible(plain):
    d = len(plain.warp.low)
    found = neighbours(plain, d, deepest=10.0)
    assert found
    for i, other in enumerate(found):
        assert not other.same(plain)
        assert not any(other.same(one) for one in found[:i])
        assert all(kind in other.warp.possible_kinds(j) for j, kind in enumerate(other.warp.kinds))


def test_every_structure_is_reached_and_left_again():
    """The plain one is a neighbour of each of its neighbours: nothing is a dead end."""
    plain = Structure.plain(*SUPPORTS["box"])
    for other in neighbours(plain, 2, deepest=10.0):
        if other.warp.kinds.all() or not other.warp.kinds.any():
            assert any(back.same(plain) for back in neighbours(other, 2, deepest=10.0))


def test_expansions_are_offered_to_shallow_data_alone():
    plain = Structure.plain(*SUPPORTS["box"])
    assert any(other.output < 0 for other in neighbours(plain, 2, deepest=10.0))
    assert not any(other.output < 0 for other in neighbours(plain, 2, deepest=1e4))


def test_same_means_the_same_choices():
    plain = Structure.plain(*SUPPORTS["box"])
    assert plain.same(Structure.plain(*SUPPORTS["box"]))
    for change in (
        {"kernel": "matern52"},
        {"trend": "constant"},
        {"output": 4.0},
        {"warp": InputWarp(np.array([0, 1]), *SUPPORTS["box"])},
    ):
        other = replace(plain, **change)
        assert not plain.same(other)
        assert other.cost >= plain.cost


def test_a_normal_posterior_keeps_the_plain_structure():
    data, x, before = present(normal)
    assert choose_structure(FitProblem(data, x), before) is before


def test_few_points_keep_the_present_structure():
    data, x, before = present(skewed, n=trend_size(2) - 1)
    assert choose_structure(FitProblem(data, x), before) is before


@pytest.fixture(scope="module")
def chosen():
    data, x, before = present(skewed)
    return before, choose_structure(FitProblem(data, x), before)


def test_a_skewed_posterior_is_given_a_warp(chosen):
    """A choice of another structure, whose score is higher."""
    before, after = chosen
    assert not after.structure.same(before.structure)
    assert after.score > before.score
    assert after.n == before.n


def test_a_choice_does_not_lower_the_score():
    for log_density in (lambda x: np.logaddexp(normal(x), normal(x - 0.4)), lambda x: -5 * np.abs(x - 0.5).sum(1)):
        data, x, before = present(log_density)
        assert choose_structure(FitProblem(data, x), before).score >= before.score


def regression(x):
    """Log-likelihood of 20 data on a line, whose slope, offset and noise sd are the parameters."""
    z = np.linspace(-1.0, 2.0, 20)
    y = 3.0 + 2.0 * z + np.sin(9.0 * z)
    return np.array([-20 * np.log(s) - 0.5 * ((y - a - b * z) ** 2).sum() / s**2 for a, b, s in x])


def test_divided_trend_is_exact_for_a_regression():
    """With no more values than it has coefficients and two, it predicts all others, which differ by 1e6 nats."""
    rng = np.random.default_rng(1)
    low, width = np.array([-100.0, -100.0, 0.0]), np.array([200.0, 200.0, 50.0])
    t = rng.random((60, 3)) * 0.98 + 0.01
    data, n = dataset(low + width * t, regression(low + width * t)), Division(2, -2).size(3) + 4
    problem = FitProblem(data.head(n), t[:n])
    found = choose_structure(problem, fit_structure(problem, Structure.plain(np.zeros(3), np.ones(3))))
    assert found.structure.division == Division(2, -2)
    assert found.exact
    error = build(data.head(n), t[:n], found).predict(t)[0] - data.y
    assert np.abs(error / (1.0 + data.y_max - data.y)).max() < 1e-3


def test_divided_trend_is_exact_for_a_hierarchy():
    """Effects with a mean and a spread as parameters, and data about each effect."""
    rng, d = np.random.default_rng(1), 6
    t = rng.random((90, d)) * 0.98 + 0.01
    x = np.concatenate([40.0 * t[:, :-1] - 20.0, 20.0 * t[:, -1:]], 1)
    effects, mean, spread = x[:, :4], x[:, 4:5], x[:, 5]
    y = -0.5 * (((effects - [3.0, 8.0, -3.0, 7.0]) / 10.0) ** 2).sum(1)
    y += -0.5 * ((effects - mean) ** 2).sum(1) / spread**2 - 4.0 * np.log(spread)
    data, n = dataset(x, y), Division(5, -2, axes=True).size(d) + 8
    problem = FitProblem(data.head(n), t[:n])
    found = choose_structure(problem, fit_structure(problem, Structure.plain(np.zeros(d), np.ones(d))))
    assert found.structure.division == Division(5, -2, axes=True)
    error = build(data.head(n), t[:n], found).predict(t)[0] - data.y
    assert np.abs(error / (1.0 + data.y_max - data.y)).max() < 0.05


def test_divisions_need_a_lower_bound_and_enough_values():
    free = Structure.plain(np.array([-np.inf, 0.0]), np.full(2, np.inf)).warp
    assert {s.division.parameter for s in divided(free, 100, StructureSearch())} == {1}
    assert not divided(free, Division(1, -2).size(2) + 1, StructureSearch())
    assert not divided(free, 100, StructureSearch(divisions=False))


def test_division_is_kept_in_arrays():
    x = np.random.default_rng(0).random((12, 2))
    warp = Structure.plain(np.zeros(2), np.ones(2)).warp.with_kinds(np.array([1, 0]))
    fitted = fit_structure(
        FitProblem(dataset(x, normal(x)), x), Structure("rbf", "quadratic", 0.0, warp, Division(0, -1))
    )
    assert SurrogateParameters.from_arrays(fitted.to_arrays()).structure.same(fitted.structure)


def even(x):
    """The same on both sides of 1/2 in the first parameter: two modes."""
    return -0.5 * (((np.abs(x[:, 0] - 0.5) - 0.3) / 0.05) ** 2 + ((x[:, 1] - 0.4) / 0.1) ** 2)


def test_a_likelihood_that_does_not_see_a_sign_is_folded():
    """Two modes become one that a quadratic explains exactly, also where nothing was evaluated."""
    data, x, plain = present(even)
    found = choose_structure(FitProblem(data, x), plain)
    assert found.structure.warp.kinds[0] in FOLDS
    assert found.structure.warp.kinds[1] not in FOLDS
    new = np.random.default_rng(3).random((100, 2))
    error = build(data, x, found).predict(new)[0] - even(new)
    assert np.median(np.abs(error)) < 0.1


def test_a_likelihood_of_one_mode_is_not_folded():
    for function in (normal, skewed):
        data, x, plain = present(function)
        kinds = choose_structure(FitProblem(data, x), plain).structure.warp.kinds
        assert not np.isin(kinds, FOLDS).any()


def test_folds_need_points_on_both_sides_and_no_forbidden_ones():
    x = np.random.default_rng(0).random((30, 2))
    x[:, 1] *= 0.4
    problem = FitProblem(dataset(x, normal(x)), x)
    warp = Structure.plain(np.zeros(2), np.ones(2)).warp
    assert foldable(problem, warp) == [0]
    data = dataset(x, normal(x)).append(np.array([[0.1, 0.1]]), [Evaluation(-np.inf, "infeasible")], 1)
    assert foldable(FitProblem(data, data.x), warp) == []
