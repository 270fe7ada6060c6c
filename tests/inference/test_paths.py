import numpy as np
import pytest

from surrogate.inference.paths import inflation


def test_inflation_is_one_for_calibrated_errors_and_the_mean_square_in_the_end():
    assert inflation(np.empty(0)) == 1.0
    assert inflation(np.full(10, 0.3)) == 1.0
    assert inflation(np.full(100_000, 3.0)) == pytest.approx(9.0, rel=1e-3)
    assert 1.0 < inflation(np.array([3.0])) < 9.0
