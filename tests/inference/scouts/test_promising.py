import numpy as np
import pytest

from surrogate.inference.scouts.promising import most_promising


def test_the_most_promising_point():
    """The largest (mean - target) / sd, among points that are not known yet."""
    mean, sd = np.array([-1.0, -50.0, -20.0, 3.0]), np.array([2.0, 100.0, 10.0, 0.5])
    best, score = most_promising(mean, sd, 0.0)
    assert best in (0, 1)  # a tie at -0.5, ahead of -2; the last is known to better than 1
    assert score == pytest.approx(-0.5)


def test_nothing_is_promising_where_everything_is_known():
    assert most_promising(np.zeros(3), np.full(3, 0.5), -1.0)[1] == -np.inf
