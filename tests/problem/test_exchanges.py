"""Exchanges of parameters are proven by points and images with the same value."""

import numpy as np
import pytest

from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.exchanges import LARGEST, agreeing_pairs, exchanges, of_prior, products, proven
from surrogate.problem.prior import Parameter, Prior

SWAP, DEPTH = np.array([1, 0, 2]), 30.0
POINTS = np.array([[0.2, 0.7, 0.1], [0.7, 0.2, 0.1], [0.3, 0.6, 0.4], [0.6, 0.3, 0.4], [0.5, 0.1, 0.9]])


def data_of(values, *, noise=0.0, points=POINTS):
    return Dataset.empty(3).append(points, [Evaluation(y, "ok", {}, noise) for y in values], 0)


def orders_of(values, **changes):
    return proven(data_of(values, **changes), POINTS, SWAP[None], DEPTH).tolist()


BOTH, ALONE = [[0, 1, 2], [1, 0, 2]], [[0, 1, 2]]


def test_two_pairs_prove_an_exchange():
    assert orders_of([-1.0, -1.0, -2.5, -2.5, -9.0]) == BOTH


def test_rounding_of_large_values_is_no_difference():
    assert orders_of([-1e4, -1e4 + 1e-9, -1e4 + 1.5, -1e4 + 1.5, -1e4 - 3.0]) == BOTH


@pytest.mark.parametrize(
    "values",
    [
        [-1.0, -1.0, -2.5, -2.4, -9.0],  # one pair differs
        [-1.0, -1.0, -50.0, -50.0, 0.0],  # one pair is too deep: values there may be a mark
        [-1.0, -1.0, -2.5, np.nan, -9.0],
    ],
)
def test_less_proves_nothing(values):
    values = data_of(np.nan_to_num(values, nan=-np.inf))
    assert proven(values, POINTS, SWAP[None], DEPTH).tolist() == ALONE


def test_noisy_values_prove_nothing():
    assert orders_of([-1.0, -1.0, -2.5, -2.5, -9.0], noise=0.1) == ALONE


def test_a_point_near_its_image_tells_nothing():
    points = np.array([[0.5, 0.501, 0.1], [0.501, 0.5, 0.1]])
    assert agreeing_pairs(data_of([-1.0, -1.0], points=points), points, SWAP, DEPTH) == 0


def test_orders_are_a_group():
    """Two exchanges of three parameters make all six orders."""
    moves = exchanges([np.arange(3)], 3)
    x = np.array([[0.1, 0.5, 0.9], [0.5, 0.1, 0.9], [0.9, 0.5, 0.1]])
    found = proven(data_of([-1.0, -1.0, -1.0], points=x), x, moves, DEPTH)
    assert len(found) == 6
    np.testing.assert_array_equal(found[0], np.arange(3))
    assert {tuple(a[b]) for a in found for b in found} == {tuple(order) for order in found}


def test_too_many_orders_are_not_followed():
    d = 6
    moves = exchanges([np.arange(d)], d)
    first = np.linspace(0.1, 0.9, d)
    x = np.stack([first, *(first[move] for move in moves)])
    data = Dataset.empty(d).append(x, [Evaluation(-1.0, "ok")] * len(x), 0)
    assert len(products(moves)) > LARGEST
    assert len(proven(data, x, moves, DEPTH)) == 1


def test_parameters_in_order_are_not_exchanged_nor_circles_if_so_asked():
    def prior(**changes):
        return Prior(
            (Parameter("a", (0.0, 1.0), periodic="above" not in changes), Parameter("b", (0.0, 1.0), **changes))
        )

    assert len(of_prior(prior(above="a"))) == 0
    assert len(of_prior(prior(periodic=True))) == 1
    assert len(of_prior(prior(periodic=True), periodic=False)) == 0
