"""Processes for tests that kill or signal them: forked from one that has loaded the package, so they start at once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import torch


def begin(function: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseProcess:
    """A process that runs a function of a module, as the leader of a session of its own.

    Its exit code is 0, that of `sys.exit`, 1 after an exception, or minus the signal that killed it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["surrogate.inference.run"])
    process = context.Process(target=_lead, args=(function, args, kwargs))
    process.start()
    return process


def exit_code(process: BaseProcess, timeout: float = 1200.0) -> int:
    """The exit code of a process, once it has ended."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"process {process.pid} did not end in {timeout:g} s")  # noqa: TRY003
    return process.exitcode


def _lead(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    os.setsid()
    torch.set_num_threads(1)
    function(*args, **kwargs)
