"""Batches: the same answers from every executor, recorded as they come, and what happens when executors fail."""

import math
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from surrogate.executors import SerialExecutor, evaluate_batch, make_executor
from surrogate.executors.evaluate import Flight
from surrogate.executors.interruption import StopRequest
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior
from tests.executors import functions_for_workers as functions

SPAWN = multiprocessing.get_context("spawn")
X = np.linspace(0.0, 0.95, 9)[:, None]
POSTERIOR = Posterior(functions.of_all_kinds, [(0, 1)])
NAMED = Posterior(functions.by_name, {"a": (0, 1), "b": (0, 1)})


def essence(evaluation: Evaluation) -> tuple:
    """All of an evaluation but where and how long, with NaN in a form that equals itself."""
    y = "NaN" if math.isnan(evaluation.y) else evaluation.y
    return y, evaluation.status, evaluation.derived, evaluation.noise, evaluation.reason


class Reversed(Executor):
    """Does nothing until the last of n has been submitted, then all in the reverse order."""

    def __init__(self, n):
        self.n, self.waiting = n, []

    def submit(self, fn, /, *args):
        self.waiting.append((future := Future(), fn, args))
        if len(self.waiting) == self.n:
            for one, function, arguments in reversed(self.waiting):
                one.set_result(function(*arguments))
        return future


class Failing(Executor):
    """Answers as it should, except for call number ``at``, and from there on if ``broken``."""

    def __init__(self, at, error, *, on_submit=False, broken=False):
        self.at, self.error, self.on_submit, self.broken, self.calls = at, error, on_submit, broken, 0

    def submit(self, fn, /, *args):
        call, self.calls = self.calls, self.calls + 1
        future = Future()
        if call != self.at and not (self.broken and call > self.at):
            future.set_result(fn(*args))
        elif self.on_submit:
            raise self.error
        else:
            future.set_exception(self.error)
        return future


EXECUTORS = {
    "serial": lambda evaluate: make_executor(None, evaluate),
    "threads": lambda evaluate: make_executor("threads:3", evaluate),
    "processes": lambda evaluate: make_executor("processes:2", evaluate),
    "threads of somebody else": lambda evaluate: ThreadPoolExecutor(2),
    "processes of somebody else": lambda evaluate: ProcessPoolExecutor(1, mp_context=SPAWN),
    "reversed": lambda evaluate: Reversed(len(X)),
}


class TestSameAnswers:
    @pytest.mark.parametrize("name", EXECUTORS)
    def test_as_one_at_a_time(self, name):
        expected = [POSTERIOR.evaluate(point) for point in X]
        assert [e.status for e in expected] == ["ok"] * 3 + ["infeasible"] * 2 + ["failed"] * 4
        recorded = {}
        with EXECUTORS[name](POSTERIOR.evaluate) as executor:
            evaluations = evaluate_batch(POSTERIOR, X, executor, done={}, record=recorded.__setitem__)
        assert [essence(e) for e in evaluations] == [essence(e) for e in expected]
        assert recorded == dict(enumerate(evaluations))

    @pytest.mark.parametrize("name", ["serial", pytest.param("processes", marks=pytest.mark.slow)])
    def test_by_name(self, name):
        x = np.random.default_rng(0).random((4, 2))
        with EXECUTORS[name](NAMED.evaluate) as executor:
            assert [e.y for e in evaluate_batch(NAMED, x, executor)] == [-a - b for a, b in x.tolist()]

    @pytest.mark.parametrize("name", ["serial", "threads", pytest.param("processes", marks=pytest.mark.slow)])
    def test_vectorized(self, name):
        posterior = Posterior(functions.vectorized, [(0, 1)], vectorized=True)
        with EXECUTORS[name](posterior.evaluate) as executor:
            evaluations = evaluate_batch(posterior, X, executor)
        assert [e.y for e in evaluations] == [-x * x for x in X[:, 0].tolist()]

    def test_workers_are_named(self):
        with make_executor("processes:1", POSTERIOR.evaluate) as executor:
            (evaluation,) = evaluate_batch(POSTERIOR, X[:1], executor)
        host, _, pid = evaluation.worker.rpartition(":")
        assert host == POSTERIOR.evaluate(X[0]).worker.rpartition(":")[0]
        assert int(pid) != os.getpid()


class TestDone:
    done = {1: Evaluation(7.0, "ok"), 4: Evaluation.failure("before")}

    @pytest.mark.parametrize("vectorized", [False, True])
    def test_is_not_repeated(self, vectorized):
        seen, recorded = [], []

        def function(x):
            seen.append(np.atleast_2d(x)[:, 0].tolist())
            return np.zeros(len(x)) if vectorized else 0.0

        posterior = Posterior(function, [(0, 1)], vectorized=vectorized)
        evaluations = evaluate_batch(
            posterior, X[:6], SerialExecutor(), done=self.done, record=lambda index, _: recorded.append(index)
        )
        assert (evaluations[1], evaluations[4]) == (self.done[1], self.done[4])
        missing = [0, 2, 3, 5]
        assert recorded == missing
        assert seen == ([X[missing, 0].tolist()] if vectorized else [[x] for x in X[missing, 0].tolist()])

    def test_is_not_changed(self):
        done = dict(self.done)
        evaluate_batch(POSTERIOR, X, SerialExecutor(), done=done)
        assert done == self.done

    def test_all_of_it(self):
        done = dict.fromkeys(range(len(X)), Evaluation(7.0, "ok"))
        assert evaluate_batch(POSTERIOR, X, Failing(0, ValueError()), done=done) == list(done.values())

    def test_nothing_to_do(self):
        assert evaluate_batch(POSTERIOR, np.empty((0, 1)), SerialExecutor()) == []


class TestRecord:
    def test_each_before_the_next_in_a_serial_executor(self):
        events = []
        posterior = Posterior(lambda x: events.append("call") or 0.0, [(0, 1)])
        evaluate_batch(posterior, X[:3], SerialExecutor(), record=lambda index, _: events.append(index))
        assert events == ["call", 0, "call", 1, "call", 2]

    def test_in_the_order_of_coming_back_and_in_this_thread(self):
        released, seen = threading.Event(), []

        def function(x):
            if x[0] == 0.0:
                released.wait(300)
            return 0.0

        def record(index, _):
            seen.append((index, threading.get_ident()))
            if len(seen) == 2:
                released.set()

        with ThreadPoolExecutor(3) as executor:
            evaluate_batch(Posterior(function, [(0, 1)]), X[:3], executor, record=record)
        assert seen[-1][0] == 0
        assert {thread for _, thread in seen} == {threading.get_ident()}

    def test_a_failing_record_stops_and_cancels(self):
        calls, ended = [], threading.Event()

        def function(x):
            calls.append(x)
            if len(calls) > 1:
                ended.wait(300)
            return 0.0

        def record(index, evaluation):
            msg = "disk full"
            raise OSError(msg)

        with ThreadPoolExecutor(1) as executor:
            with pytest.raises(OSError, match="disk full"):
                evaluate_batch(Posterior(function, [(0, 1)]), X, executor, record=record)
            ended.set()
        assert len(calls) <= 2

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("make", [SerialExecutor, lambda: ThreadPoolExecutor(1)])
    def test_an_interrupt_keeps_what_was_recorded(self, make, error):
        def function(x):
            if x[0] > 0.2:
                raise error
            return 0.0

        posterior, recorded = Posterior(function, [(0, 1)]), []
        with make() as executor, pytest.raises(error):
            evaluate_batch(posterior, X, executor, record=lambda index, _: recorded.append(index))
        assert recorded == [0, 1]


def test_nothing_lands_before_it_is_announced():
    """What is announced goes to the journal: nobody is to know of an answer that is not there."""
    future, released, landed = Future(), threading.Event(), []

    class One(Executor):
        def submit(self, fn, /, *args):
            return future

    flight = Flight(One(), POSTERIOR.evaluate, StopRequest())
    flight.launch(0, X[0], lambda index, evaluation: released.wait(300))
    answer = threading.Thread(target=future.set_result, args=(Evaluation(1.0, "ok"),))
    answer.start()
    while not future.done():
        time.sleep(0.001)
    flight.land(lambda index, evaluation: landed.append(index), wait_for=0)
    assert not landed
    released.set()
    flight.land(lambda index, evaluation: landed.append(index), wait_for=1)
    answer.join()
    assert landed == [0]


class TestFailingExecutors:
    def test_deaths_of_workers_are_failed_evaluations(self):
        posterior = Posterior(functions.deadly, [(0, 1)])
        x = np.array([[0.1], [0.5], [0.2], [0.6], [0.3]])
        with make_executor("processes:2", posterior.evaluate) as executor:
            evaluations = evaluate_batch(posterior, x, executor)
            assert [e.status for e in evaluations] == ["ok", "failed", "ok", "failed", "ok"]
            assert "executor: WorkerDiedError: worker process" in evaluations[1].reason
            assert "was killed by SIGSEGV" in evaluations[1].reason
            assert "ended with exit code 3" in evaluations[3].reason

    def test_an_exception_at_a_point_is_a_failed_evaluation(self):
        evaluations = evaluate_batch(POSTERIOR, X[:3], Failing(1, TimeoutError("worker lost")))
        assert [e.status for e in evaluations] == ["ok", "failed", "ok"]
        assert evaluations[1].reason == "executor: TimeoutError: worker lost"

    @pytest.mark.parametrize(
        ("executor", "count", "reason"),
        [
            (lambda: Failing(2, BrokenExecutor("all dead"), broken=True), 7, r"BrokenExecutor: all dead"),
            (
                lambda: Failing(2, BrokenExecutor("all dead"), broken=True, on_submit=True),
                7,
                "BrokenExecutor: all dead",
            ),
            (lambda: Failing(2, CancelledError()), 1, "CancelledError"),
            (lambda: Failing(2, pickle.PicklingError("lambda")), 1, "PicklingError: lambda"),
            (lambda: Failing(2, AttributeError("Can't pickle local object")), 1, "AttributeError: Can't pickle"),
            (lambda: Failing(2, TypeError("cannot pickle '_thread.lock' object")), 1, "TypeError: cannot pickle"),
        ],
    )
    def test_points_that_were_never_evaluated_stop_the_run(self, executor, count, reason):
        recorded = []
        with pytest.raises(RuntimeError, match=rf"stopped working: {count} of 9 points have no answer \(.*{reason}"):
            evaluate_batch(POSTERIOR, X, executor(), record=lambda index, _: recorded.append(index))
        assert len(recorded) == 9 - count
        assert 0 in recorded

    def test_an_executor_that_was_shut_down(self):
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        with pytest.raises(
            RuntimeError, match=r"9 of 9 points .* cannot schedule new futures after shutdown.* recorded"
        ):
            evaluate_batch(POSTERIOR, X, executor)

    def test_a_pool_of_somebody_else_that_breaks(self):
        posterior = Posterior(functions.deadly, [(0, 1)])
        with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
            with pytest.raises(RuntimeError, match=r"BrokenProcessPool.*executor='processes:N' replaces processes"):
                evaluate_batch(posterior, np.array([[0.5]]), executor)
            with pytest.raises(RuntimeError, match="1 of 1 points have no answer"):
                evaluate_batch(posterior, np.array([[0.1]]), executor)

    def test_a_likelihood_that_a_pool_of_somebody_else_cannot_take(self):
        posterior = Posterior(lambda x: 0.0, [(0, 1)])
        with (
            ProcessPoolExecutor(1, mp_context=SPAWN) as executor,
            pytest.raises(RuntimeError, match=r"2 of 2 points have no answer \(.*[Pp]ickle"),
        ):
            evaluate_batch(posterior, X[:2], executor)


@pytest.mark.parametrize("x", [X[0], np.zeros((3, 2)), np.zeros(())])
def test_wrong_shapes(x):
    with pytest.raises(ValueError, match=r"points must have shape \(b, 1\), got"):
        evaluate_batch(POSTERIOR, x, SerialExecutor())
