from types import SimpleNamespace

import numpy as np
import pytest

from surrogate.inference.checks.batch_error import _largest, batch_error
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation


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


def test_errors_that_the_surrogate_stated_do_not_count_up_to_two_sds():
    y, predicted = np.array([-10.0, 0.0]), np.array([-11.0, 0.0])
    assert batch_error(y, predicted, 0.0, stated=np.array([0.5, 0.0])) == 0.0
    assert batch_error(y, predicted, 0.0, stated=np.array([0.25, 0.0])) == pytest.approx(0.5 / 1.25)


def view_of(second, predicted, *, outputs):
    """A view of a batch of two points of one parameter, of which the first is the best."""
    x = np.array([[0.0], [1.0]])
    status = "ok" if np.isfinite(second) else "infeasible"
    data = Dataset.empty(1).append(x, [Evaluation(0.0, "ok"), Evaluation(second, status)], 0)
    certain = SimpleNamespace(probability=lambda u: np.ones(len(u)))
    return SimpleNamespace(
        state=SimpleNamespace(data=data, step=1, predicted=np.array([[0.0, 0.0], [predicted, 1.0]])),
        before=SimpleNamespace(feasibility=certain, whiten=lambda t: t),
        t=x,
        d=1,
        learns_outputs=outputs,
        noise=np.zeros(2),
        feasible=lambda t: np.ones(len(t), dtype=bool),
    )


@pytest.mark.parametrize(
    ("outputs", "predicted", "error"),
    [(True, -30.0, 0.0), (True, -5.0, 0.0), (True, -4.0, np.inf), (False, -30.0, np.inf)],
)
def test_a_point_foreseen_far_down_may_be_infeasible_if_outputs_are_learned(outputs, predicted, error):
    """That is below the bulk depth of 6.5 nats, with the two sds of one nat that the surrogate stated."""
    assert _largest(view_of(-np.inf, predicted, outputs=outputs)) == error


def test_predictions_of_outputs_are_judged_down_to_the_bulk_depth():
    assert _largest(view_of(-10.0, -7.0, outputs=True)) == 0.0
    assert _largest(view_of(-10.0, -6.0, outputs=True)) == pytest.approx(2.0 / 0.85)
    assert _largest(view_of(-10.0, -7.0, outputs=False)) == pytest.approx(3.0 / 0.95)
