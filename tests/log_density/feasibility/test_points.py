import numpy as np
import pytest

from surrogate.log_density.feasibility.points import trusted


@pytest.mark.parametrize("seed", range(5))
def test_doubtful_points_count_where_two_of_their_three_neighbours_are_infeasible(seed):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((60, 2))
    feasible = u[:, 0] + 0.5 * rng.standard_normal(60) < 0.5
    doubtful = ~feasible & (rng.random(60) < 0.5)
    keep = np.ones(60, dtype=bool)
    for i in np.flatnonzero(doubtful):
        nearest = np.argsort(((u - u[i]) ** 2).sum(1))[1:4]
        keep[i] = (~feasible[nearest]).sum() >= 2
    points, classes = trusted(u, feasible, doubtful)
    np.testing.assert_array_equal(points, u[keep])
    np.testing.assert_array_equal(classes, feasible[keep])


def test_too_few_points_are_all_trusted():
    u, feasible = np.eye(3), np.array([True, False, True])
    assert trusted(u, feasible, ~feasible)[0] is u
