"""Values of any size have a scale, or are refused."""

import numpy as np
import pytest

from surrogate import GPRegressor, GradientGPRegressor, NetworkRegressor
from surrogate.estimators.scales import location_and_scale

X = np.random.default_rng(0).random((20, 2))


@pytest.mark.parametrize("regressor", [GPRegressor, GradientGPRegressor, NetworkRegressor])
def test_values_that_overflow_are_refused(regressor):
    with pytest.raises(ValueError, match=r"y overflows with sizes up to 9\.\d+e\+159: divide it by a constant"):
        regressor().fit(X, 1e160 * X[:, 0])


def test_points_that_overflow_are_refused():
    with pytest.raises(ValueError, match="X overflows with sizes up to 9"):
        GPRegressor().fit(1e160 * X, X[:, 0])


def test_constant_columns_have_the_scale_one():
    mean, sd = location_and_scale(np.c_[np.full(9, 0.1), np.arange(9.0)])
    np.testing.assert_allclose(mean, [0.1, 4.0])
    np.testing.assert_allclose(sd, [1.0, np.sqrt(20.0 / 3.0)])
