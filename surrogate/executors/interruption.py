"""Ending a run early: signals, time limits, and likelihood calls that are abandoned."""

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

# SIGTERM and SIGUSR1 are what batch systems send before the end; SIGINT is Ctrl-C.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


class Interrupted(BaseException):  # noqa: N818  # neither an error nor an answer of the likelihood
    """Evaluations were abandoned because the run is ending; the message is a sentence with the reason."""


class StopRequest:
    """Whether the run should end, and why: a signal arrived or the time limit was reached.

    Used in a ``with`` statement of the main thread it catches SIGTERM, SIGUSR1 and SIGINT. A second SIGINT raises
    KeyboardInterrupt at once, and so does another signal that comes more than two seconds after the first: batch
    systems send one signal to many processes, which pass it on. In another thread only the time limit holds.

    Args:
        seconds: Time limit, counted from ``start``; None if there is none.
        start: Reading of ``time.monotonic``.
    """

    def __init__(self, seconds: float | None = None, start: float | None = None) -> None:
        self._seconds = seconds
        self._start = time.monotonic() if start is None else start
        self._reason = ""
        self._inside = False
        self._former: dict[int, Any] = {}
        self._came = math.inf

    def reason(self) -> str:
        """The reason to end the run as a sentence; empty while there is none."""
        if not self._reason and self._seconds is not None and time.monotonic() - self._start >= self._seconds:
            self._reason = f"the wall time of {self._seconds:g} s is used up"
        return self._reason

    def request(self, reason: str) -> None:
        """Asks the run to end."""
        self._reason = self._reason or reason

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Context for code in the main thread, such as a likelihood call; abandons it as soon as the run should end.

        Code outside of Python is left when it returns. Raises `Interrupted`.
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
        """Sets a system timer for the time limit, unless the program already uses one of its own."""
        if self._seconds is None or not _alarm_is_free():
            yield
            return
        signal.signal(signal.SIGALRM, self._ring)
        # Again and again: clocks differ, and a timer that rings a moment too early must not be the last.
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
        now = time.monotonic()
        if self._reason and (number == signal.SIGINT or now - self._came > _ECHO):
            raise KeyboardInterrupt
        self._came = min(self._came, now)
        _CAME.append(number)
        self.request(f"stopped by {signal.Signals(number).name}")
        if self._inside:
            self._inside = False
            raise Interrupted(self._reason)

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
    """Name of a signal that ended a run; once a signal has asked the program to end, no further run begins.

    Ctrl-C in an interactive session ends one command, and not the session.
    """
    numbers = [number for number in _CAME if number != signal.SIGINT or not hasattr(sys, "ps1")]
    return signal.Signals(numbers[0]).name if numbers else ""


def forget_signals() -> None:
    """Allows further runs in this process after a run that was ended by a signal."""
    _CAME.clear()


def _alarm_is_free() -> bool:
    return hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def leaving(seconds: float, ended: Callable[[], bool], *, pause: float = 0.05) -> bool:
    """Waits until ``ended()`` is true, for at most the given number of seconds; returns whether it is."""
    limit = time.monotonic() + seconds
    while not ended():
        if time.monotonic() >= limit:
            return False
        time.sleep(pause)
    return True
