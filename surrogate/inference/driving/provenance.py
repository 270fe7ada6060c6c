"""The identity of a run's likelihood, and checks that a resumed run has the same one."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import shlex
import socket
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.executors.evaluate import evaluate_batch
from surrogate.executors.files import FilesExecutor
from surrogate.inference.driving.run import Run
from surrogate.inference.driving.saved import load_provenance
from surrogate.inference.state import State
from surrogate.output.record import Origin
from surrogate.problem.target import Posterior

__all__ = ["check_provenance", "origin_of", "provenance_of"]

_SAME = 1e-6  # relative difference of one likelihood between compilers and numbers of threads
_SIGMAS = 6.0  # largest difference between two noisy values at one point, in sds
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_REMEDY = (
    "Choose another folder; resume=False (--force) starts again; resume='trust' (--trust) continues with the old "
    "evaluations"
)


def provenance_of(posterior: Posterior) -> str:
    """The name of a likelihood, a hash of its source, and the options that affect its values, as JSON."""
    target = posterior.observables
    given = posterior.log_likelihood if target is None else target.target.simulator
    function = _innermost(given)
    named = function if hasattr(function, "__qualname__") else type(function)
    return json.dumps(
        {
            "name": f"{named.__module__}:{named.__qualname__}",
            "source": _source_hash(given),
            "noise": posterior.noise,
            "gradient": posterior.gradient,
        }
    )


def origin_of(posterior: Posterior, seed: int) -> Origin:
    """The origin of a run of this likelihood, as far as it is known before the run."""
    name = json.loads(provenance_of(posterior))["name"]
    return Origin(likelihood=name, command=_command(), seed=seed, started=time.time(), host=socket.gethostname())


def _command() -> str:
    """The shell command of this process; empty in an interactive session."""
    if hasattr(sys, "ps1") or not sys.argv or sys.argv[0] in ("", "-", "-c") or "ipykernel" in sys.modules:
        return ""
    program = Path(sys.argv[0])
    first = ["python", sys.argv[0]] if program.suffix == ".py" and program.name != "__main__.py" else [program.name]
    if program.name == "__main__.py":
        first = ["python", "-m", program.parent.name]
    return shlex.join([*first, *sys.argv[1:]])


def check_provenance(run: Run, state: State) -> None:
    """Raises ValueError if a run to be resumed had another likelihood.

    If the source of the likelihood has changed or cannot be read, it is called at the best point of the run and must
    give the same value there. This call does not count.

    Raises:
        ValueError: If the likelihood differs, or its noise is declared differently.
        Interrupted: If the run should end.
    """
    if run.folder is None or run.trust:
        return
    text = load_provenance(run.folder)
    if not text:  # a folder of an earlier version
        return
    saved, now = json.loads(text), json.loads(provenance_of(run.posterior))
    for word in ("noise", "gradient"):
        if saved[word] != now[word]:
            msg = f"{run.folder.path} holds a run with {word}={saved[word]}, got {word}={now[word]}. {_REMEDY}"
            raise ValueError(msg)
    if (saved["source"] and saved["source"] == now["source"]) or isinstance(run.executor, FilesExecutor):
        return
    _compare_at_best(run, state, f"{run.folder.path} holds a run of {saved['name']}, got {now['name']}")


def _compare_at_best(run: Run, state: State, names: str) -> None:
    """Compares the likelihood with the recorded value at the best point that the run itself evaluated, if any."""
    data = state.data
    rows = np.flatnonzero(data.finite & (data.step >= 0))
    if not len(rows):
        return
    best = rows[np.argmax(data.y[rows])]
    answer = evaluate_batch(run.posterior, data.x[best : best + 1], run.executor, call=run.call, stop=run.stop)[0]
    tolerance = _SAME * max(1.0, abs(data.y[best])) + _SIGMAS * math.hypot(data.noise[best], answer.noise)
    if answer.status == "ok" and abs(answer.y - data.y[best]) <= tolerance:
        warnings.warn(
            f"{names}; the source has changed, but the value at the best point is the same",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    given = f"{answer.y:.10g}" if answer.status != "failed" else f"a failure ({answer.reason})"
    msg = f"{names}; at its best point the log-likelihood was {data.y[best]:.10g} and is now {given}. {_REMEDY}"
    raise ValueError(msg)


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _source_hash(function: Any) -> str:
    """A hash of the source and of plain values bound to it; empty if the source cannot be read."""
    bound: list[Any] = []
    while isinstance(function, functools.partial):
        bound += [function.args, tuple(sorted(function.keywords.items()))]
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    try:
        source = inspect.getsource(function if hasattr(function, "__qualname__") else type(function))
    except (OSError, TypeError):  # defined interactively, or not Python
        source = "" if code is None else _byte_code(code)
    if not source:
        return ""
    bound.append(getattr(function, "__defaults__", None))
    if code is not None:
        bound.append(code.co_consts)  # distinguishes lambdas on one line
        bound += [_contents(cell) for cell in getattr(function, "__closure__", None) or ()]
    return hashlib.sha256((source + "".join(map(_spelling, bound))).encode()).hexdigest()


def _byte_code(code: types.CodeType) -> str:
    """The byte code of a function and of its inner functions, as text."""
    inner = "".join(_byte_code(value) for value in code.co_consts if isinstance(value, types.CodeType))
    return f"{code.co_code.hex()}{code.co_names}{inner}"


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # an empty closure cell
        return None


def _spelling(value: Any) -> str:
    """Plain values as text; others by their type, because their text may contain memory addresses."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype}{value.shape}{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, tuple):
        return f"({','.join(map(_spelling, value))})"
    return repr(value) if isinstance(value, _PLAIN) else type(value).__qualname__
