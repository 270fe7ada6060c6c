"""`label`, the entry point of labelling runs: a table, a budget of labels, and a person or function that labels."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from surrogate.executors.choice import make_executor
from surrogate.executors.interruption import StopRequest
from surrogate.executors.mpi import ranks
from surrogate.labelling.labelling_run import LabellingRun
from surrogate.labelling.opening import new_run
from surrogate.labelling.oracle import Oracle, drive
from surrogate.labelling.recipe import recipe_and_pool
from surrogate.labelling.settings import settings_of
from surrogate.labelling.state import LabelState

__all__ = ["label"]


def label(
    pool: Any,
    target: str = "y",
    *,
    oracle: Callable[..., float] | None = None,
    output: str | os.PathLike[str] | None = None,
    columns: Mapping[str, Any] | None = None,
    executor: Any = None,
    batch_size: int = 64,
    progress: bool = True,
    **settings: Any,
) -> LabellingRun:
    """A run that chooses which rows of a table are worth a label.

    With an ``oracle`` the run is completed before this returns; it needs a budget, a target error or a flat curve to
    stop. Without one, call ``ask`` and ``tell`` on the result.

    Args:
        pool: Path of a CSV or Parquet table, a mapping of names to columns, a DataFrame, or numbers with shape (n, d).
        target: Column of the labels; existing labels are used.
        oracle: Function that labels a row: it takes an array with shape (d,) if the pool is an array, otherwise the row
            as a dict. If it raises or returns no finite number, the row is recorded as failed.
        output: Folder of the run; an existing run is continued.
        columns: Kinds of columns, where automatic detection would be wrong: "categorical", "id", "ignored", "mask", or
            the ordered list of an ordinal column's levels.
        executor: Where the oracle runs, as in ``surrogate.infer``: None, "threads:N", "processes:N", "mpi", or a
            ``concurrent.futures.Executor``.
        batch_size: Rows per batch, with an oracle.
        progress: Whether to print progress to standard error.
        **settings: Those of `surrogate.labelling.settings.LabelSettings`: seed, budget, target_error, flat, audit,
            model, ...

    Returns:
        The run.

    Raises:
        ValueError: If the table or an argument is invalid; the message gives row and column.
        TypeError: If an argument has a wrong type.
        RuntimeError: If another process uses the output folder.

    >>> import numpy as np
    >>> import surrogate
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> run = surrogate.label(x, oracle=lambda x: x[0] ** 2 + x[1], budget=40, batch_size=20, progress=False)
    >>> run.state.n_labels
    40
    """
    chosen = settings_of(settings)
    if oracle is None:
        return new_run(pool, target, columns, chosen, output=output)
    if chosen.budget is None and chosen.target_error is None and chosen.flat is None:
        msg = "a run with an oracle needs a stopping rule: give budget=, target_error= or flat="
        raise ValueError(msg)
    labels = Oracle.of(oracle, pool)
    say = _say if progress else _discard
    return _drive(
        lambda: new_run(pool, target, columns, chosen, output=output),
        lambda state: LabellingRun(recipe_and_pool(pool, target, columns, chosen), state),
        lambda run, workers, stop: drive(run, labels, workers, batch_size=batch_size, stop=stop, say=say),
        labels,
        executor,
    )


def _drive(
    make: Callable[[], LabellingRun],
    copy: Callable[[LabelState], LabellingRun],
    drive: Callable[[LabellingRun, Executor, StopRequest], None],
    oracle: Oracle,
    executor: Any,
) -> LabellingRun:
    """A completed run; under MPI rank 0 controls it, and the other ranks evaluate and get a copy."""
    stop, world, own = StopRequest(), ranks(executor), []

    def lead(workers: Executor) -> LabelState:
        own.append(make())
        try:
            drive(own[0], workers, stop)
        except BaseException:
            own[0].close()
            raise
        return own[0].state

    with stop:
        if world is not None:
            state = world.run(oracle.evaluate, lead, stop)
            return own[0] if own else copy(state)
        with make_executor(None if executor == "auto" else executor, oracle.evaluate) as workers:
            lead(workers)
    return own[0]


def _say(words: str) -> None:
    print(f"surrogate: {words}", file=sys.stderr)


def _discard(words: str) -> None:
    """Discards a message."""
    del words
