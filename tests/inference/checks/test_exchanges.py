from dataclasses import replace

import numpy as np
import pytest

from surrogate.inference.checks.exchanges import Exchanges
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.setup import Setup
from surrogate.log_density.search.structure import StructureSearch
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.exchanges import exchanges, products
from surrogate.problem.prior import Prior


def test_two_groups_exchange_the_same_members_at_once():
    """Amplitudes 0 and 1, decay times 2 and 3, and an offset: the first image is what a sum of two terms allows."""
    out = exchanges([np.array([0, 1]), np.array([2, 3]), np.array([4])], 5)
    np.testing.assert_array_equal(out[0], [1, 0, 3, 2, 4])
    np.testing.assert_array_equal(out[1:], [[1, 0, 2, 3, 4], [0, 1, 3, 2, 4]])


def test_one_group_exchanges_blocks_before_pairs():
    out = exchanges([np.arange(4)], 4)
    np.testing.assert_array_equal(out[:2], [[2, 3, 0, 1], [1, 0, 3, 2]])
    assert len(out) == 2 + 6


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2,), (3, 3), (2, 3), (5, 1)])
def test_exchanges_are_permutations_that_undo_themselves(sizes):
    groups = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    for row in exchanges(groups, sum(sizes)):
        np.testing.assert_array_equal(row[row], np.arange(sum(sizes)))
        for group in groups:
            assert set(row[group]) == set(group)
    assert len(exchanges(groups, sum(sizes))) == 0 or max(sizes) > 1


def test_products_are_the_group_that_moves_generate():
    """Two exchanges of three members make all six orders; the halves of four make two."""
    assert len(products(np.array([[1, 0, 2], [0, 2, 1]]))) == 6
    np.testing.assert_array_equal(np.sort(products(np.array([[2, 3, 0, 1]])), axis=0), [[0, 1, 0, 1], [2, 3, 2, 3]])
    assert len(products(np.empty((0, 3), dtype=np.int64))) == 0
    assert len(products(exchanges([np.arange(6)], 6))) == 720


def test_all_orders_of_a_symmetric_likelihood_are_asked_for_after_the_first_round():
    """Four of six orders are known, by two exchanges of one; the others take two exchanges one after the other.

    Values with a noise, however small, prove no symmetry that the surrogate could follow.
    """
    orders = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0], [2, 0, 1]])
    mean, sd = np.array([0.2, 0.5, 0.8]), 0.05

    def values(points):
        depth = 0.5 * (((points[:, None] - mean[orders][None]) / sd) ** 2).sum(-1)
        return [Evaluation(float(np.logaddexp.reduce(-row)), "ok", {}, 1e-6) for row in depth]

    rng = np.random.default_rng(0)
    plain = StructureSearch(structures=False, noise=False)
    loop = PosteriorLoop(Setup(Prior.of({name: (0.0, 1.0) for name in "abc"}), particles=200, search=plain))
    x = np.concatenate([*(mean[order] + sd * rng.standard_normal((12, 3)) for order in orders[:4]), mean[orders[:4]]])
    state = loop.init(0)
    state = loop.tell(state, x, values(x))
    view = loop.view(state).replace(state=replace(state, explored=7))
    asked = Exchanges().look(view).points
    assert {tuple(np.round(t, 2)) for t in asked} == {tuple(mean[order]) for order in orders[4:]}
