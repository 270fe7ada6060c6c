"""Asynchronous evaluation: a new point for each worker as soon as it is free, given the points in flight."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from surrogate.executors.choice import workers_of
from surrogate.executors.evaluate import Flight
from surrogate.inference.driving.journal import RunJournal, evaluated
from surrogate.inference.driving.pace import Pace
from surrogate.inference.driving.run import Run, fresh
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.state import State
from surrogate.problem.evaluation import Evaluation

__all__ = ["Asynchronous", "useful_workers"]


_MOST_ABANDONED = 0.25
"""Share of the probes that a run may abandon at its end."""


class Asynchronous:
    """A point for each worker as soon as it is free, chosen given the points in flight.

    Workers take points from a short queue while the surrogate is fitted. After each fit, points that no worker has
    started are cancelled and chosen anew. A fit waits for as many evaluations as a batch has points. A point is
    launched only once in a run, unless it is cancelled before any worker has started it.

    When a claim waits for probes for further modes alone and three quarters of them have returned, calls that take
    longer than twice the usual time are abandoned: one in nine for log-normal times with a sigma of 1. Results that
    they return before the program ends are written to the journal.
    """

    def __init__(self, run: Run, journal: RunJournal) -> None:
        self._run = run
        self._journal = journal
        self._workers = useful_workers(run.executor, run.loop)
        self._flight = Flight(run.executor, run.call or run.posterior.evaluate, run.stop)
        self._points: dict[int, NDArray] = {}
        self._taken: set[bytes] = set()
        self._numbers = itertools.count()
        self._landed: list[tuple[NDArray, Evaluation]] = []
        self._pace = Pace()
        self.remark = ""
        self.state: State

    @property
    def uncounted(self) -> int:
        """Number of calls that the state does not yet include."""
        return len(self._taken - evaluated(self.state))

    def harvest(self) -> None:
        """Closes the journal; evaluations are written as they arrive, so nothing is left to collect."""
        self._journal.close()

    def run(self, state: State) -> State:
        """Evaluates until the run is over, cancels points that no worker has started, and returns the last state."""
        self.state = state
        untold = self._journal.untold(state)
        self._taken = evaluated(state) | {r.x.tobytes() for r in untold}
        try:
            if untold:
                self._tell([(r.x, r.evaluation) for r in untold])
            self._launch_again()
            while not self._run.over(self.state):
                self._land(self._propose())
                self._tell(self._landed)
        finally:
            self._take_back(self._flight.in_air)
        return self.state

    def _launch_again(self) -> None:
        """Launches the points that were in flight when the run was interrupted; some may have returned since."""
        state = self.state
        if state.pending is not None and not self._run.over(state):
            self._launch(fresh(state.pending, self._taken))

    def _propose(self) -> int:
        """Refills the queue, and returns the number of evaluations for which the next fit waits."""
        state, flight = self.state, self._flight
        start = time.monotonic()
        spare = (
            0 if state.verdict.converged else self._pace.expected(self._workers)
        )  # started while new ones are chosen
        begun = set(flight.in_air) - set(flight.waiting[spare:])
        if self._run.budget.left(state) <= len(begun):
            return self._quota
        n = max(self._workers + self._quota + spare - len(begun), 1)
        pending = self._under_way(begun)
        kept = self._taken - {self._points[number].tobytes() for number in set(flight.in_air) - begun}
        x = self._run.ask(state, kept, pending, None if state.parameters is None else n)
        if state.probes is not None:
            x = x[::-1]  # probes come last, but the run may have to wait for them
        self._take_back(set(flight.in_air) - begun)
        self._launch(fresh(x, self._taken))  # workers have started some while new ones were chosen
        self.state = replace(state, pending=self._under_way(flight.in_air))
        self._run.keep(self.state)
        self._pace.proposed(time.monotonic() - start)
        return self._quota if state.parameters is not None else self._design_quota(len(flight.in_air))

    def _under_way(self, numbers: Iterable[int]) -> NDArray:
        """The points with these numbers, with shape (k, d)."""
        return np.array([self._points[number] for number in numbers]).reshape(-1, self._run.loop.d)

    def _design_quota(self, n: int) -> int:
        """Number of design points for which to wait, in any order, so that no worker is idle before the first fit."""
        return max(int(np.ceil(0.7 * n)), n - self._workers)

    @property
    def _quota(self) -> int:
        return self._run.loop.setup.n_batch

    def _launch(self, x: NDArray) -> None:
        """Launches those of the points, with shape (k, d), that are not taken, as far as the budget allows."""
        room = self._run.budget.left(self.state) - len(self._flight.in_air)
        for point in x[: max(room, 0)]:
            number = next(self._numbers)
            self._points[number] = point
            self._taken.add(point.tobytes())
            self._flight.launch(number, point, self._keep)

    def _take_back(self, numbers: Iterable[int]) -> None:
        """Cancels points that no worker has started, which may then be chosen again."""
        for number in self._flight.cancel(numbers):
            self._taken.discard(self._points[number].tobytes())

    def _land(self, enough: int) -> None:
        """Waits until enough evaluations for a fit have returned, or the others are not worth waiting for."""
        flight = self._flight
        flight.land(self._arrived, wait_for=1, patience=self._patience())
        while self._landed and flight.in_air and len(self._landed) < enough and not self._broken():
            before = len(self._landed)
            flight.land(self._arrived, wait_for=1, patience=self._patience())
            if len(self._landed) == before:
                break
        flight.check()
        if flight.in_air and not self._landed:
            self.remark = f"; {self._pending_probes()} slow probes for further modes were not waited for"
            self.state = replace(self.state, probes=None)

    def _broken(self) -> bool:
        """Whether enough calls have failed to end the run at once, without waiting for the others."""
        return self._run.budget.broken(self.state, [evaluation for _, evaluation in self._landed])

    def _patience(self) -> float | None:
        """Time limit in seconds if the claim waits for probes alone, and for few of them; otherwise None."""
        state = self.state
        if state.probes is None or not state.verdict.converged:
            return None
        if self._pending_probes() > _MOST_ABANDONED * (state.explored + len(state.probes)):
            return None
        return 2.0 * self._pace.call

    def _pending_probes(self) -> int:
        """Number of probes in flight; the end of a run does not wait for other points."""
        probes = self.state.probes
        if probes is None:
            return 0
        return len(probes) - len(self._run.loop.scaled.not_among(probes, self._under_way(self._flight.in_air)))

    def _arrived(self, number: int, evaluation: Evaluation) -> None:
        self._landed.append((self._points[number], evaluation))

    def _keep(self, number: int, evaluation: Evaluation) -> None:
        """Writes an evaluation to disk, in the thread in which it arrives."""
        self._journal.append(self.state.step, None, self._points[number], evaluation)

    def _tell(self, landed: list[tuple[NDArray, Evaluation]]) -> None:
        self._landed = []
        start = time.monotonic()
        points = np.array([x for x, _ in landed]).reshape(-1, self._run.loop.d)
        self.state = self._run.tell(self.state, points, [e for _, e in landed])
        self._pace.told(time.monotonic() - start, [e.seconds for _, e in landed])


def useful_workers(executor: Executor, loop: PosteriorLoop) -> int:
    """Number of points that an asynchronous run keeps in flight: one per worker, at most 4 d.

    Points chosen without the values of more than that many others are hardly better than a space-filling design.
    """
    return min(workers_of(executor) or loop.d, 4 * loop.d)
