import numpy as np
import pytest

from surrogate.inference.checks.overlooked import climb


def depth(t, centre=0.3, sd=0.05):
    return 0.5 * (((t - centre) / sd) ** 2).sum(1)


def corner(t):
    """A normal peak at 0.3, and a rise into the corner at one that no draw of the peak has seen."""
    return np.maximum(-depth(t), 400.0 * (t.mean(1) - 0.97))


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_a_rise_in_a_corner_is_climbed(d):
    rng = np.random.default_rng(3)
    inside = lambda t: np.where(((t >= 0) & (t <= 1)).all(1), corner(t), -np.inf)  # noqa: E731
    found = climb(inside, rng.random((4000, d)), 0.0, rng)
    assert 1 <= len(found) <= 2
    assert inside(found).min() > 2.0


@pytest.mark.parametrize("d", [1, 3, 8])
def test_where_the_draws_have_seen_the_top_nothing_is_overlooked(d):
    rng = np.random.default_rng(4)
    assert climb(lambda t: -depth(t), rng.random((4000, d)), 0.0, rng).shape == (0, d)


def test_without_candidates_nothing_is_overlooked():
    assert climb(corner, np.empty((0, 2)), 0.0, np.random.default_rng(0)).shape == (0, 2)
