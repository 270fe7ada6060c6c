"""Labelling by a function, which is called with rows of the table until the run is over."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surrogate.arrays import Array
from surrogate.executors.evaluate import Flight
from surrogate.executors.interruption import Interrupted, StopRequest
from surrogate.labelling.labelling_run import LabellingRun
from surrogate.labelling.state import OUT, Rows
from surrogate.labelling.table import Table, read_table
from surrogate.problem.evaluation import Evaluation, UnusableError, describe_error

__all__ = ["Oracle", "drive"]

_MOST_FAILED = 20  # consecutive failed rows, as for `surrogate.infer`


@dataclass(frozen=True)
class Oracle:
    """A function that labels the rows of a table.

    Attributes:
        function: Returns the label of a row.
        row: Function from a row number, counted from 0, to the row as ``function`` takes it.
    """

    function: Callable[..., Any]
    row: Callable[[int], Any]

    @classmethod
    def of(cls, function: Callable[..., Any], pool: Any) -> Oracle:
        """An oracle for the rows of a pool: arrays with shape (d,) if the pool is an array, otherwise dicts."""
        return cls(function, _rows(pool))

    def evaluate(self, number: Array) -> Evaluation:
        """The label of the row with this number, given with shape (1,), or the reason why there is none.

        Called by executors. Only KeyboardInterrupt and SystemExit are raised.
        """
        start = time.perf_counter()
        try:
            found = Evaluation(_label(self.function(self.row(int(number[0])))), "ok")
        except Exception as error:  # any exception of a user's function is recorded as a failure
            found = Evaluation.failure(describe_error(error))
        return replace(found, seconds=time.perf_counter() - start, worker=f"{socket.gethostname()}:{os.getpid()}")


def _label(answer: Any) -> float:
    """A finite number, or an array with a single element, as a float; True and False are 1 and 0."""
    shape = tuple(getattr(answer, "shape", ()))
    if math.prod(shape) != 1:
        msg = f"the label is an array with shape {shape}, not one number"
        raise UnusableError(msg)
    item = answer.item() if hasattr(answer, "item") else answer
    if item is None:
        msg = "the label is None (a function without return?)"
        raise UnusableError(msg)
    if isinstance(item, str | bytes | complex) or not hasattr(item, "__float__"):
        msg = f"the label is not a number but {type(item).__name__}: {item!r}"
        raise UnusableError(msg)
    if not math.isfinite(label := float(item)):
        msg = f"the label is {'NaN' if math.isnan(label) else f'{label:+}'}, not a finite number"
        raise UnusableError(msg)
    return label


@dataclass(frozen=True, eq=False)
class _ArrayRows:
    """Rows of an array."""

    array: Array

    def __call__(self, row: int) -> Array:
        return self.array[row].copy()


@dataclass(frozen=True, eq=False)
class _TableRows:
    """Rows of a table as dicts of numbers and text."""

    table: Table

    def __call__(self, row: int) -> dict[str, float | str]:
        return {
            name: column[row] if isinstance(column, list) else float(column[row])
            for name, column in self.table.columns.items()
        }


def _rows(pool: Any) -> Callable[[int], Any]:
    if isinstance(pool, (str, os.PathLike)):
        return _TableRows(read_table(pool))
    if isinstance(pool, np.ndarray):
        return _ArrayRows(np.asarray(pool, dtype=np.float64))
    return _TableRows(Table.of(pool))


def drive(
    run: LabellingRun,
    oracle: Oracle,
    workers: Executor,
    *,
    batch_size: int,
    stop: StopRequest,
    say: Callable[[str], None],
) -> None:
    """Requests and labels rows until the run is over or interrupted; pending rows come first.

    After 20 consecutive failures the run stops, to avoid spending the whole budget on them.

    Args:
        run: The run, which is changed.
        oracle: Labels rows.
        workers: Executor that calls it.
        batch_size: Rows per batch.
        stop: Function that returns whether to stop.
        say: Function called with a sentence after each batch.
    """
    answers = _Recorder(run)
    with contextlib.suppress(Interrupted):
        while True:
            rows = run.state.rows(OUT)
            if not len(rows):
                rows = run.ask(batch_size).rows
            if not len(rows):
                say(run.ending().reason)
                return
            _label_rows(answers, oracle, workers, rows, stop)
            if run.halted:
                say(run.halted)
                return
            if not (end := run.ending()).over:
                say(end.reason)


class _Recorder:
    """Records answers in a run, and stops it after 20 consecutive failures."""

    def __init__(self, run: LabellingRun) -> None:
        self.run = run
        self._failed = 0  # consecutive

    def __call__(self, row: int, evaluation: Evaluation) -> None:
        if evaluation.status == "ok":
            self._failed = 0
            self.run.tell([row], [evaluation.y])
            return
        self._failed += 1
        self.run.fail([row], evaluation.reason)
        if self._failed == _MOST_FAILED:
            self.run.halted = f"the function failed for {_MOST_FAILED} rows in a row: {evaluation.reason}"


def _label_rows(answers: _Recorder, oracle: Oracle, workers: Executor, rows: Rows, stop: StopRequest) -> None:
    """Labels rows and records each answer as it arrives; on exit cancels those that no worker has started."""
    flight = Flight(workers, oracle.evaluate, stop)
    try:
        for row in rows.tolist():
            flight.launch(row, np.array([row]))
            flight.land(answers, wait_for=0)
            if answers.run.halted:
                return
        while flight.in_air and not answers.run.halted:
            flight.land(answers, wait_for=1)
    finally:
        flight.cancel()
    flight.check()
