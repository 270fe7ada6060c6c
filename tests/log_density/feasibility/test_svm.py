import numpy as np
import pytest
from sklearn.svm import SVC

from surrogate.log_density.feasibility import svm
from surrogate.log_density.feasibility.protocol import Everywhere
from surrogate.log_density.feasibility.svm import FeasibilityMachine, fit_least_squares, fit_machine
from tests.log_density.feasibility import regions

REGIONS = regions.REGIONS | {
    "band": lambda u: np.abs(u[:, 0] - u[:, 1] ** 2 / 2) < 1,
    "two islands": lambda u: np.minimum(((u - 1.5) ** 2).sum(1), ((u + 1.5) ** 2).sum(1)) < 1,
}


def points(n=150, d=2, *, seed=0):
    return regions.points(n, d, seed=seed)


@pytest.fixture(params=REGIONS, scope="module")
def case(request):
    u = points()
    feasible = REGIONS[request.param](u)
    return u, feasible, fit_machine(u, feasible)


def test_every_point_is_classified_correctly(case):
    u, feasible, machine = case
    np.testing.assert_array_equal(machine.margin(u) > 0, feasible)


def test_nearly_all_evaluated_points_are_certain(case):
    """Only points of both kinds side by side may lie between the margins, each on its own side."""
    u, feasible, machine = case
    p = machine.probability(u)
    assert np.mean(np.abs(p - feasible) < 0.01) > 0.97
    np.testing.assert_array_equal(p > 0.5, feasible)


def test_probability_rises_with_the_margin_from_zero_to_one(case):
    machine = case[2]
    x = points(500, seed=1)
    margin, p = machine.margin(x), machine.probability(x)
    order = np.argsort(margin)
    assert np.all(np.diff(p[order]) >= 0)
    assert np.all((p >= 0) & (p <= 1))
    np.testing.assert_array_equal(p[margin >= 1], 1.0)
    np.testing.assert_array_equal(p[margin <= -1], 0.0)
    np.testing.assert_allclose(p[np.abs(margin) < 1], 0.5 * (1 + margin[np.abs(margin) < 1]))


def test_margin_is_the_decision_function_of_scikit_learn(case):
    u, feasible, machine = case
    theirs = SVC(C=1e5, gamma=machine.gamma, tol=1e-4).fit(u, feasible)
    x = points(100, seed=2)
    np.testing.assert_allclose(machine.margin(x), theirs.decision_function(x), rtol=1e-6, atol=1e-2)


@pytest.mark.parametrize("name", ["half plane", "disc", "outside of a disc"])
def test_new_points_of_a_smooth_region_are_told_apart(name):
    u, x = points(300), points(2000, seed=3)
    machine = fit_machine(u, REGIONS[name](u))
    assert np.mean((machine.margin(x) > 0) == REGIONS[name](x)) > 0.95


def test_points_near_the_boundary_get_a_chance():
    u = np.array([[-1.0, 0.0], [-1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    machine = fit_machine(u, u[:, 0] < 0)
    p = machine.probability(np.array([[-1.0, 0.5], [0.0, 0.5], [1.0, 0.5]]))
    assert p[0] == pytest.approx(1.0, abs=0.05)
    assert 0.3 < p[1] < 0.7
    assert p[2] == pytest.approx(0.0, abs=0.05)


def test_with_feasible_points_alone_everything_is_feasible():
    machine = fit_machine(points(), np.ones(150, dtype=bool))
    assert isinstance(machine, Everywhere)
    np.testing.assert_array_equal(machine.probability(points(7)), np.ones(7))
    np.testing.assert_array_equal(machine.margin(points(7)), np.full(7, np.inf))


def test_a_machine_needs_a_feasible_point():
    with pytest.raises(ValueError, match="at least one feasible point"):
        fit_machine(points(), np.zeros(150, dtype=bool))


def test_failures_by_chance_are_overruled():
    """One failed evaluation in the middle of good ones makes no hole."""
    u = points(100, seed=4)
    u[0] = 0.0
    feasible = np.ones(100, dtype=bool)
    feasible[0] = False
    machine = fit_machine(u, feasible, doubtful=~feasible)
    assert machine.probability(np.zeros((1, 2)))[0] > 0.9


def test_failures_of_a_region_are_believed():
    u = points(200, seed=5)
    feasible = u[:, 0] < 0
    machine = fit_machine(u, feasible, doubtful=~feasible)
    far = u[np.abs(u[:, 0]) > 1]
    assert np.mean((machine.margin(far) > 0) == (far[:, 0] < 0)) > 0.95


def test_the_machine_does_not_depend_on_the_order_of_the_points():
    u = points()
    feasible = REGIONS["disc"](u)
    order = np.random.default_rng(6).permutation(len(u))
    a, b = fit_machine(u, feasible), fit_machine(u[order], feasible[order])
    x = points(200, seed=7)
    assert isinstance(a, FeasibilityMachine)
    np.testing.assert_allclose(a.margin(x), b.margin(x), atol=0.02)


def test_the_global_generator_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    fit_machine(points(), REGIONS["disc"](points()))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_paths_have_the_probability_of_the_machine():
    """Frequencies of 4000 paths, to 5 standard errors."""
    u, x = points(), points(40, seed=6)
    machine = fit_machine(u, REGIONS["disc"](u))
    paths = np.exp(machine.deviations(x, 4000, np.random.default_rng(1)))
    p = machine.probability(x)
    assert np.all(np.abs((paths > 0).mean(0) - p) <= 5 * np.sqrt(p * (1 - p) / 4000))
    np.testing.assert_allclose(paths.mean(0)[p > 0.05], 1.0, atol=5 * np.sqrt(20 / 4000))


def test_paths_of_neighbours_agree():
    u = points()
    machine = fit_machine(u, u[:, 0] < 0)
    line = np.column_stack([np.linspace(-1, 1, 2001), np.zeros(2001)])
    x = line[np.argsort(np.abs(machine.margin(line)))[:2]]
    feasible = np.isfinite(machine.deviations(x, 500, np.random.default_rng(2)))
    assert 0.1 < feasible.mean() < 0.9
    assert (feasible[:, 0] == feasible[:, 1]).mean() > 0.95


def test_a_least_squares_machine_is_its_linear_system():
    """(K + I) a = y - b with 1.a = 0, solved in full."""
    u = points(60)
    feasible = REGIONS["disc"](u)
    machine = fit_least_squares(u, feasible)
    K = np.exp(-machine.gamma * ((u[:, None] - u) ** 2).sum(-1))
    system = np.block([[K + np.eye(60), np.ones((60, 1))], [np.ones((1, 60)), np.zeros((1, 1))]])
    a = np.linalg.solve(system, np.append(np.where(feasible, 1.0, -1.0), 0.0))
    np.testing.assert_allclose(machine.weights, a[:-1], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(machine.margin(points(20, seed=4)), system_margin(machine, u, a, points(20, seed=4)))


def system_margin(machine, u, a, x):
    return np.exp(-machine.gamma * ((x[:, None] - u) ** 2).sum(-1)) @ a[:-1] + a[-1]


@pytest.mark.parametrize("name", ["half plane", "disc"])
def test_many_points_are_left_to_the_least_squares_machine(name, monkeypatch):
    """New points are classified correctly in 19 of 20 cases, as by libsvm."""
    monkeypatch.setattr(svm, "_MOST_FOR_LIBSVM", 400)
    u, x = points(500, seed=8), points(500, seed=9)
    machine = fit_machine(u, REGIONS[name](u))
    assert len(machine.support) == 500
    assert np.mean((machine.margin(x) > 0) == REGIONS[name](x)) > 0.95
    assert len(fit_machine(u[:400], REGIONS[name](u[:400])).support) < 400
