"""The budget of a run: how many calls it may make and how many may fail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Flags
from surrogate.inference.driving.repeats import called
from surrogate.inference.state import State
from surrogate.problem.dataset import FAILED
from surrogate.problem.evaluation import Evaluation

__all__ = ["Budget", "calls"]


@dataclass(frozen=True)
class Budget:
    """Limits of a run.

    Attributes:
        max_evaluations: Calls of the likelihood.
        max_failures: How many calls may fail. None for no limit; but the run ends if the last 20 calls all fail.
        earlier: Number of calls made before the run was resumed, which do not count among the last 20.
    """

    max_evaluations: int
    max_failures: int | None = None
    earlier: int = 0

    def left(self, state: State) -> int:
        """Number of calls that remain."""
        return self.max_evaluations - calls(state)

    def spent(self, state: State) -> str:
        """A sentence that says that the budget is used up, or an empty text."""
        if self.left(state) <= 0:
            return f"the budget of {self.max_evaluations} evaluations is used up; last: {state.verdict.reason}"
        if state.step - int(state.data.step.max(initial=-1)) > _IDLE:
            return f"no new point was found in {_IDLE} iterations; last: {state.verdict.reason}"
        return self._failed(state)

    def broken(self, state: State, landed: Sequence[Evaluation]) -> bool:
        """Why failed calls end the run, or an empty text; includes calls that are not yet in the state."""
        return bool(self._judged(_Calls.of(state).followed_by(landed), state))

    def _failed(self, state: State) -> str:
        return self._judged(_Calls.of(state), state)

    def _judged(self, made: _Calls, state: State) -> str:
        count = int(made.failed.sum())
        if self.max_failures is not None and count > self.max_failures:
            first = "; ".join(made.reasons[:3])
            return f"{count} evaluations failed, {self.max_failures} may; the first ones: {first}"
        d, latest = state.data.d, made.failed[self.earlier :]
        if not len(latest) or not latest.all():
            latest = latest[-max(_ALL_FAILED, 2 * d) :]
            enough = len(latest) >= _ALL_FAILED and state.parameters is not None
        else:  # nothing has worked yet; if reasons differ, most of the prior may be unusable
            alike = len({_NUMBER.sub("", reason) for reason in made.reasons[-len(latest) :]}) == 1
            enough = len(latest) >= (_ALL_FAILED if alike else max(_ALL_FAILED, _DESIGNS * d))
        if enough and latest.all():
            return f"each of the last {len(latest)} evaluations failed, something has broken: {made.reasons[-1]}"
        return ""


@dataclass(frozen=True, eq=False)
class _Calls:
    """The calls of a run in order: whether each failed, and why."""

    failed: Flags
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, state: State) -> _Calls:
        own = np.flatnonzero(state.data.step >= 0)
        failed = state.data.status[own] == FAILED
        return cls(failed, tuple(state.data.reasons[i] for i in own[failed]))

    def followed_by(self, landed: Sequence[Evaluation]) -> _Calls:
        failed = np.array([e.status == "failed" for e in landed], dtype=bool)
        return _Calls(np.append(self.failed, failed), (*self.reasons, *(e.reason for e in landed if e.reason)))


_ALL_FAILED = 20
_IDLE = 20  # iterations without an evaluation after which another one would not find a new point either
_DESIGNS = 10  # calls per parameter that may fail for different reasons before there is any value
_NUMBER = re.compile(r"True|False|[-+.\deE]*\d[-+.\deE]*")


def calls(state: State) -> int:
    """Number of likelihood calls of this run, without evaluations that it was given."""
    return int(called(state.data).sum())
