import numpy as np
import pytest

from surrogate.inference.checks.modes import fruitless_rounds, is_surprise


@pytest.mark.parametrize(
    ("nearest", "rounds"),
    [([], 0), ([9.0], 0), ([9.0, 9.0], 1), ([9.0, 7.3, 7.3], 2), ([9.0, 9.0, 7.1], 0), ([9.0, 5.0, 9.0, 4.5], 2)],
)
def test_rounds_without_a_nearer_point(nearest, rounds):
    assert fruitless_rounds(nearest, [False] * len(nearest)) == rounds


@pytest.mark.parametrize(("surprised", "rounds"), [("...", 2), ("..!", 0), (".!.", 0), ("!..", 1)])
def test_a_surprise_keeps_the_search_going(surprised, rounds):
    assert fruitless_rounds([9.0, 9.0, 9.0], [mark == "!" for mark in surprised]) == rounds


def test_what_a_surprise_is():
    """Radii of 3 where 8 was expected; not where 3.2 was, nor inside the bulk, nor far from the nearest."""
    radius = np.array([3.0, 3.0, 3.0, 30.0])
    predicted = np.array([8.0, 3.2, 1.0, 80.0])
    found = is_surprise((radius**2 - 1) / 2, (predicted**2 - 1) / 2, np.full(4, 5.0), 2)
    assert found.tolist() == [True, False, False, False]
