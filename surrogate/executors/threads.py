"""Threads that run calls of the likelihood."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

__all__ = ["ThreadExecutor"]


class ThreadExecutor(Executor):
    """Daemon threads, so that a call that never returns does not keep the process alive.

    Args:
        workers: Number of threads.
        run: Called with each function and its arguments, instead of calling the function directly.
    """

    def __init__(self, workers: int, run: Callable[..., Any] | None = None) -> None:
        self.workers = workers
        self._run = run or _plainly
        self._tasks: queue.SimpleQueue[tuple[Future[Any], tuple[Any, ...], dict[str, Any]] | None] = queue.SimpleQueue()
        self._open = True
        self._threads = [threading.Thread(target=self._work, daemon=True, name="surrogate") for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future with the result of ``fn(*args, **kwargs)`` in one of the threads."""
        if not self._open:
            msg = "cannot schedule new futures after shutdown"
            raise RuntimeError(msg)
        future: Future[Any] = Future()
        self._tasks.put((future, (fn, *args), kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the threads after the submitted calls, and waits for that if ``wait`` is true."""
        self._open = False
        if cancel_futures or not wait:
            self._cancel()
        for _ in self._threads:
            self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.shutdown(wait=kind is None and self._open)

    def _cancel(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                if (task := self._tasks.get_nowait()) is not None:
                    task[0].cancel()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, args, kwargs = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = self._run(*args, **kwargs)
            except BaseException as error:  # stored in the future
                future.set_exception(error)
            else:
                future.set_result(result)
            del task, future, args, kwargs


def _plainly(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)
