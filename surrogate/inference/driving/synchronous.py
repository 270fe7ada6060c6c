"""Evaluation in batches: the next batch is chosen after the last one has returned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from surrogate.executors.evaluate import Flight, evaluate_batch
from surrogate.inference.driving.journal import RunJournal, evaluated
from surrogate.inference.driving.repeats import repeated
from surrogate.inference.driving.run import Run
from surrogate.inference.state import State
from surrogate.problem.evaluation import Evaluation

__all__ = ["Synchronous"]


class Synchronous:
    """Evaluation in batches, which gives the same numbers for any number of workers.

    Attributes:
        state: The latest state.
        remark: Text added to the reason why the run ended.
    """

    def __init__(self, run: Run, journal: RunJournal) -> None:
        self._run = run
        self._journal = journal
        self._left: list[Flight] = []
        self._x = np.empty((0, run.loop.d))
        self._landed: dict[int, Evaluation] = {}
        self.remark = ""
        self.state: State

    def run(self, state: State) -> State:
        """Evaluates batches until the run is over, and returns the last state."""
        self.state = replace(state, pending=None)
        while not self._run.over(self.state):
            proposed = self._run.ask(self.state, evaluated(self.state))
            self._x, done = self._resumed(self.state, proposed)
            done = repeated(self._run.posterior.observables, self.state.data, self._x) | done
            self._landed = dict(done)
            evaluations = evaluate_batch(
                self._run.posterior,
                self._x,
                self._run.executor,
                done=done,
                record=self._keep,
                call=self._run.call,
                stop=self._run.stop,
                left=self._left,
                enough=lambda: self._run.budget.broken(self.state, list(self._landed.values())),
            )
            self.state = self._run.tell(self.state, self._x[sorted(self._landed)], evaluations)
        return self.state

    def _resumed(self, state: State, x: NDArray) -> tuple[NDArray, dict[int, Evaluation]]:
        """The batch that was interrupted, and its evaluations in the journal, by index.

        Points of an asynchronous run, which this mode would not propose, form the batch.
        """
        untold = [r for r in self._journal.untold(state) if r.step <= state.step]
        place = {point.tobytes(): index for index, point in enumerate(x)}
        known = {place.get(r.x.tobytes(), r.index): r for r in untold}
        ours = {r.step for r in untold} <= {state.step} and set(known) <= set(range(len(x)))
        if not ours or len(known) < len(untold):
            x, known = np.array([r.x for r in untold]), dict(enumerate(untold))
        for index, entry in known.items():
            x[index] = entry.x
        x = x[: max([self._run.budget.left(state), *(index + 1 for index in known)])]
        return x, {index: entry.evaluation for index, entry in known.items()}

    @property
    def uncounted(self) -> int:
        """Number of calls that are not in the state."""
        return len(self._journal.untold(self.state)) + sum(flight.unfinished for flight in self._left)

    def harvest(self) -> None:
        """Writes late results of abandoned calls to the journal, and closes it."""
        for flight in self._left:
            flight.harvest(self._keep)
        self._journal.close()

    def _keep(self, index: int, evaluation: Evaluation) -> None:
        self._journal.append(self.state.step, index, self._x[index], evaluation)
        self._landed[index] = evaluation
