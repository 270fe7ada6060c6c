"""Calls in the calling thread, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

__all__ = ["SerialExecutor"]


class SerialExecutor(Executor):
    """An executor that runs each call immediately in the calling thread and returns a finished future."""

    workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future with the result or the exception of ``fn(*args, **kwargs)``; KeyboardInterrupt is raised."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # stored in the future
            future.set_exception(error)
        return future
