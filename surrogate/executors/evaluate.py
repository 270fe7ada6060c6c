"""Evaluation of a batch of points on any executor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)

import numpy as np

from surrogate.executors.interruption import Interrupted, StopRequest
from surrogate.executors.processes import ProcessExecutor
from surrogate.executors.serial import SerialExecutor
from surrogate.executors.threads import ThreadExecutor
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior

__all__ = ["Flight", "evaluate_batch"]


def evaluate_batch(
    posterior: Posterior,
    x: np.ndarray,
    executor: Executor,
    *,
    done: Mapping[int, Evaluation] | None = None,
    record: Callable[[int, Evaluation], None] = lambda index, evaluation: None,  # noqa: ARG005
    call: Callable[[np.ndarray], Evaluation] | None = None,
    stop: StopRequest | None = None,
    left: list[Flight] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> list[Evaluation]:
    """Evaluations of points with shape (b, d), in the order of the points.

    A vectorised likelihood in a serial executor gets all points in one call.

    Args:
        posterior: Target to evaluate.
        x: Points, with shape (b, d).
        executor: Executor of the calls.
        done: Existing evaluations by index, which are not repeated.
        record: Called with index and evaluation of each point when it returns, in this process and thread.
        call: Function used instead of ``posterior.evaluate``.
        stop: Tells whether the run should end.
        left: Called with the flight if calls are left running.
        enough: Called after each evaluation; if it returns True, the remaining points are not awaited and are missing
            from the list.

    Raises:
        Interrupted: If ``stop`` requests it.
        RuntimeError: If the executor stops working; evaluations returned before that are recorded.
        ValueError: If x does not have shape (b, d).
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != posterior.prior.d:
        msg = f"points must have shape (b, {posterior.prior.d}), got {x.shape}"
        raise ValueError(msg)
    known = dict(done or {})

    def keep(index: int, evaluation: Evaluation) -> None:
        """Records an evaluation, first on disk and then in memory."""
        record(index, evaluation)
        known[index] = evaluation

    missing = [index for index in range(len(x)) if index not in known]
    stop = stop or StopRequest()
    if posterior.vectorized and isinstance(executor, SerialExecutor) and call is None:
        with stop.interruptible():
            evaluations = posterior.evaluate_many(x[missing])
        for index, evaluation in zip(missing, evaluations, strict=True):
            keep(index, evaluation)
        return [known[index] for index in sorted(known)]
    _fly(Flight(executor, call or posterior.evaluate, stop), {index: x[index] for index in missing}, keep, left, enough)
    return [known[index] for index in sorted(known)]


def _fly(
    flight: Flight,
    points: Mapping[int, np.ndarray],
    keep: Callable[[int, Evaluation], None],
    left: list[Flight] | None,
    enough: Callable[[], bool],
) -> None:
    """Launches points and waits for all of them; on an exception passes calls still running to ``left``."""
    try:
        for index, point in points.items():
            flight.launch(index, point)
            flight.land(keep, wait_for=0)
            if enough():
                return
        while flight.in_air and not enough():
            flight.land(keep, wait_for=1)
    finally:
        flight.cancel()
        if left is not None and flight.in_air:
            left.append(flight)
    flight.check()


class Flight:
    """Points submitted to an executor whose evaluations have not returned.

    Args:
        executor: Executor of the calls.
        call: Evaluates one point.
        stop: Tells whether the run should end.
    """

    def __init__(self, executor: Executor, call: Callable[[np.ndarray], Evaluation], stop: StopRequest) -> None:
        self._executor = executor
        self._call = call
        self._stop = stop
        self._pending: dict[Future[Evaluation], int] = {}
        self._launched = 0
        self._lost: list[Exception] = []
        self._errors: list[Exception] = []
        self._unannounced: set[Future[Evaluation]] = set()
        self._announced = threading.Event()
        self._tells = isinstance(executor, _TELLING) or getattr(executor, "tells", False)

    @property
    def in_air(self) -> tuple[int, ...]:
        """Indices of the points that have not returned, in the order of launching."""
        return tuple(self._pending.values())

    @property
    def waiting(self) -> tuple[int, ...]:
        """Indices of launched points that no worker has started, as far as the executor reports."""
        if not self._tells:
            return ()
        return tuple(index for future, index in self._pending.items() if not (future.running() or future.done()))

    @property
    def unfinished(self) -> int:
        """Number of calls in progress."""
        return sum(not future.done() for future in self._pending)

    def launch(self, index: int, x: np.ndarray, returned: Callable[[int, Evaluation], None] | None = None) -> None:
        """Submits a point with shape (d,) to the executor; a serial executor evaluates it before this returns.

        Args:
            index: Index of the point.
            x: The point.
            returned: Called with the evaluation as soon as it returns, in any thread; ``land`` waits until this has
                finished.
        """
        self._launched += 1
        point = np.array(x, dtype=np.float64)
        if isinstance(self._executor, SerialExecutor):
            with self._stop.interruptible():
                future = self._submit(point)
        else:
            future = self._submit(point)
        if returned is not None:
            self._unannounced.add(future)
            future.add_done_callback(lambda done: self._announce(done, index, returned))
        self._pending[future] = index

    def _announce(self, future: Future[Evaluation], index: int, returned: Callable[[int, Evaluation], None]) -> None:
        try:
            if not future.cancelled() and isinstance(answer := _answer(future), Evaluation):
                returned(index, answer)
        except Exception as error:  # raised later by `land`, because exceptions of this thread are not seen
            self._errors.append(error)
        finally:
            self._unannounced.discard(future)
            self._announced.set()

    def land(self, keep: Callable[[int, Evaluation], None], *, wait_for: int, patience: float | None = None) -> None:
        """Passes finished evaluations to ``keep``; waits until there are enough, or none is in flight.

        Args:
            keep: Called with index and evaluation of each point.
            wait_for: Number of evaluations to wait for.
            patience: Maximum seconds to wait; None for no limit.

        Raises:
            Interrupted: If the run should end; evaluations that have returned are passed on first.
        """
        landed, start = 0, time.monotonic()
        while True:
            self._announced.clear()
            for future in [future for future in self._pending if future.done() and future not in self._unannounced]:
                index = self._pending.pop(future)
                landed += 1
                match _answer(future):
                    case Evaluation() as evaluation:
                        keep(index, evaluation)
                    case Interrupted() as interruption:
                        self._stop.request(str(interruption))
                    case error:
                        self._lost.append(error)
            if self._errors:
                raise self._errors[0]
            if reason := self._stop.reason():
                raise Interrupted(reason)
            if landed >= min(wait_for, landed + len(self._pending)):
                return
            if patience is not None and time.monotonic() - start > patience:
                return
            if any(future.done() for future in self._pending):  # finished, but `returned` is still running
                self._announced.wait(_PAUSE)
            else:
                wait(self._pending, timeout=_PAUSE, return_when=FIRST_COMPLETED)

    def harvest(self, keep: Callable[[int, Evaluation], None]) -> None:
        """Passes all finished evaluations to ``keep``, even if the run should end."""
        for future, index in list(self._pending.items()):
            if future.done() and isinstance(answer := _answer(future), Evaluation):
                del self._pending[future]
                keep(index, answer)

    def cancel(self, indices: Iterable[int] | None = None) -> tuple[int, ...]:
        """Cancels points that no worker has started, all or the given ones; returns those that were cancelled."""
        chosen = set(self.in_air if indices is None else indices)
        cancelled = {future: index for future, index in self._pending.items() if index in chosen and future.cancel()}
        for future in cancelled:
            del self._pending[future]
        return tuple(cancelled.values())

    def check(self) -> None:
        """Raises RuntimeError if the executor failed to answer for some points."""
        if self._lost:
            lost = self._lost[0]
            msg = (
                f"the executor {self._executor!r} stopped working: {len(self._lost)} of {self._launched} points have "
                f"no answer ({type(lost).__name__}: {lost}). The others are recorded. Run again to continue from "
                "there; executor='processes:N' replaces processes that die"
            )
            raise RuntimeError(msg) from lost

    def _submit(self, point: np.ndarray) -> Future[Evaluation]:
        try:
            return self._executor.submit(self._call, point)
        except Exception as error:  # evaluations of other points are to be kept first
            future: Future[Evaluation] = Future()
            future.set_exception(BrokenExecutor(f"{type(error).__name__}: {error}"))
            return future


# Executors whose futures report whether they are running.
_TELLING = (SerialExecutor, ThreadExecutor, ProcessExecutor, ThreadPoolExecutor, ProcessPoolExecutor)
_PAUSE = 0.1  # seconds between checks whether the run should end


def _answer(future: Future[Evaluation]) -> Evaluation | Exception | Interrupted:
    """The evaluation, a failed one if the executor failed at this point, or the exception if it was not evaluated."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError, Interrupted) as error:
        return error
    except Exception as error:  # `Posterior.evaluate` raises nothing, so the executor did
        if "pickl" in f"{type(error).__name__} {error}".lower():
            return error
        return Evaluation.failure(f"executor: {type(error).__name__}: {error}")
