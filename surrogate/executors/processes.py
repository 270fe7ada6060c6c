"""Worker processes that are given one function at their start."""

from __future__ import annotations

import multiprocessing.util
import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from surrogate.executors.child import Child, payload_of

__all__ = ["ProcessExecutor"]


class ProcessExecutor(Executor):
    """Processes that are given one function at their start, and points alone after that.

    Each works on one call at a time. If it dies, that call alone fails, with a `WorkerDiedError`, and another process
    takes its place. Workers are spawned, use one thread each unless OMP_NUM_THREADS or the like is set, and end with
    their parent. Leaving a ``with`` statement by an exception ends the calls that are running.

    Args:
        workers: Number of processes.
        function: Function that is submitted most; others travel with each call.

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
        # Called at the latest when Python ends, before multiprocessing waits for its children.
        self._kill = multiprocessing.util.Finalize(self, _kill_all, args=(self._workers,), exitpriority=10)
        self._start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future with the result of ``fn(*args, **kwargs)`` in one of the processes."""
        # Bound methods are made anew at each access: equal, not identical. Equality of other things may be anything.
        is_known = fn is self._function or (fn == self._function) is True
        return self._threads.submit(self._call, None if is_known else fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes: when they have done what was submitted or, if not ``wait``, at once."""
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
