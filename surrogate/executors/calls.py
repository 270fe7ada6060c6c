"""Calls of a likelihood with limits: in a child process that may crash or be killed, with a time-out, with retries."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surrogate.executors.child import Child, ChildTimeoutError, WorkerDiedError, payload_of
from surrogate.problem.evaluation import Evaluation

__all__ = ["Limits", "guarded"]


@dataclass(frozen=True)
class Limits:
    """Limits on one call of the likelihood.

    Attributes:
        seconds: Time limit; None for none. Needs a child process.
        isolate: Whether to use a child process, so that a crash only loses one point.
        retries: How often to repeat a failed call at the same point. Time-outs are not repeated.
    """

    seconds: float | None = None
    isolate: bool = False
    retries: int = 0

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            msg = f"max_eval_seconds must be positive or None, got {self.seconds!r}"
            raise ValueError(msg)
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            msg = f"retries must be a whole number of at least 0, got {self.retries!r}"
            raise ValueError(msg)

    @property
    def child(self) -> bool:
        """Whether calls run in child processes, which alone can be killed."""
        return self.isolate or self.seconds is not None

    @property
    def special(self) -> bool:
        """Whether calls differ from plain ones."""
        return self.child or self.retries > 0


@contextlib.contextmanager
def guarded(
    evaluate: Callable[[np.ndarray], Evaluation], limits: Limits
) -> Iterator[Callable[[np.ndarray], Evaluation]]:
    """Context with a version of ``evaluate`` that enforces limits; child processes end on exit.

    Raises:
        TypeError: If ``evaluate`` needs a child process and cannot be sent there.
    """
    key = uuid.uuid4().hex
    call = _Isolated(payload_of(evaluate), limits.seconds, key) if limits.child else evaluate
    try:
        yield _Retried(call, limits.retries) if limits.retries else call
    finally:
        _CHILDREN.kill(key)


@dataclass(frozen=True)
class _Retried:
    """A function that repeats failed calls; it returns the last answer with the total time."""

    call: Callable[[np.ndarray], Evaluation]
    retries: int

    def __call__(self, x: np.ndarray) -> Evaluation:
        seconds = 0.0
        for trial in range(1 + self.retries):
            evaluation = self.call(x)
            seconds += evaluation.seconds
            if evaluation.status != "failed" or evaluation.reason.startswith(_TIME_OUT) or trial == self.retries:
                break
        if trial and evaluation.status == "failed":
            evaluation = replace(evaluation, reason=f"{evaluation.reason} (tried {trial + 1} times)")
        return replace(evaluation, seconds=seconds)


_TIME_OUT = "time-out"


@dataclass(frozen=True)
class _Isolated:
    """Calls a function in a child of the current process, which may be a worker; safe to call from several threads.

    Attributes:
        payload: The function as bytes.
        seconds: Time limit of a call.
        key: Key of the child processes that hold this function.
    """

    payload: bytes
    seconds: float | None
    key: str

    def __call__(self, x: np.ndarray) -> Evaluation:
        child = _CHILDREN.take(self.key, self.payload)
        start = time.monotonic()
        try:
            child.revive()
            start = time.monotonic()
            succeeded, result = child.call((None, (x,), {}), self.seconds)
        except ChildTimeoutError:
            reason = f"{_TIME_OUT}: no answer within {self.seconds:g} s"
        except WorkerDiedError as error:
            reason = str(error)
        else:
            if isinstance(result, Evaluation):
                return result
            reason = f"{type(result).__name__}: {result}" if not succeeded else f"the child process answered {result!r}"
        finally:
            _CHILDREN.give_back(self.key, child)
        return Evaluation.failure(reason, seconds=time.monotonic() - start, worker=child.name)


class _Children:
    """Child processes of this process by key; idle ones are reused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[Child]] = {}
        self._all: dict[str, list[Child]] = {}
        self._finalizer: Any = None

    def take(self, key: str, payload: bytes) -> Child:
        """An idle child with this key, or a new one that is not started yet."""
        with self._lock:
            if idle := self._idle.get(key):
                return idle.pop()
            child = Child(payload)
            self._all.setdefault(key, []).append(child)
            if self._finalizer is None:
                # Called at exit, before multiprocessing waits for its children.
                self._finalizer = multiprocessing.util.Finalize(None, self.kill_all, exitpriority=10)
            return child

    def give_back(self, key: str, child: Child) -> None:
        """Makes a child available for the next call, unless it was killed permanently."""
        with self._lock:
            if not child.ended:
                self._idle.setdefault(key, []).append(child)

    def kill(self, key: str) -> None:
        """Kills the children of one key; a running call fails."""
        with self._lock:
            children = self._all.pop(key, [])
            self._idle.pop(key, None)
        for child in children:
            child.kill()

    def kill_all(self) -> None:
        """Kills the children of all keys."""
        for key in list(self._all):
            self.kill(key)


_CHILDREN = _Children()
