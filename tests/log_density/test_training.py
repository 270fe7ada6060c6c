import numpy as np
import pytest

from surrogate.log_density.parameters import trend_size
from surrogate.log_density.training import FitProblem, far, thinned, visible
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation


def gaussian(n, d, *, spread=0.3, seed=0):
    t = np.clip(0.5 + spread * np.random.default_rng(seed).standard_normal((n, d)), 0.0, 1.0)
    values = -0.5 * (((t - 0.5) / 0.05) ** 2).sum(1)
    return Dataset.empty(d).append(t, [Evaluation(float(v), "ok", {}, 0.0, "", 0.0, "") for v in values], 0), t


def test_few_points_are_all_fitted():
    data, t = gaussian(100, 2)
    rows = FitProblem(data, t).rows
    np.testing.assert_array_equal(FitProblem(data, t, most=100).rows, rows)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_the_points_that_are_fitted_are_as_many_as_asked_for_and_mostly_relevant(temperature):
    data, t = gaussian(2000, 2)
    problem = FitProblem(data, t, temperature=temperature)
    some = FitProblem(data, t, temperature=temperature, most=200)
    assert some.rows.sum() == 200
    assert (some.rows <= problem.rows).all()
    n_relevant = (~far(problem.y, 2)).sum()
    assert (~far(some.y, 2)).sum() >= min(150, n_relevant)


def test_three_points_per_coefficient_of_a_quadratic_stay():
    data, t = gaussian(2000, 6, spread=0.06)
    assert FitProblem(data, t, most=10).rows.sum() == 3 * trend_size(6)


def test_points_that_were_fitted_stay_when_others_join():
    data, t = gaussian(3000, 2, spread=0.05)
    everything = np.ones(3000, dtype=bool)
    first = thinned(data.head(2900), everything[:2900], 1.0, 400)
    second = thinned(data, everything, 1.0, 400)
    assert second.sum() == 400
    assert (first & second[:2900]).sum() > 350  # 100 new points take the place of 13 of the old


def test_derivatives_and_noise_are_those_of_the_fitted_points():
    data, t = gaussian(1000, 2)
    problem = FitProblem(data, t, most=50)
    assert problem.y.shape == (50,)
    np.testing.assert_array_equal(problem.y, (data.y - data.y_max)[problem.rows])


def test_values_of_other_orders_of_magnitude_are_left_out_once_there_are_several():
    """In 2 dimensions the relevant depth is 28: more than 4 points beyond 840 leave those beyond 84 out."""
    y = -np.concatenate([np.linspace(0.0, 27.0, 12), [50.0, 500.0], np.geomspace(1e3, 1e9, 5)])
    np.testing.assert_array_equal(np.flatnonzero(visible(y, 1.0, 2)), np.arange(13))
    assert visible(y[:-1], 1.0, 2).all()
    assert visible(y, 1e9, 2).all()  # at a high temperature they are not deep
    assert visible(y[5:], 1.0, 2).sum() == 11  # always five more than a quadratic has coefficients
