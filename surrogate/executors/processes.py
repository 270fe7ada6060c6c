"""Worker processes that receive a function once when they start."""

from __future__ import annotations

import multiprocessing.util
import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from surrogate.executors.child import Child, payload_of

__all__ = ["ProcessExecutor"]


class ProcessExecutor(Executor):
    """Worker processes that receive a function once when they start, and then only points.

    Each runs one call at a time. If it dies, only that call fails, with a `WorkerDiedError`, and a new process replaces
    it. Workers are spawned, use one thread each unless OMP_NUM_THREADS or a similar variable is set, and end with their
    parent. Leaving a ``with`` statement by an exception kills running calls.

    Args:
        workers: Number of processes.
        function: Function that is submitted most often; others are sent with each call.

    Raises:
        TypeError: If ``function`` cannot be sent to processes.
        RuntimeError: If the processes cannot be started.
    """

    def __init__(self, workers: int, function: Callable[..., Any] | None = None) -> None:
        self.workers = workers
        self._function = function
        payload = payload_of(function)
        self._workers = [Child(payload) for _ in range(workers)]
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="surrogate-worker")
        # Called at exit at the latest, before multiprocessing waits for its children.
        self._kill = multiprocessing.util.Finalize(self, _kill_all, args=(self._workers,), exitpriority=10)
        self._start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future with the result of ``fn(*args, **kwargs)`` in one of the processes."""
        # Each access to a bound method makes a new object, equal but not identical, hence ==. The comparison of other
        # objects may return anything, hence "is True".
        is_known = fn is self._function or (fn == self._function) is True
        return self._threads.submit(self._call, None if is_known else fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes after the submitted calls or, without ``wait``, immediately."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures or not wait)
        if wait:
            for worker in self._workers:
                worker.hang_up()
            for worker in self._workers:
                worker.wait_for_end()
        self._kill()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.shutdown(wait=kind is None)

    def _start(self) -> None:
        """Starts all processes at once, then waits for each."""
        try:
            for worker in self._workers:
                worker.start()
            for worker in self._workers:
                worker.wait_until_ready()
                self._idle.put(worker)
        except BaseException:
            self._kill()
            raise

    def _call(self, fn: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        worker = self._idle.get()
        try:
            succeeded, result = worker.call((fn, args, kwargs))
        finally:
            self._idle.put(worker)
        if succeeded:
            return result
        raise result


def _kill_all(workers: list[Child]) -> None:
    for worker in workers:
        worker.kill()
