"""The driver of a run; all side effects of a run are in this package.

Killing the process at any moment loses at most the evaluations in flight: the state is written after each batch, and
the journal has the evaluations of an interrupted batch that had returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from surrogate.executors.interruption import Interrupted
from surrogate.inference.driving.asynchronous import Asynchronous
from surrogate.inference.driving.budget import calls
from surrogate.inference.driving.journal import RunJournal
from surrogate.inference.driving.run import Run
from surrogate.inference.driving.synchronous import Synchronous
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.state import State

__all__ = ["Ending", "UnfinishedError", "drive"]


class UnfinishedError(RuntimeError):
    """Raised if a run is interrupted before it has a surrogate."""


@dataclass(frozen=True, eq=False)
class Ending:
    """How a run ended.

    Attributes:
        state: The last state.
        reason: A sentence that says why the run ended.
        interrupted: Whether a signal or the wall-time limit ended the run, rather than the verdict or the budget.
        sampled: The state to draw from: the last one, or, if that has no surrogate, one that includes the returned part
            of an unfinished batch.
        uncounted: Number of calls that are not in the state, because the run did not wait for their results.
        harvest: Function that writes late results of abandoned calls to the journal; later results are dropped.
    """

    state: State
    reason: str
    interrupted: bool
    sampled: State
    uncounted: int
    harvest: Callable[[], None]


def drive(run: Run, state: State, *, asynchronous: bool = False) -> Ending:
    """The ending of a run, after evaluating points until the verdict, the budget, a signal or the time ends it.

    Args:
        run: Problem and settings of the run.
        state: State from which to start.
        asynchronous: Whether each worker gets a new point as soon as it is free, instead of evaluating in batches.
    """
    journal = RunJournal(run.folder, run.loop.prior, state, run.landed)
    run.keep(state)
    run = replace(run, budget=replace(run.budget, earlier=calls(state)))
    scheduler = Asynchronous(run, journal) if asynchronous else Synchronous(run, journal)
    reason = ""
    try:
        state = scheduler.run(state)
    except Interrupted as interruption:
        reason, state = str(interruption), scheduler.state
    except BaseException:
        journal.close()
        raise
    interrupted = bool(reason)
    reason = f"{reason}; last: {state.verdict.reason}" if interrupted else run.over(state) + scheduler.remark
    sampled = _with_journal(run.loop, state, journal) if state.parameters is None else state
    return Ending(state, reason, interrupted, sampled, scheduler.uncounted, scheduler.harvest)


def _with_journal(loop: PosteriorLoop, state: State, journal: RunJournal) -> State:
    """The state including the part of a batch that has returned."""
    untold = journal.untold(state)
    if not untold:
        return state
    return loop.tell(state, np.array([r.x for r in untold]), [r.evaluation for r in untold])
