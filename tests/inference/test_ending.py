"""A run ends soon after it is asked to, whatever it is doing, and its program does not go on as if nothing had been."""

import os
import signal
import time

import numpy as np
import pytest

import surrogate
from surrogate.executors.interruption import StopRequest, forget_signals
from surrogate.inference import execution
from surrogate.inference.driving.drive import UnfinishedError
from surrogate.inference.loop import PosteriorLoop

PRIOR = [(-3.0, 3.0)] * 2


def bowl(x):
    return -0.5 * float((x**2).sum()) * (1.0 + 0.3 * np.sin(5 * x[0]))


def busy(*_, **__):
    """Computes now and then for two minutes."""
    end = time.monotonic() + 120.0
    while time.monotonic() < end:
        np.linalg.inv(np.eye(50))
        time.sleep(0.01)


def infer(likelihood=bowl, **options):
    return surrogate.infer(likelihood, PRIOR, **{"seed": 1, "n_samples": 200, "progress": False} | options)


class SignalAt:
    """A likelihood that sends a signal to its process in one of its calls."""

    def __init__(self, call, number=signal.SIGTERM):
        self.left, self.number = call, number

    def __call__(self, x):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return bowl(x)


@pytest.mark.parametrize("ended", ["signal", pytest.param("time", marks=pytest.mark.slow)])
def test_a_conclusion_that_takes_too_long_is_left(monkeypatch, ended):
    monkeypatch.setattr(execution, "conclude", busy)
    monkeypatch.setattr(execution, "GRACE", 1.0)
    start = time.monotonic()
    result = infer(SignalAt(9)) if ended == "signal" else infer(max_walltime=5.0)
    assert time.monotonic() - start < 60.0
    assert result.interrupted
    assert not result.converged
    assert "no time was left to sample the surrogate" in result.status
    assert np.isfinite(result.samples).all()
    assert len(result.samples) > 100
    assert "NOT CONVERGED" in result.summary()


@pytest.mark.parametrize("method", ["tell", pytest.param("ask", marks=pytest.mark.slow)])
def test_computing_the_next_points_is_left(monkeypatch, method):
    original, count = getattr(PosteriorLoop, method), []

    def slow(self, state, *args, **kwargs):
        count.append(state)
        return busy() if len(count) > 3 else original(self, state, *args, **kwargs)

    monkeypatch.setattr(PosteriorLoop, method, slow)
    start = time.monotonic()
    result = infer(lambda x: bowl(x) * 3, max_walltime=8.0, max_evaluations=100)
    assert time.monotonic() - start < 90.0
    assert result.interrupted
    assert "the wall time of 8 s is used up" in result.status


def test_learning_from_earlier_evaluations_is_left(monkeypatch):
    monkeypatch.setattr(PosteriorLoop, "init", busy)
    start = time.monotonic()
    with pytest.raises(UnfinishedError, match="the wall time of 1 s is used up"):
        infer(max_walltime=1.0)
    assert time.monotonic() - start < 60.0


def test_a_program_that_was_asked_to_end_begins_no_other_run():
    assert infer(SignalAt(9)).interrupted
    with pytest.raises(UnfinishedError, match="SIGTERM arrived during an earlier run of this program"):
        infer()
    forget_signals()
    assert infer(max_evaluations=9).n_evaluations == 9


def test_a_second_signal_ends_at_once_but_its_echo_does_not(monkeypatch):
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert "SIGTERM" in stop.reason()
        monkeypatch.setattr("surrogate.executors.interruption._ECHO", 0.0)
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
