"""The front door of labelling: a table of rows, a budget of labels, and somebody or something that labels."""

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

    With an ``oracle`` it is driven to its end (a budget, a target error or a flat curve is needed); without one,
    whoever labels calls ``ask`` and ``tell``.

    Args:
        pool: Path of a CSV or Parquet table, a mapping of names to columns, a DataFrame, or numbers with shape (n, d).
        target: Column of the labels; those that are there are used.
        oracle: Labels a row: takes an array with shape (d,) if the pool is an array, otherwise the row as a dict. What
            it raises, and an answer that is no finite number, is recorded as a row that has failed.
        output: Folder of the run; one that is there is continued.
        columns: What columns are, where inference would be wrong: "categorical", "id", "ignored", "mask", or a list of
            words, which are the steps of an ordinal scale.
        executor: Where the oracle runs, as in ``surrogate.infer``: None, "threads:N", "processes:N", "mpi", or a
            ``concurrent.futures.Executor``.
        batch_size: Rows of a batch, with an oracle.
        progress: Whether to say on standard error how it goes.
        **settings: Those of `surrogate.labelling.settings.LabelSettings`: seed, budget, target_error, flat, audit,
            model, ...

    Returns:
        The run.

    Raises:
        ValueError: If the table or an argument cannot be used; the message holds row and column.
        TypeError: If an argument has a wrong type.
        RuntimeError: If another process works in the output folder.

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
    say = _say if progress else _silent
    return _driven(
        lambda: new_run(pool, target, columns, chosen, output=output),
        lambda state: LabellingRun(recipe_and_pool(pool, target, columns, chosen), state),
        lambda run, workers, stop: drive(run, labels, workers, batch_size=batch_size, stop=stop, say=say),
        labels,
        executor,
    )


def _driven(
    make: Callable[[], LabellingRun],
    copy: Callable[[LabelState], LabellingRun],
    drive: Callable[[LabellingRun, Executor, StopRequest], None],
    oracle: Oracle,
    executor: Any,
) -> LabellingRun:
    """A run that was driven to its end; under MPI by rank 0, the others evaluate and get a copy."""
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


def _silent(words: str) -> None:
    """Discards a message."""
    del words
