"""Driving the loop: evaluations through an executor, the journal, the state on disk, budgets, observers.

The only side effects of a run are here. Killing it at any moment loses at most the evaluations in flight: the state is
written after each batch, and of a batch that was interrupted the journal holds what had come back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from surrogate.checkpoint import Record, RunFolder, load_arrays, replacing, save_arrays
from surrogate.executors.evaluate import evaluate_batch
from surrogate.loop import PosteriorLoop
from surrogate.problem import Evaluation, Posterior, Prior
from surrogate.spec import prior_from_text, prior_to_text
from surrogate.state import TRACE_COLUMNS, State

__all__ = ["Budget", "calls", "drive", "load_prior", "load_state", "save_state", "write_trace"]

Observer = Callable[[State], None]


@dataclass(frozen=True)
class Budget:
    """What a run may spend.

    Attributes:
        max_evaluations: Calls of the likelihood.
        max_walltime: Seconds, counted from ``start``; no new batch begins after it.
        start: Reading of ``time.monotonic`` when the run began.
    """

    max_evaluations: int
    max_walltime: float | None = None
    start: float = field(default_factory=time.monotonic)

    def left(self, state: State) -> int:
        """Calls that may still be made."""
        return self.max_evaluations - calls(state)

    def spent(self, state: State) -> str:
        """A sentence if the budget is used up, otherwise nothing."""
        if self.left(state) <= 0:
            return f"the budget of {self.max_evaluations} evaluations is used up; last: {state.verdict.reason}"
        if self.max_walltime is not None and time.monotonic() - self.start >= self.max_walltime:
            return f"the wall time of {self.max_walltime:g} s is used up; last: {state.verdict.reason}"
        return ""


def calls(state: State) -> int:
    """Calls of the likelihood made by this run; evaluations that were given to it do not count."""
    return int((state.data.step >= 0).sum())


def drive(
    loop: PosteriorLoop,
    posterior: Posterior,
    state: State,
    executor: Executor,
    budget: Budget,
    *,
    folder: RunFolder | None = None,
    observers: Sequence[Observer] = (),
) -> tuple[State, str]:
    """Runs the loop until its verdict or its budget ends it.

    Args:
        loop: How to choose points.
        posterior: What to evaluate.
        state: Where to start.
        executor: Where evaluations run.
        budget: Limits.
        folder: Where the journal and the state are kept, if anywhere.
        observers: Called with each new state, after it is on disk; they cannot influence the run.

    Returns:
        The last state and a sentence that says why it is the last.
    """
    returned = [] if folder is None else folder.journal.read()
    if folder is not None:
        save_state(folder, state, loop.prior)
    while not (state.verdict.stop or budget.spent(state)):
        x = loop.ask(state)
        known = {r.index: r for r in returned if r.step == state.step and r.index < len(x)}
        for index, entry in known.items():
            x[index] = entry.x
        x = x[: max([budget.left(state), *(index + 1 for index in known)])]

        def record(index: int, evaluation: Evaluation, step: int = state.step, batch: NDArray = x) -> None:
            if folder is not None:
                folder.journal.append(Record(step, index, batch[index], evaluation))

        done = {index: entry.evaluation for index, entry in known.items()}
        evaluations = evaluate_batch(posterior, x, executor, done=done, record=record)
        state = loop.tell(state, x, evaluations)
        if folder is not None:
            save_state(folder, state, loop.prior)
        for observe in observers:
            observe(state)
    return state, state.verdict.reason if state.verdict.stop else budget.spent(state)


def save_state(folder: RunFolder, state: State, prior: Prior) -> None:
    """Writes the state and the prior, all of it or nothing."""
    save_arrays(folder.state_path, state.to_arrays() | {"prior": np.array(prior_to_text(prior))})


def load_prior(folder: RunFolder) -> Prior:
    """The prior of the run in a folder.

    Raises:
        FileNotFoundError: If there is no state.
        ValueError: If the state is damaged or the prior holds distributions that are not scipy's.
    """
    return prior_from_text(str(load_arrays(folder.state_path)["prior"]))


def load_state(folder: RunFolder, prior: Prior, seed: int | None = None) -> State | None:
    """The state in a folder; None if there is none.

    Raises:
        ValueError: If it is of another prior or seed, or damaged.
    """
    if not folder.state_path.exists():
        return None
    arrays = load_arrays(folder.state_path)
    saved, given = json.loads(str(arrays.pop("prior"))), json.loads(prior_to_text(prior))
    differing = [new["name"] for new in given if _essence(new) not in map(_essence, saved)]
    if differing or len(saved) != len(given):
        msg = (
            f"{folder.path} holds a run with other parameters ({', '.join(p['name'] for p in saved)}; differing: "
            f"{', '.join(differing) or 'their number'}). Choose another folder, or resume=False (--force) to start anew."
        )
        raise ValueError(msg)
    state = State.from_arrays(arrays)
    if seed is not None and state.seed != seed:
        msg = (
            f"{folder.path} holds a run with seed {state.seed}, got seed {seed}. Continue it with its own seed, "
            "choose another folder, or resume=False (--force) to start anew."
        )
        raise ValueError(msg)
    return state


def _essence(entry: dict) -> dict:
    return {k: v for k, v in entry.items() if k != "label"}


def write_trace(folder: RunFolder, state: State) -> None:
    """Writes the table of iterations, one row per step that had a surrogate."""

    lines = [",".join(TRACE_COLUMNS), *(",".join(repr(float(v)) for v in row) for row in state.trace)]
    with replacing(folder.trace_path) as file:
        file.write(("\n".join(lines) + "\n").encode())
