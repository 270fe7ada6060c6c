"""Driving the loop: evaluations through an executor, the journal, the state on disk, budgets, observers.

The only side effects of a run are here. Killing it at any moment loses at most the evaluations in flight: the state is
written after each batch, and of a batch that was interrupted the journal holds what had come back.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from surrogate.executors.choice import workers_of
from surrogate.executors.evaluate import Flight, evaluate_batch
from surrogate.executors.interruption import Interrupted, StopRequest
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.state import TRACE_COLUMNS, State
from surrogate.problem.dataset import FAILED
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior
from surrogate.problem.spec import prior_from_text, prior_to_text
from surrogate.problem.target import Posterior
from surrogate.storage.arrays import load_arrays, save_arrays
from surrogate.storage.files import replacing
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Entry

__all__ = [
    "Budget",
    "Course",
    "Ending",
    "UnfinishedError",
    "calls",
    "drive",
    "load_prior",
    "load_state",
    "save_state",
    "useful_workers",
    "write_trace",
]

Observer = Callable[[State], None]


@dataclass(frozen=True)
class Budget:
    """What a run may spend.

    Attributes:
        max_evaluations: Calls of the likelihood.
        max_failures: Calls among them that may fail; None for any number, as long as not every one of the latest does.
    """

    max_evaluations: int
    max_failures: int | None = None

    def left(self, state: State) -> int:
        """Calls that may still be made."""
        return self.max_evaluations - calls(state)

    def spent(self, state: State) -> str:
        """A sentence if the budget is used up, otherwise nothing."""
        if self.left(state) <= 0:
            return f"the budget of {self.max_evaluations} evaluations is used up; last: {state.verdict.reason}"
        return self._failed(state)

    def _failed(self, state: State) -> str:
        own = state.data.step >= 0
        failed = own & (state.data.status == FAILED)
        first = "; ".join([state.data.reasons[i] for i in np.flatnonzero(failed)[:3]])
        if self.max_failures is not None and failed.sum() > self.max_failures:
            return f"{failed.sum()} evaluations failed, {self.max_failures} may; the first ones: {first}"
        latest = failed[own][-max(_ALL_FAILED, 2 * state.data.x.shape[1]) :]
        if state.parameters is not None and len(latest) >= _ALL_FAILED and latest.all():
            last = state.data.reasons[int(np.flatnonzero(failed)[-1])]
            return f"each of the last {len(latest)} evaluations failed, something has broken: {last}"
        return ""


_ALL_FAILED = 20


def calls(state: State) -> int:
    """Calls of the likelihood made by this run; evaluations that were given to it do not count."""
    return int((state.data.step >= 0).sum())


class UnfinishedError(RuntimeError):
    """A run was interrupted before it had a surrogate."""


@dataclass(frozen=True, eq=False)
class Ending:
    """How a run ended.

    Attributes:
        state: The last state.
        reason: A sentence that says why it is the last.
        interrupted: Whether it was a signal or the wall time, and not the verdict or the budget.
        sampled: The state to draw from: the last one, or one that holds a batch that was left too, if the last one
            has no surrogate.
        uncounted: Calls of the likelihood that the state does not hold, because nobody waited for their answers.
        harvest: Puts into the journal what calls that were left running have returned since; later ones are dropped.
    """

    state: State
    reason: str
    interrupted: bool
    sampled: State
    uncounted: int
    harvest: Callable[[], None]


@dataclass(frozen=True, eq=False)
class Course:
    """Everything that a run needs beside its state.

    Attributes:
        loop: How to choose points.
        posterior: What to evaluate.
        executor: Where evaluations run.
        budget: Limits.
        stop: Whether the run is to end early.
        call: Evaluates a point in place of ``posterior.evaluate``.
        folder: Where the journal and the state are kept, if anywhere.
        observers: Called with each new state, after it is on disk; they cannot influence the run.
    """

    loop: PosteriorLoop
    posterior: Posterior
    executor: Executor
    budget: Budget
    stop: StopRequest = field(default_factory=StopRequest)
    call: Callable[[NDArray], Evaluation] | None = None
    folder: RunFolder | None = None
    observers: Sequence[Observer] = ()

    def tell(self, state: State, x: NDArray, evaluations: list[Evaluation]) -> State:
        """The next state, after it is on disk and the observers have seen it."""
        state = self.loop.tell(state, x, evaluations)
        self.keep(state)
        for observe in self.observers:
            observe(state)
        return state

    def keep(self, state: State) -> None:
        """Writes the state to the disk, if there is a folder."""
        if self.folder is not None:
            save_state(self.folder, state, self.loop.prior)

    def over(self, state: State) -> str:
        """Why no more points are to be evaluated; nothing if they are."""
        return state.verdict.reason if state.verdict.stop else self.budget.spent(state)

    def ask(self, state: State, taken: set[bytes], pending: NDArray | None = None, n: int | None = None) -> NDArray:
        """The next points of the loop, none twice and none of those that are taken: evaluated or under way.

        The loop repeats itself where nothing has changed, and its draws hold copies.
        """
        x = _fresh(self.loop.ask(state, pending, n), taken)
        if len(x) or state.parameters is not None:
            return x
        known = np.array([np.frombuffer(point) for point in sorted(taken)])  # a design with gaps, begun in another mode
        return _fresh(self.loop.ask(state, known), taken)


def _fresh(x: NDArray, taken: set[bytes]) -> NDArray:
    """The points x, with shape (b, d), without those that are taken and without copies."""
    first = {point.tobytes(): index for index, point in reversed(list(enumerate(x)))}
    return x[sorted(index for point, index in first.items() if point not in taken)]


def drive(course: Course, state: State, *, asynchronous: bool = False) -> Ending:
    """Runs the loop until its verdict, its budget, a signal or the time ends it.

    Args:
        course: What the run needs.
        state: Where to start.
        asynchronous: Whether each worker gets a new point as soon as it is free, rather than all of them in batches.
    """
    journal = _Journal(course.folder, state)
    course.keep(state)
    run = _Asynchronous(course, journal) if asynchronous else _Synchronous(course, journal)
    reason = ""
    try:
        state = run.run(state)
    except Interrupted as interruption:
        reason, state = str(interruption), run.state
    except BaseException:
        journal.close()
        raise
    interrupted = bool(reason)
    reason = f"{reason}; last: {state.verdict.reason}" if interrupted else course.over(state) + run.remark
    sampled = _with_journal(course.loop, state, journal) if state.parameters is None else state
    return Ending(state, reason, interrupted, sampled, run.uncounted, run.harvest)


def _with_journal(loop: PosteriorLoop, state: State, journal: _Journal) -> State:
    """The state with the part of a batch that has come back."""
    untold = journal.untold(state)
    if not untold:
        return state
    return loop.tell(state, np.array([r.x for r in untold]), [r.evaluation for r in untold])


class _Journal:
    """The evaluations that have come back, on disk if there is a folder; safe to use from several threads."""

    def __init__(self, folder: RunFolder | None, state: State) -> None:
        self._folder = folder
        self._records = [] if folder is None else folder.journal.read()
        self._lock = threading.Lock()
        self._open = True
        self._step = state.step
        self._count = 0

    def append(self, step: int, index: int | None, x: NDArray, evaluation: Evaluation) -> None:
        """Keeps an evaluation, unless the journal is closed; without an index it gets the next one of its step."""
        with self._lock:
            if not self._open:
                return
            if index is None:
                self._count = 0 if step != self._step else self._count
                used = {r.index for r in self._records if r.step == step}
                index = next(i for i in itertools.count(self._count) if i not in used)
                self._step, self._count = step, index + 1
            record = Entry(step, index, np.array(x), evaluation)
            if self._folder is not None:
                self._folder.journal.append(record)
            self._records.append(record)

    def close(self) -> None:
        """The folder may belong to another run from now on: what comes later is dropped."""
        with self._lock:
            self._open = False

    def untold(self, state: State) -> list[Entry]:
        """What the state does not hold, in the order of steps and indices."""
        told = _evaluated(state)
        with self._lock:
            return sorted((r for r in self._records if r.x.tobytes() not in told), key=lambda r: (r.step, r.index))


def _evaluated(state: State) -> set[bytes]:
    """The points that a state knows."""
    return {point.tobytes() for point in state.data.x}


class _Synchronous:
    """Batch after batch: the same numbers for any number of workers."""

    def __init__(self, course: Course, journal: _Journal) -> None:
        self._course = course
        self._journal = journal
        self._left: list[Flight] = []
        self._x = np.empty((0, course.loop.d))
        self.remark = ""
        self.state: State

    def run(self, state: State) -> State:
        """Until the course is over."""
        self.state = replace(state, pending=None)
        while not self._course.over(self.state):
            x, done = self._batch(self.state)
            evaluations = evaluate_batch(
                self._course.posterior,
                x,
                self._course.executor,
                done=done,
                record=self._keep,
                call=self._course.call,
                stop=self._course.stop,
                left=self._left,
            )
            self.state = self._course.tell(self.state, x, evaluations)
        return self.state

    def _batch(self, state: State) -> tuple[NDArray, dict[int, Evaluation]]:
        """The next points, and what the journal knows of them."""
        untold = [r for r in self._journal.untold(state) if r.step <= state.step]
        x = self._course.ask(state, _evaluated(state))
        place = {point.tobytes(): index for index, point in enumerate(x)}
        known = {place.get(r.x.tobytes(), r.index): r for r in untold}
        ours = {r.step for r in untold} <= {state.step} and set(known) <= set(range(len(x)))
        if not ours or len(known) < len(untold):  # of an asynchronous run
            x, known = np.array([r.x for r in untold]), dict(enumerate(untold))
        for index, entry in known.items():
            x[index] = entry.x
        x = x[: max([self._course.budget.left(state), *(index + 1 for index in known)])]
        self._x = x
        return x, {index: entry.evaluation for index, entry in known.items()}

    @property
    def uncounted(self) -> int:
        """Calls that the state does not hold."""
        return len(self._journal.untold(self.state)) + sum(flight.unfinished for flight in self._left)

    def harvest(self) -> None:
        """Keeps what calls that were left have returned, and closes the journal."""
        for flight in self._left:
            flight.harvest(self._keep)
        self._journal.close()

    def _keep(self, index: int, evaluation: Evaluation) -> None:
        self._journal.append(self.state.step, index, self._x[index], evaluation)


class _Asynchronous:
    """A point for each worker as soon as it is free, chosen given the points in flight.

    Workers draw from a short queue of points while the surrogate is fitted. After each fit what nobody has begun is
    taken back and chosen anew. A fit waits for as many answers as a batch has points. A point is launched once in a
    run: it is taken from then on, unless it is taken back before anybody has begun with it.

    Once nothing but probes for further modes is waited for, and three quarters of them have come back, those of which
    nothing is heard for twice the time of a call are given up: of log-normal times with a sigma of 1 that is one in
    nine. What they return before the program ends is in the journal.
    """

    def __init__(self, course: Course, journal: _Journal) -> None:
        self._course = course
        self._journal = journal
        self._workers = useful_workers(course.executor, course.loop)
        self._flight = Flight(course.executor, course.call or course.posterior.evaluate, course.stop)
        self._points: dict[int, NDArray] = {}
        self._taken: set[bytes] = set()
        self._numbers = itertools.count()
        self._landed: list[tuple[NDArray, Evaluation]] = []
        self._pace = _Pace()
        self.remark = ""
        self.state: State

    @property
    def uncounted(self) -> int:
        """Calls that the state does not hold."""
        return len(self._taken - _evaluated(self.state))

    def harvest(self) -> None:
        """Closes the journal, to which answers go by themselves."""
        self._journal.close()

    def run(self, state: State) -> State:
        """Until the course is over; what nobody has begun by then is taken back."""
        self.state = state
        untold = self._journal.untold(state)
        self._taken = _evaluated(state) | {r.x.tobytes() for r in untold}
        try:
            if untold:
                self._tell([(r.x, r.evaluation) for r in untold])
            self._launch_again()
            while not self._course.over(self.state):
                self._land(self._propose())
                self._tell(self._landed)
        finally:
            self._take_back(self._flight.in_air)
        return self.state

    def _launch_again(self) -> None:
        """Launches what was under way when the run ended before: whoever answers by files may have done so since."""
        state = self.state
        if state.pending is not None and not self._course.over(state):
            self._launch(_fresh(state.pending, self._taken))

    def _propose(self) -> int:
        """Fills the queue anew, and returns how many answers the next fit waits for."""
        state, flight = self.state, self._flight
        start = time.monotonic()
        spare = 0 if state.verdict.converged else self._pace.expected(self._workers)  # begun while new ones are chosen
        begun = set(flight.in_air) - set(flight.waiting[spare:])
        if self._course.budget.left(state) <= len(begun):
            return self._quota
        n = max(self._workers + self._quota + spare - len(begun), 1)
        pending = self._under_way(begun)
        kept = self._taken - {self._points[number].tobytes() for number in set(flight.in_air) - begun}
        x = self._course.ask(state, kept, pending, None if state.parameters is None else n)
        if state.probes is not None:
            x = x[::-1]  # the probes come last, and the run may have to wait for them
        self._take_back(set(flight.in_air) - begun)
        self._launch(_fresh(x, self._taken))  # workers have begun with some while new ones were chosen
        self.state = replace(state, pending=self._under_way(flight.in_air))
        self._course.keep(self.state)
        self._pace.proposed(time.monotonic() - start)
        return self._quota if state.parameters is not None else self._design_quota(len(flight.in_air))

    def _under_way(self, numbers: Iterable[int]) -> NDArray:
        """The points of these numbers, with shape (k, d)."""
        return np.array([self._points[number] for number in numbers]).reshape(-1, self._course.loop.d)

    def _design_quota(self, n: int) -> int:
        """How many points of a design are waited for, whichever come first: no worker is idle before the first fit."""
        return max(int(np.ceil(0.7 * n)), n - self._workers)

    @property
    def _quota(self) -> int:
        return self._course.loop.n_batch

    def _launch(self, x: NDArray) -> None:
        """Launches points that are not taken, with shape (k, d), as far as the budget allows."""
        room = self._course.budget.left(self.state) - len(self._flight.in_air)
        for point in x[: max(room, 0)]:
            number = next(self._numbers)
            self._points[number] = point
            self._taken.add(point.tobytes())
            self._flight.launch(number, point, self._keep)

    def _take_back(self, numbers: Iterable[int]) -> None:
        """Points that nobody has begun are free again."""
        for number in self._flight.cancel(numbers):
            self._taken.discard(self._points[number].tobytes())

    def _land(self, enough: int) -> None:
        """Waits until enough has come back for a fit, or nothing more is worth waiting for."""
        flight, patience = self._flight, self._patience()
        flight.land(self._arrived, wait_for=1, patience=patience)
        while self._landed and flight.in_air and len(self._landed) < enough:
            before = len(self._landed)
            flight.land(self._arrived, wait_for=1, patience=patience)
            if len(self._landed) == before:
                break
        flight.check()
        if flight.in_air and not self._landed:
            self.remark = f"; {len(flight.in_air)} slow probes for further modes were not waited for"
            self.state = replace(self.state, probes=None)

    def _patience(self) -> float | None:
        """Seconds after which probes are given up that alone keep the run from its end; None while none are."""
        state = self.state
        if state.probes is None or not state.verdict.converged or state.explored < 3 * len(state.probes):
            return None
        return 2.0 * self._pace.call

    def _arrived(self, number: int, evaluation: Evaluation) -> None:
        self._landed.append((self._points[number], evaluation))

    def _keep(self, number: int, evaluation: Evaluation) -> None:
        """Puts an evaluation on disk, from whatever thread it arrives in."""
        self._journal.append(self.state.step, None, self._points[number], evaluation)

    def _tell(self, landed: list[tuple[NDArray, Evaluation]]) -> None:
        self._landed = []
        start = time.monotonic()
        points = np.array([x for x, _ in landed]).reshape(-1, self._course.loop.d)
        self.state = self._course.tell(self.state, points, [e for _, e in landed])
        self._pace.told(time.monotonic() - start, [e.seconds for _, e in landed])


class _Pace:
    """How long calls take, and how many points workers begin while the loop is busy.

    Attributes:
        call: Seconds of a call, the mean of all so far with a greater weight on the last ones.
    """

    def __init__(self) -> None:
        self._busy = self._asking = self.call = 0.0

    def proposed(self, seconds: float) -> None:
        self._asking = seconds

    def told(self, seconds: float, calls: list[float]) -> None:
        self._busy = seconds + self._asking
        if calls:
            share = 1.0 if self.call == 0.0 else 0.2
            self.call += share * (float(np.mean(calls)) - self.call)

    def expected(self, workers: int) -> int:
        """Points begun during one fit and proposal; at most one each."""
        if self.call <= 0.0:
            return workers if self._busy else 0
        return min(int(np.ceil(workers * self._busy / self.call)), workers)


def useful_workers(executor: Executor, loop: PosteriorLoop) -> int:
    """Points that an asynchronous run keeps in flight: one for each worker, and no more than 4 d.

    Points chosen without the values of more than that many others are hardly better than a space-filling design.
    """
    return min(workers_of(executor) or loop.d, 4 * loop.d)


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
    differing = [new["name"] for new, old in zip(given, saved, strict=False) if _essence(new) != _essence(old)]
    if differing or len(saved) != len(given):
        msg = (
            f"{folder.path} holds a run with other parameters ({', '.join(p['name'] for p in saved)}; differing, in "
            f"this order: {', '.join(differing) or 'their number'}). Choose another folder, or resume=False (--force) "
            "to start anew."
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
