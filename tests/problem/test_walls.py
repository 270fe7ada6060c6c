"""Values that stand for "impossible" count as infeasible."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.problem.dataset import INFEASIBLE, OK, Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.walls import with_walls


def dataset(*values):
    x = np.arange(len(values), dtype=float)[:, None]
    return Dataset.empty(1).append(x, [Evaluation(value, "ok") for value in values], 0)


@pytest.mark.parametrize("mark", [-99.0, -1e4, -1e10, -1e30, -1e100, -1e300])
def test_a_deep_value_that_repeats_is_a_mark(mark):
    data = with_walls(dataset(0.0, mark, -1.0, mark, -200.0), 24.0)
    np.testing.assert_array_equal(data.status, [OK, INFEASIBLE, OK, INFEASIBLE, OK])
    assert data.y_max == 0.0


def test_a_mark_is_known_from_then_on():
    data = with_walls(dataset(0.0, -99.0, -99.0), 24.0)
    data = with_walls(data.append(np.array([[9.0]]), [Evaluation(-99.0, "ok")], 1), 24.0)
    np.testing.assert_array_equal(data.status, [OK, INFEASIBLE, INFEASIBLE, INFEASIBLE])


def test_a_mark_within_the_depth_that_matters_is_the_only_value_that_repeats():
    data = with_walls(dataset(-0.1234567, -30.0, -1.7654321, -31.4142136, -30.0), 36.0)
    np.testing.assert_array_equal(data.status == INFEASIBLE, data.y == -30.0)


def test_what_turns_out_to_be_one_of_several_steps_is_no_mark():
    data = with_walls(dataset(-0.1234567, -30.0, -30.0), 36.0)
    assert (data.status == INFEASIBLE).sum() == 2
    data = with_walls(data.append(np.array([[8.0], [9.0]]), [Evaluation(-20.0, "ok")] * 2, 1), 36.0)
    assert data.finite.all()


@pytest.mark.parametrize("values", [(0.123, -30.0, -30.0), (-0.1234567, -17.0, -17.0)])
def test_a_shallow_value_that_repeats_stays(values):
    data = dataset(*values)
    assert with_walls(data, 36.0) is data


@pytest.mark.parametrize("values", [(0.0, -5.0, -5.0), (0.0, -99.0), (3.0, 3.0, 3.0), (0.0, -30.0, -31.0)])
def test_other_values_stay(values):
    data = dataset(*values)
    assert with_walls(data, 24.0) is data


def test_minus_infinity_and_failures_are_no_marks():
    evaluations = [Evaluation(0.0, "ok"), Evaluation(-np.inf, "infeasible"), Evaluation(-np.inf, "infeasible")]
    data = Dataset.empty(1).append(np.zeros((3, 1)), evaluations, 0)
    assert with_walls(data, 24.0) is data


def test_values_beyond_all_reckoning_are_marks():
    data = with_walls(dataset(0.0, -3.0, -1e3, -5e3, -1e12, -1e200, -1.7e308), 24.0)
    np.testing.assert_array_equal(data.status, [OK, OK, OK, OK, OK, INFEASIBLE, INFEASIBLE])


def test_a_function_with_a_large_scale_stays():
    data = dataset(*(-1e20 * np.arange(1.0, 6.0)))
    assert with_walls(data, 24.0) is data
