"""Repeated rows are found exactly, and are copies only if that is no coincidence."""

import numpy as np
import pytest

from surrogate.problem.repeats import distinct_rows, distinct_values


def test_groups_are_those_of_a_slow_search(rng):
    x = rng.integers(0, 3, (60, 3)).astype(float)
    seen: dict[tuple[float, ...], int] = {}
    slow = [seen.setdefault(tuple(row), len(seen)) for row in x.tolist()]
    np.testing.assert_array_equal(distinct_values(x), slow)


def test_rows_that_differ_are_counted_in_order(rng):
    np.testing.assert_array_equal(distinct_values(rng.standard_normal((9, 2))), np.arange(9))


def test_zero_has_no_sign():
    np.testing.assert_array_equal(distinct_values(np.array([[0.0], [-0.0], [1.0]])), [0, 0, 1])


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_nothing_is_no_error(shape):
    np.testing.assert_array_equal(distinct_values(np.empty(shape)), np.zeros(shape[0]))


def test_copies_are_one_observation(rng):
    x, y = rng.standard_normal((30, 2)), rng.standard_normal(30)
    index = np.r_[np.arange(30), np.arange(30), [3, 3]]
    np.testing.assert_array_equal(distinct_rows(x[index], y[index]), np.arange(30))


def test_the_same_inputs_with_another_label_are_another_observation(rng):
    x, y = np.repeat(rng.standard_normal((10, 2)), 3, axis=0), rng.standard_normal(30)
    np.testing.assert_array_equal(distinct_rows(x, y), np.arange(30))


def test_labels_of_few_values_agree_by_chance(rng):
    """Of 200 patients with the same three answers, 90 % of them ill, none is a copy."""
    x, y = rng.integers(0, 2, (200, 3)).astype(float), (rng.random(200) < 0.9).astype(float)
    np.testing.assert_array_equal(distinct_rows(x, y), np.arange(200))
