"""A surrogate does not rise where points are probably infeasible."""

import numpy as np

from surrogate.log_density.base import discounted, limited


def test_a_mean_is_limited_where_points_are_probably_infeasible():
    """A quadratic through two crescents rose by 60 nats between them, at a probability of 1 % of being feasible."""
    value, probability = np.array([60.0, 60.0, 60.0, -5.0]), np.array([0.0, 0.01, 0.9, 0.01])
    np.testing.assert_array_equal(limited(value, probability), [3.0, 3.0, 60.0, -5.0])
    assert discounted(value, probability, 0.0)[1] == 3.0 + np.log(0.01)
