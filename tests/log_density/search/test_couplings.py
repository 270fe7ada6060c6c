"""The couplings of chains and funnels are found from little more data than a quadratic needs, others are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.solvers.cholesky import with_input_slopes
from surrogate.gp.trended import Hyperparameters, Movable, Trended
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Structure
from surrogate.log_density.remainder import remainder
from surrogate.log_density.search.couplings import (
    Misfit,
    choose_couplings,
    coupling_sets,
    couplings_of_one_mode,
    fit_to_one_mode,
)
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation


def funnel(x):
    return -0.5 * (x[:, 0] / 1.5) ** 2 - 0.5 * (x[:, 1:] ** 2).sum(1) * np.exp(-x[:, 0]) - 1.5 * x[:, 0]


def chain(x):
    return -0.5 * ((x[:, 0] - 1) / 0.7) ** 2 - 0.5 * (((x[:, 1:] - 0.3 * x[:, :-1] ** 2) / 0.45) ** 2).sum(1)


def ring(x):
    return -0.5 * ((np.sqrt((x**2).sum(1)) - 2.0) / 0.3) ** 2


def near(function, n, d, seed, width):
    """Points of which most lie within 20 of the maximum."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.5, width, (40 * n, d))
    y = function(x)
    depth = y.max() - y
    good, far = np.flatnonzero(depth < 20.0), np.flatnonzero((depth >= 20.0) & (depth < 200.0))
    x = x[np.concatenate([good[: n - n // 5], far[: n // 5]])]
    return x, function(x)


def frame_of(x, y):
    best = x[np.argsort(-y)[: len(x) // 2]]
    return Couplings.none(best.mean(0), np.diag(1.0 / best.std(0)))


CASES = {
    "funnel": (funnel, 32, 4, {("scale", 0, 1), ("scale", 0, 2), ("scale", 0, 3)}),
    "chain": (chain, 60, 5, {("bend", 0, 1), ("bend", 1, 2), ("bend", 2, 3), ("bend", 3, 4)}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_right_couplings_leave_rounding(case, seed):
    function, n, d, expected = CASES[case]
    x, y = near(function, n, d, seed, 1.2)
    last = list(coupling_sets(x, y.max() - y, [frame_of(x, y)], np.ones(d, dtype=bool)))[-1]
    weight = 1.0 / (1.0 + 0.4 * (y.max() - y))
    misfit = Misfit.of(last, x, (y - y.max()) * weight, weight)
    assert misfit.exact
    assert expected <= set(last.pairs)


def test_coordinates_that_are_not_free_are_left_alone():
    x, y = near(funnel, 40, 4, 1, 1.2)
    free = np.array([False, True, True, True])
    for couplings in coupling_sets(x, y.max() - y, [frame_of(x, y)], free):
        assert all(0 not in pair[1:] for pair in couplings.pairs)


def test_steps_never_raise_the_misfit():
    x, y = near(chain, 50, 4, 3, 1.2)
    start = Misfit.of(frame_of(x, y), x, y - y.max(), np.ones(len(x)))
    one = start.polished(start.couplings.only([("bend", 0, 1)]))
    two = one.polished(one.couplings.only([("bend", 0, 1), ("bend", 1, 2)]))
    assert two.value < one.value < start.value


def test_the_slope_is_that_of_the_quadratic():
    x, y = near(chain, 50, 3, 3, 1.2)
    couplings = frame_of(x, y)
    z = couplings.forward(x)
    misfit = Misfit.of(couplings, x, z[:, 0] ** 2 - z[:, 0] * z[:, 1] + 3.0 * z[:, 2], np.ones(len(x)))
    expected = np.stack([2.0 * z[:, 0] - z[:, 1], -z[:, 0], np.full(len(z), 3.0)], 1)
    np.testing.assert_allclose(misfit.slope, expected, atol=1e-6)


def dataset(x, y):
    return Dataset.empty(x.shape[1]).append(x, [Evaluation(float(v), "ok") for v in y], 0)


def plain(d):
    return Structure.plain(np.full(d, -np.inf), np.full(d, np.inf))


def test_a_funnel_becomes_a_gaussian():
    x, y = near(funnel, 34, 4, 1, 1.2)
    cloud = x[np.argsort(-y)[:15]]
    present = fit_structure(FitProblem(dataset(x, y), x, cloud), plain(4))
    better = choose_couplings(FitProblem(dataset(x, y), x, cloud), present)
    new = np.random.default_rng(9).normal(0.0, 1.0, (200, 4))
    new = new[funnel(new) > y.max() - 12.0]
    error = [np.abs(build(dataset(x, y), x, p).predict(new)[0] - funnel(new)) for p in (present, better)]
    assert np.median(error[1]) < 0.05 < np.median(error[0])
    assert better.score > present.score + 30.0


def test_a_ring_stays_a_ring():
    x, y = near(ring, 40, 3, 1, 1.5)
    present = fit_structure(FitProblem(dataset(x, y), x, x), plain(3))
    assert choose_couplings(FitProblem(dataset(x, y), x, x), present) is present


def test_noisy_values_are_left_alone():
    x, y = near(funnel, 34, 4, 1, 1.2)
    noisy = Dataset.empty(4).append(x, [Evaluation(float(v), "ok", {}, 0.5) for v in y], 0)
    present = fit_structure(FitProblem(noisy, x, x), plain(4))
    assert choose_couplings(FitProblem(noisy, x, x), present) is present


def test_too_few_points_decide_nothing():
    x, y = near(funnel, 18, 4, 1, 1.2)
    present = fit_structure(FitProblem(dataset(x, y), x, x), plain(4))
    assert choose_couplings(FitProblem(dataset(x, y), x, x), present) is present


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_slopes_with_respect_to_inputs_are_those_of_finite_differences(kernel):
    rng = np.random.default_rng(0)
    recipe, u, y = Trended(kernel, Polynomial("quadratic")), rng.standard_normal((16, 3)), rng.standard_normal(16)
    theta, h = np.array([0.1, -3.0, 0.3, 0.5, 0.8, 0.2]), 1e-6

    def value(inputs):
        return recipe.negative_log_evidence(Data.of(inputs, y, depth=np.abs(y)), theta)

    hyper = Hyperparameters.of(theta, 3)
    found = with_input_slopes(recipe.process(hyper), Data.of(u, y, depth=np.abs(y)), hyper.of_process())
    plain_value, gradient, slopes = found[0], found[1][hyper.order], found[2]
    assert plain_value == pytest.approx(value(u)[0], rel=1e-12)
    np.testing.assert_allclose(gradient, value(u)[1], rtol=1e-9)
    for place in ((3, 1), (7, 2), (0, 0)):
        step = np.zeros_like(u)
        step[place] = h
        assert slopes[place] == pytest.approx((value(u + step)[0] - value(u - step)[0]) / (2 * h), rel=1e-4)


def test_the_gradient_of_a_movable_set_is_that_of_finite_differences():
    rng = np.random.default_rng(1)
    w, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    couplings = Couplings.none(np.zeros(3), np.eye(3)).only([("bend", 0, 1), ("scale", 0, 2)])
    data = Movable(
        lambda c: Data.of(couplings.at(c).forward(w), y, depth=np.abs(y)),
        lambda c, slopes: couplings.at(c).jacobian(w, slopes).sum(0),
        np.array([0.2, 0.3, -0.1]),
        np.array([2, 5, 11]),
    )
    theta = np.array([0.1, -3.0, 0.3, 0.5, 0.8, 0.2])
    hyper, x = Hyperparameters.of(theta, 3), np.concatenate([theta, data.start])
    process, order = Trended("rbf", Polynomial("quadratic")).process(hyper), hyper.order
    _, gradient = data.objective(process, order, x)
    h = 1e-6 * np.eye(len(x))
    ends = [[data.objective(process, order, x + s * e)[0] for s in (1, -1)] for e in h]
    numeric = [(above - below) / 2e-6 for above, below in ends]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)


def test_a_structure_knows_its_couplings():
    couplings = Couplings.none(np.zeros(3), np.eye(3)).only([("bend", 0, 1), ("scale", 0, 2)])
    alone = InputWarp(np.zeros(3, dtype=np.int64), np.zeros(3), np.ones(3))
    bare, with_them = (Structure("rbf", "quadratic", 0.0, warp) for warp in (alone, alone.with_couplings(couplings)))
    assert with_them.cost == bare.cost + 9.0
    assert not with_them.same(bare)
    assert with_them.same(
        Structure("rbf", "quadratic", 0.0, alone.with_couplings(couplings.at(np.array([1.0, 2.0, 3.0]))))
    )


STRAIGHT, BENT = (
    np.array([0.3, 0.5, 0.5, 0.6]),
    np.array([0.75, 0.55, 0.35, 0.45]),
)  # centres of two modes, 4 parameters


def bent_modes(t, strength=-5.0):
    """Log-likelihoods of the main mode and of another one, both bent by t_1 + 5 (t_3 - 1/2)^2, with shape (2, n)."""
    s = t.copy()
    s[:, 1] -= strength * (t[:, 3] - 0.5) ** 2
    wide = -0.5 * (((s - BENT) / [0.08, 0.06, 0.09, 0.1]) ** 2).sum(1)
    return np.stack([wide, 0.3 - 0.5 * (((s - STRAIGHT) / 0.06) ** 2).sum(1)])


def around_bent_modes(seed, n_main=30, n_far=14):
    """Points about the main mode, and points anywhere, of which some are those of the other mode."""
    rng = np.random.default_rng(seed)
    s = BENT + 1.3 * np.array([0.08, 0.06, 0.09, 0.1]) * rng.standard_normal((n_main, 4))
    s[:, 1] -= 5.0 * (s[:, 3] - 0.5) ** 2
    t = np.concatenate([s, rng.random((n_far, 4))])
    return t, np.logaddexp.reduce(bent_modes(t))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_bend_of_a_mode_is_found_beside_values_of_another(seed):
    t, y = around_bent_modes(seed)
    foreign = np.diff(bent_modes(t), axis=0)[0] > 0.0  # the other mode is the higher one
    assert foreign.sum() >= 2
    frame = frame_of(t, y)
    assert not any(
        Misfit.of(sets, t, y - y.max(), np.ones(len(t))).exact
        for sets in coupling_sets(t, y.max() - y, [frame], np.ones(4, dtype=bool))
    )
    found = couplings_of_one_mode(t, y - y.max(), [frame], np.ones(4, dtype=bool))
    assert ("bend", 3, 1) in found.pairs
    left = remainder(found.forward(t), y - y.max())
    assert left.error < 1e-6
    assert left.hints[foreign].all()
    hints = left.log_likelihood[left.hints]
    np.testing.assert_allclose(hints, bent_modes(t)[1, left.hints] - y.max(), atol=0.02)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_mode_that_is_not_bent_takes_no_couplings(seed):
    rng = np.random.default_rng(seed)
    t = rng.normal(0.5, 0.2, (40, 4))
    modes = [-0.5 * (((t - 0.4) / 0.1) ** 2).sum(1), -0.5 * (((t - 0.8) / 0.08) ** 2).sum(1)]
    y = np.logaddexp(*modes)
    assert couplings_of_one_mode(t, y - y.max(), [frame_of(t, y)], np.ones(4, dtype=bool)) is None


def test_no_couplings_of_one_mode_explain_noise():
    rng = np.random.default_rng(4)
    t = rng.random((50, 4))
    y = -np.abs(rng.standard_normal(50)) * 10.0
    assert couplings_of_one_mode(t, y - y.max(), [frame_of(t, y)], np.ones(4, dtype=bool)) is None


def test_couplings_that_left_the_mode_are_fitted_to_it_again():
    t, y = around_bent_modes(1)
    frame = frame_of(t, y)
    right = couplings_of_one_mode(t, y - y.max(), [frame], np.ones(4, dtype=bool))
    moved = right.at(right.vector * 1.02)
    criterion, again = fit_to_one_mode(moved, t, y - y.max())
    assert criterion < 2.0 * np.log(1e-6)
    np.testing.assert_allclose(again.vector, right.vector, rtol=1e-3, atol=1e-4)
