"""The executor that a user's word for it means."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from surrogate.executors.processes import ProcessExecutor
from surrogate.executors.serial import SerialExecutor
from surrogate.executors.threads import ThreadExecutor

__all__ = ["make_executor", "workers_of"]


def make_executor(spec: Any, evaluate: Callable[..., Any] | None = None) -> Executor:
    """The executor that ``spec`` describes, to be used in a ``with`` statement.

    Args:
        spec: None or "serial"; "threads" or "processes", on all processors, or with a number as in "threads:4"; or any
            ``concurrent.futures.Executor``, which is left open when the ``with`` statement ends.
        evaluate: Function to submit, such as ``posterior.evaluate``: processes get it once at their start.

    Raises:
        TypeError: If ``spec`` is something else, or ``evaluate`` cannot be sent to processes.
        ValueError: If it is a string with another meaning.
        RuntimeError: If processes cannot be started.
    """
    if spec is None:
        return SerialExecutor()
    if isinstance(spec, Executor):
        return spec if isinstance(spec, SerialExecutor) else _Borrowed(spec)
    if not isinstance(spec, str):
        msg = f"executor must be {_SPECS} or a concurrent.futures.Executor, got {type(spec).__name__}{_remedy(spec)}"
        raise TypeError(msg)
    kind, workers = _parse(spec)
    if kind == "serial":
        return SerialExecutor()
    if kind == "threads":
        return ThreadExecutor(workers)
    return ProcessExecutor(workers, evaluate)


_SPECS = "None, 'serial', 'threads:N', 'processes:N'"


def _parse(spec: str) -> tuple[str, int]:
    kind, _, number = spec.partition(":")
    known = kind in ("threads", "processes") or spec == "serial"
    if not known or (":" in spec and not (number.isascii() and number.isdigit() and int(number) > 0)):
        msg = f"executor must be {_SPECS} with N >= 1 or a concurrent.futures.Executor, got {spec!r}"
        raise ValueError(msg)
    return kind, int(number) if number else _processors()


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_of(executor: Executor) -> int | None:
    """How many calls an executor runs at the same time; None if it does not tell."""
    return getattr(executor, "workers", None) or _workers_of_others(executor)


def _workers_of_others(executor: Executor) -> int | None:
    """Number of workers of executors of the standard library, mpi4py and dask."""
    for name in ("_max_workers", "num_workers"):
        if isinstance(number := getattr(executor, name, None), int):
            return number
    client = getattr(executor, "_client", None)
    return None if client is None else sum(client.nthreads().values())


def _remedy(spec: Any) -> str:
    if hasattr(spec, "get_executor"):
        return "; give client.get_executor() instead of the client"
    return "; a pool with map alone will not do" if hasattr(spec, "map") else ""


class _Borrowed(Executor):
    """The executor of somebody else, who shuts it down."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @property
    def workers(self) -> int | None:
        return workers_of(self._executor)

    @property
    def tells(self) -> bool:
        own = isinstance(self._executor, ThreadPoolExecutor | ProcessPoolExecutor)
        return own or bool(getattr(self._executor, "tells", False))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._executor.submit(fn, *args, **kwargs)

    def __repr__(self) -> str:
        return repr(self._executor)
