"""Signals, the wall time, and calls that are left because of them."""

import os
import signal
import threading
import time
from concurrent.futures import Executor, Future

import numpy as np
import pytest

from surrogate.executors import make_executor
from surrogate.executors.evaluate import evaluate_batch
from surrogate.executors.interruption import Interrupted, StopRequest, asked_to_end
from surrogate.executors.mpi import _launched, ranks
from surrogate.problem.target import Posterior
from tests.executors import functions_for_workers as functions

ENDLESS = Posterior(functions.endless, [(0, 1)])


class Begun:
    """A likelihood that never answers and counts its calls."""

    def __init__(self):
        self.calls = threading.Semaphore(0)

    def __call__(self, x):
        self.calls.release()
        return functions.endless(x)


def send(number, begun, calls):
    """Sends a signal to this process when so many calls have begun."""

    def wait_and_send():
        for _ in range(calls):
            begun.calls.acquire()
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    return thread


@pytest.mark.parametrize("spec", ["serial", "threads:2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_the_waiting(spec, number):
    former = signal.getsignal(number)
    start = time.monotonic()
    left, begun, calls = [], Begun(), 2 if spec == "threads:2" else 1
    with StopRequest() as stop:
        executor = make_executor(spec)
        sender = send(number, begun, calls)
        posterior, points = Posterior(begun, [(0, 1)]), np.array([[0.5], [0.6], [0.7]])
        with pytest.raises(Interrupted, match=f"stopped by {signal.Signals(number).name}"):
            evaluate_batch(posterior, points, executor, stop=stop, left=left)
        executor.shutdown(wait=False)
        sender.join()
    assert time.monotonic() - start < 300
    assert signal.getsignal(number) is former
    assert sum(flight.unfinished for flight in left) == (2 if spec == "threads:2" else 0)


@pytest.mark.parametrize("spec", ["serial", "threads:1"])
def test_the_wall_time_ends_the_waiting(spec):
    start = time.monotonic()
    with StopRequest(0.3) as stop:
        executor = make_executor(spec)
        with pytest.raises(Interrupted, match=r"the wall time of 0\.3 s is used up"):
            evaluate_batch(ENDLESS, np.array([[0.5]]), executor, stop=stop)
        executor.shutdown(wait=False)
    assert time.monotonic() - start < 300


def test_a_timer_that_rings_too_early_rings_again():
    class Late(StopRequest):
        """Its time is up a moment after the timer says so."""

        looks = 0

        def reason(self):
            self.looks += 1
            return super().reason() if self.looks > 2 else ""  # one look before the call, one at the first ring

    start = time.monotonic()
    with Late(0.1) as stop, pytest.raises(Interrupted, match="wall time"), stop.interruptible():
        functions.endless(None)
    assert stop.looks > 2
    assert time.monotonic() - start < 300


def test_a_second_interrupt_is_one():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reason() == "stopped by SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_call_is_left_without_a_signal_of_the_program():
    """As ranks leave their calls at the end of a run: another run may begin, and real signals still count."""
    with StopRequest() as stop:
        waking = threading.Timer(0.05, stop.leave, ["rank 0 is done"])
        waking.start()
        with pytest.raises(Interrupted, match="rank 0 is done"), stop.interruptible():
            functions.endless(None)
        waking.join()
        assert asked_to_end() == ""
        os.kill(os.getpid(), signal.SIGUSR1)
        assert asked_to_end() == "SIGUSR1"


def test_what_has_come_back_is_recorded_first():
    recorded, stop, x = {}, StopRequest(), np.array([[0.1], [0.9], [0.2]])

    class Partly(Executor):
        """Evaluates the first half of the interval at once and the other never; the end comes with the last point."""

        def submit(self, fn, /, point):
            future = Future()
            if point[0] < 0.5:
                future.set_result(fn(point))
            if point[0] == x[-1, 0]:
                stop.request("enough")
            return future

    posterior = Posterior(lambda x: 1.0, [(0, 1)])
    with pytest.raises(Interrupted, match="enough"):
        evaluate_batch(posterior, x, Partly(), record=recorded.__setitem__, stop=stop)
    assert set(recorded) == {0, 2}


def test_no_handlers_in_other_threads():
    former = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with StopRequest() as stop, stop.interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [former]


@pytest.mark.parametrize(
    ("variables", "number"),
    [
        ({}, 1),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 4),
        ({"PMI_SIZE": "3"}, 3),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "64"}, 64),
        ({"SLURM_NTASKS": "64", "SLURM_PROCID": "0"}, 1),  # a batch script
        ({"SLURM_STEP_ID": "4294967291", "SLURM_STEP_NUM_TASKS": "64"}, 1),
    ],
)
def test_ranks_that_were_started_together(monkeypatch, variables, number):
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _launched() == number
    assert ranks("serial") is None
