import numpy as np
import pytest

from surrogate.inference.checks.batch_error import batch_error


def test_batch_error():
    """|y - prediction| in units of 0.25 + 0.1 depth, the largest of the batch."""
    assert batch_error(np.empty(0), np.empty(0), 0.0) == 0.0
    assert batch_error(np.array([-1.0]), np.array([-1.0]), 0.0) == 0.0
    assert batch_error(np.array([0.0]), np.array([-0.5]), 0.0) == pytest.approx(2.0)
    y, predicted = np.array([-10.0, -0.1]), np.array([-11.0, -0.2])
    assert batch_error(y, predicted, 0.0) == pytest.approx(max(1.0 / 1.25, 0.1 / 0.26))


def test_a_prediction_above_the_best_value_is_measured_from_itself():
    """Otherwise the depth would be negative and the unit shrink to nothing."""
    assert batch_error(np.array([-1.0]), np.array([3.0]), 0.0) == pytest.approx(16.0)
