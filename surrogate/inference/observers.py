"""Observers of a run: interim chains, the progress display, the user's callback, the trace on disk."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from surrogate.inference.conclusion import conclude
from surrogate.inference.driving.budget import Budget, calls
from surrogate.inference.driving.run import Observer, Run
from surrogate.inference.driving.saved import write_trace
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.state import State
from surrogate.output.progress import Progress
from surrogate.storage.folder import RunFolder

__all__ = ["observers_of"]


def observers_of(run: Run) -> Iterator[Observer]:
    """The observers that a run's settings and folder ask for."""
    folder, callback = run.folder, run.settings.callback
    if folder is not None:
        yield lambda state: write_trace(folder, state)
        yield _Interim(run.loop, folder)
    if callback is not None:
        yield lambda state: callback(state.rows()[-1]) if len(state.trace) else None
    if run.progress:
        yield _Shown(run.budget)


class _Interim:
    """Writes interim chains of the current surrogate, using a twentieth of the time, in case the run is killed."""

    def __init__(self, loop: PosteriorLoop, folder: RunFolder) -> None:
        self._loop = loop
        self._folder = folder
        self._next = time.monotonic() + _FIRST_CHAIN

    def __call__(self, state: State) -> None:
        start = time.monotonic()
        if state.parameters is None or state.parameters.temperature > 1.0 or state.verdict.stop or start < self._next:
            return
        try:
            conclude(self._loop, state, f"interim: {state.verdict.reason}", 2000).save(self._folder.chain_root)
        except (ValueError, ArithmeticError) as error:
            warnings.warn(f"no interim chain: {error}", RuntimeWarning, stacklevel=2)
        end = time.monotonic()
        self._next = end + max(_FIRST_CHAIN, 20.0 * (end - start))


_FIRST_CHAIN = 60.0  # seconds


class _Shown:
    """Progress on standard error."""

    def __init__(self, budget: Budget) -> None:
        self._progress = Progress(max_evaluations=budget.max_evaluations)

    def __call__(self, state: State) -> None:
        row: Mapping[str, Any] = state.rows()[-1] if len(state.trace) else {}
        counts = {"n_evaluations": calls(state), "best": state.data.y_max, "step": state.step}
        self._progress.update({**row, **counts, "reason": state.verdict.reason})

    def failed(self, reason: str) -> None:
        self._progress.say(f"an evaluation failed: {reason}")

    def close(self, reason: str) -> None:
        self._progress.close(reason)
