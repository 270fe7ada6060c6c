"""Observers of a run: interim chains, the progress display, the user's callback, the trace on disk."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from surrogate.executors.serial import SerialExecutor
from surrogate.inference.conclusion import conclude
from surrogate.inference.driving.asynchronous import useful_workers
from surrogate.inference.driving.budget import calls
from surrogate.inference.driving.run import Observer, Run
from surrogate.inference.driving.saved import write_trace
from surrogate.inference.nuisances import with_amplitudes
from surrogate.inference.setup import design_size
from surrogate.inference.state import State
from surrogate.output.progress import Progress
from surrogate.problem.evaluation import Evaluation
from surrogate.storage.folder import RunFolder

__all__ = ["observers_of"]


def observers_of(run: Run) -> Iterator[Observer]:
    """The observers required by a run's settings and folder."""
    folder, callback = run.folder, run.settings.callback
    if folder is not None:
        yield lambda state: write_trace(folder, state)
        yield _Interim(run, folder)
    if callback is not None:
        yield lambda state: callback(state.rows()[-1]) if len(state.trace) else None
    if run.progress:
        yield _Shown(run)
    yield _Logged()


class _Interim:
    """Writes interim chains in case the run is killed, using a twentieth of the time."""

    def __init__(self, run: Run, folder: RunFolder) -> None:
        self._run = run
        self._folder = folder
        self._next = time.monotonic() + _FIRST_CHAIN

    def __call__(self, state: State) -> None:
        start = time.monotonic()
        if state.parameters is None or state.parameters.temperature > 1.0 or state.verdict.stop or start < self._next:
            return
        try:
            result = conclude(self._run.loop, state, f"interim: {state.verdict.reason}", 2000)
            with_amplitudes(self._run.nuisances, result, state.seed).save(self._folder.chain_root)
        except (ValueError, ArithmeticError) as error:
            warnings.warn(f"no interim chain: {error}", RuntimeWarning, stacklevel=2)
        end = time.monotonic()
        self._next = end + max(_FIRST_CHAIN, 20.0 * (end - start))


_FIRST_CHAIN = 60.0  # seconds before the first interim chain


class _Shown:
    """Shows progress on standard error."""

    def __init__(self, run: Run) -> None:
        used = useful_workers(run.executor, run.loop)
        self._progress = Progress(
            max_evaluations=run.budget.max_evaluations,
            design=None if run.initial else design_size(run.loop.setup),
            workers=1 if isinstance(run.executor, SerialExecutor) else used,
        )
        self._of_outputs: bool | None = None

    def __call__(self, state: State) -> None:
        of_outputs = None if state.parameters is None else state.parameters.of_outputs
        if self._of_outputs is not None and of_outputs != self._of_outputs:
            learned = "outputs are" if of_outputs else "log-likelihood itself is"
            self._progress.say(f"the {learned} learned from now on, because of lower errors at held-out points")
        self._of_outputs = of_outputs
        row: Mapping[str, Any] = state.rows()[-1] if len(state.trace) else {}
        counts = {"n_evaluations": calls(state), "best": state.data.y_max, "step": state.step}
        self._progress.update({**row, **counts, "reason": state.verdict.reason})

    def landed(self, count: int, evaluation: Evaluation) -> None:
        self._progress.called(count, evaluation.y, evaluation.seconds, evaluation.reason)

    def close(self, reason: str) -> None:
        self._progress.close(reason)


class _Logged:
    """Logs to the ``surrogate`` logger, which is silent unless the program configures logging."""

    def __call__(self, state: State) -> None:
        best, reason = state.data.y_max, state.verdict.reason
        _LOG.info("step %d, %d calls, best log-likelihood %.6g: %s", state.step, calls(state), best, reason)

    def landed(self, count: int, evaluation: Evaluation) -> None:
        if evaluation.status == "failed":
            _LOG.warning("call %d failed after %.3g s: %s", count, evaluation.seconds, evaluation.reason)
        else:
            _LOG.debug("call %d: log-likelihood %.6g, %.3g s", count, evaluation.y, evaluation.seconds)

    def close(self, reason: str) -> None:
        _LOG.info("ended: %s", reason)


_LOG = logging.getLogger("surrogate.inference")
