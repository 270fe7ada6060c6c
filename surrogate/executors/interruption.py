"""Early end of a run: signals, time limits, and abandoned likelihood calls."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "StopRequest", "asked_to_end", "forget_signals", "leaving"]

# Batch systems send SIGTERM or SIGUSR1 before the end; SIGINT is Ctrl-C.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


class Interrupted(BaseException):  # noqa: N818  # neither an error nor an answer of the likelihood
    """Raised when evaluations are abandoned because the run is ending; the message gives the reason."""


class StopRequest:
    """A request to end the run, with its reason: a signal arrived or the time limit was reached.

    In a ``with`` statement of the main thread it catches SIGTERM, SIGUSR1 and SIGINT. A second SIGINT raises
    KeyboardInterrupt at once; another second signal does so only more than two seconds after the first, because batch
    systems signal many processes, which pass the signal on. In other threads only the time limit applies.

    Args:
        seconds: Time limit, counted from ``start``; None if there is none.
        start: Time of ``time.monotonic`` from which to count.
    """

    def __init__(self, seconds: float | None = None, start: float | None = None) -> None:
        self._seconds = seconds
        self._start = time.monotonic() if start is None else start
        self._reason = ""
        self._inside = False
        self._former: dict[int, Any] = {}
        self._came = math.inf
        self._woken = False

    def reason(self) -> str:
        """Why the run should end, as a sentence; empty if it should not."""
        if not self._reason and self._seconds is not None and time.monotonic() - self._start >= self._seconds:
            self._reason = f"the wall time of {self._seconds:g} s is used up"
        return self._reason

    def request(self, reason: str) -> None:
        """Requests the end of the run."""
        self._reason = self._reason or reason

    def leave(self, reason: str) -> None:
        """Asks the run to end and, from another thread, wakes the main one out of its call; further runs may begin."""
        self.request(reason)
        if self._former and hasattr(signal, "pthread_kill"):
            self._woken = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Context that abandons code of the main thread, such as a likelihood call, as soon as the run should end.

        It raises `Interrupted`. Compiled code is interrupted only when it returns to Python.
        """
        if threading.current_thread() is not threading.main_thread() or not self._former:
            yield
            return
        if reason := self.reason():
            raise Interrupted(reason)
        self._inside = True
        try:
            with self._alarm():
                yield
        finally:
            self._inside = False

    @contextlib.contextmanager
    def _alarm(self) -> Iterator[None]:
        """Sets a system timer for the time limit, unless the program already uses one."""
        if self._seconds is None or not _alarm_is_free():
            yield
            return
        signal.signal(signal.SIGALRM, self._ring)
        # Repeated, because clocks differ and a timer that fires slightly too early must not be the last.
        signal.setitimer(signal.ITIMER_REAL, max(self._start + self._seconds - time.monotonic(), 1e-3), 0.1)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _ring(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._inside and self.reason():
            self._inside = False
            raise Interrupted(self._reason)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._woken and number == signal.SIGUSR1:  # our own, see `leave`
            self._woken = False
        else:
            self._note(number)
        if self._inside:
            self._inside = False
            raise Interrupted(self._reason)

    def _note(self, number: int) -> None:
        now = time.monotonic()
        if self._reason and (number == signal.SIGINT or now - self._came > _ECHO):
            raise KeyboardInterrupt
        self._came = min(self._came, now)
        _CAME.append(number)
        self.request(f"stopped by {signal.Signals(number).name}")

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former = {}


_ECHO = 2.0  # seconds
_CAME: list[int] = []


def asked_to_end() -> str:
    """Name of the signal that asked the program to end, after which no further run starts; empty if there was none.

    Ctrl-C in an interactive session ends only one command and does not count.
    """
    numbers = [number for number in _CAME if number != signal.SIGINT or not hasattr(sys, "ps1")]
    return signal.Signals(numbers[0]).name if numbers else ""


def forget_signals() -> None:
    """Allows further runs in this process after a signal ended a run."""
    _CAME.clear()


def _alarm_is_free() -> bool:
    return hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def leaving(seconds: float, ended: Callable[[], bool], *, pause: float = 0.05) -> bool:
    """Waits up to ``seconds`` until ``ended()`` is true, and returns whether it is."""
    limit = time.monotonic() + seconds
    while not ended():
        if time.monotonic() >= limit:
            return False
        time.sleep(pause)
    return True
