import numpy as np
import pytest

from surrogate.inference.checks.exchanges import exchanges


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
