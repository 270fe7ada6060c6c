"""Limits on single calls: child processes, time-outs, retries."""

import time

import numpy as np
import pytest

from surrogate.executors.calls import Limits, guarded
from surrogate.problem.target import Posterior
from tests.executors import functions_for_workers as functions


@pytest.fixture(scope="module")
def isolated():
    with guarded(Posterior(functions.deadly, [(0, 1)]).evaluate, Limits(isolate=True)) as call:
        yield call


def test_the_same_answer(isolated):
    assert isolated(np.array([0.25])).y == -0.0625


@pytest.mark.parametrize(("x", "reason"), [(0.5, "SIGSEGV"), (0.6, "exit code 3")])
def test_a_death_is_a_failed_evaluation_and_the_next_call_works(isolated, x, reason):
    evaluation = isolated(np.array([x]))
    assert evaluation.status == "failed"
    assert reason in evaluation.reason
    assert isolated(np.array([0.25])).status == "ok"


def test_a_call_that_takes_too_long_is_ended():
    with guarded(Posterior(functions.endless, [(0, 1)]).evaluate, Limits(seconds=0.3, retries=2)) as call:
        start = time.monotonic()
        evaluation = call(np.array([0.5]))
    assert evaluation.reason == "time-out: no answer within 0.3 s"  # and is not repeated
    assert 0.2 < evaluation.seconds < 300
    assert time.monotonic() - start < 300


class Moody:
    """Fails so many times."""

    def __init__(self, failures):
        self.failures = failures

    def __call__(self, x):
        self.failures -= 1
        return np.nan if self.failures >= 0 else 1.0


@pytest.mark.parametrize(("failures", "status"), [(2, "ok"), (3, "failed")])
def test_retries(failures, status):
    with guarded(Posterior(Moody(failures), [(0, 1)]).evaluate, Limits(retries=2)) as call:
        evaluation = call(np.array([0.5]))
    assert evaluation.status == status
    assert ("(tried 3 times)" in evaluation.reason) == (status == "failed")


def test_no_limits_change_nothing():
    evaluate = Posterior(functions.quadratic, [(0, 1)]).evaluate
    with guarded(evaluate, Limits()) as call:
        assert call is evaluate


def test_what_cannot_be_sent_is_refused_at_once():
    evaluate = Posterior(lambda x: 0.0, [(0, 1)]).evaluate
    with pytest.raises(TypeError, match="cannot be sent to worker processes"), guarded(evaluate, Limits(isolate=True)):
        pass


@pytest.mark.parametrize("arguments", [{"seconds": 0.0}, {"seconds": -1.0}, {"retries": -1}, {"retries": 1.5}])
def test_misuse(arguments):
    with pytest.raises(ValueError, match="must be"):
        Limits(**arguments)
