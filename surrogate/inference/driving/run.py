"""The fixed parts of a run: the loop, the target, the executor, and the rules for stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from surrogate.executors.interruption import StopRequest
from surrogate.executors.serial import SerialExecutor
from surrogate.inference.driving.budget import Budget
from surrogate.inference.driving.saved import save_state
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.settings import Settings
from surrogate.inference.state import State
from surrogate.output.record import Origin
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.nuisances import Nuisances
from surrogate.problem.prior import Prior
from surrogate.problem.target import Posterior
from surrogate.storage.folder import RunFolder

__all__ = ["Observer", "Run", "fresh"]

Observer = Callable[[State], None]
Call = Callable[[NDArray], Evaluation]


@dataclass(frozen=True, eq=False)
class Run:
    """Everything about a run that does not change while it lasts.

    Attributes:
        loop: The algorithm that chooses points.
        posterior: Target to evaluate.
        budget: Limits on the number of calls.
        settings: Further settings.
        stop: Tells whether the run should end early.
        seed: Seed of all random numbers.
        initial: Earlier evaluations.
        progress: Whether to show progress.
        trust: Whether to continue with the evaluations of a folder without checking their likelihood.
        provenance: Identity of the likelihood, as recorded in the folder.
        origin: Origin of the run, for the report.
        began: ``time.monotonic`` at the start of this session.
        executor: Executor of the evaluations.
        call: Function used instead of ``posterior.evaluate``.
        folder: Folder of the journal and the state; None to keep them in memory.
        nuisances: Amplitudes that are integrated out of the target, if there are any.
        observers: Called with each new state after it is on disk; they cannot influence the run.
    """

    loop: PosteriorLoop
    posterior: Posterior
    budget: Budget
    settings: Settings = field(default_factory=Settings)
    stop: StopRequest = field(default_factory=StopRequest)
    seed: int = 0
    initial: Dataset | None = None
    progress: bool = False
    trust: bool = False
    provenance: str = ""
    origin: Origin = field(default_factory=Origin)
    began: float = field(default_factory=time.monotonic)
    executor: Executor = field(default_factory=SerialExecutor)
    call: Call | None = None
    folder: RunFolder | None = None
    observers: Sequence[Observer] = ()
    nuisances: Nuisances | None = None

    def placed(self, executor: Executor, call: Call, folder: RunFolder | None) -> Run:
        """A copy with an executor and a folder; a plain ``call`` is dropped so that vectorised targets get batches."""
        return replace(self, executor=executor, call=call if self.settings.limits.special else None, folder=folder)

    def ask(self, state: State, taken: set[bytes], pending: NDArray | None = None, n: int | None = None) -> NDArray:
        """The next points of the loop, without duplicates and points already evaluated or in flight.

        Such points occur because the loop repeats its choice if nothing has changed, and its draws contain copies.
        """
        with self.stop.interruptible():
            x = fresh(self.loop.ask(state, pending, n), taken)
        if len(x) or state.parameters is not None:
            return x
        known = np.array(
            [np.frombuffer(point) for point in sorted(taken)]
        )  # a design with gaps, started in another mode
        return fresh(self.loop.ask(state, known), taken)

    def tell(self, state: State, x: NDArray, evaluations: list[Evaluation]) -> State:
        """The next state, saved and passed to the observers; raises `Interrupted` if the run should end."""
        with self.stop.interruptible():
            state = self.loop.tell(state, x, evaluations)
        self.keep(state)
        for observe in self.observers:
            observe(state)
        return state

    def keep(self, state: State) -> None:
        """Saves the state, if there is a folder."""
        if self.folder is not None:
            save_state(self.folder, state, self.prior, self.provenance, self.origin_now)

    @property
    def prior(self) -> Prior:
        """The prior of all parameters, those included that are integrated out."""
        return self.loop.prior if self.nuisances is None else self.nuisances.posterior.prior

    @property
    def origin_now(self) -> Origin:
        """The origin with the wall-clock time until now."""
        return replace(self.origin, seconds=self.origin.seconds + time.monotonic() - self.began)

    def landed(self, count: int, evaluation: Evaluation) -> None:
        """Passes a returned call to the observers, from any thread; ``count`` calls have returned so far."""
        for observe in self.observers:
            getattr(observe, "landed", lambda *_: None)(count, evaluation)

    def over(self, state: State) -> str:
        """Why no more points should be evaluated; empty if the run continues."""
        return state.verdict.reason if state.verdict.stop else self.budget.spent(state)


def fresh(x: NDArray, taken: set[bytes]) -> NDArray:
    """The points x, with shape (b, d), without duplicates and points already taken."""
    first = {point.tobytes(): index for index, point in reversed(list(enumerate(x)))}
    return x[sorted(index for point, index in first.items() if point not in taken)]
