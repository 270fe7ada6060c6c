"""Executors from their specification, such as "processes:4"."""

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
    """Context with the executor that ``spec`` describes.

    Args:
        spec: None or "serial"; "threads" or "processes", which use all processors; a number of workers as in
            "threads:4"; or any ``concurrent.futures.Executor``, which is not shut down on exit.
        evaluate: Function to submit, such as ``posterior.evaluate``; processes receive it once when they start.

    Raises:
        TypeError: If ``spec`` has another type, or ``evaluate`` cannot be sent to processes.
        ValueError: If ``spec`` is an unknown string.
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
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_of(executor: Executor) -> int | None:
    """Number of calls that an executor runs at the same time; None if unknown."""
    return getattr(executor, "workers", None) or _workers_of_others(executor)


def _workers_of_others(executor: Executor) -> int | None:
    """Number of workers of an executor of the standard library, mpi4py or dask; None if unknown."""
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
    """Context with an executor of the caller, who shuts it down."""

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
