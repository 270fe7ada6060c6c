"""The budget of a run: how many calls it may make, and how many of them may fail."""

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
        max_failures: How many of them may fail. None: no limit, but the run ends if the last 20 calls all fail.
        earlier: Calls that were made before this run was started again; they do not count as the last ones.
    """

    max_evaluations: int
    max_failures: int | None = None
    earlier: int = 0

    def left(self, state: State) -> int:
        """Number of calls that may still be made."""
        return self.max_evaluations - calls(state)

    def spent(self, state: State) -> str:
        """The reason as a sentence if the budget is used up, otherwise an empty text."""
        if self.left(state) <= 0:
            return f"the budget of {self.max_evaluations} evaluations is used up; last: {state.verdict.reason}"
        return self._failed(state)

    def broken(self, state: State, landed: Sequence[Evaluation]) -> bool:
        """Whether enough calls have failed to end the run, including calls that the state does not yet hold."""
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
        else:  # nothing has worked yet: where the reasons differ, the prior may be mostly unusable
            alike = len({_NUMBER.sub("", reason) for reason in made.reasons[-len(latest) :]}) == 1
            enough = len(latest) >= (_ALL_FAILED if alike else max(_ALL_FAILED, _DESIGNS * d))
        if enough and latest.all():
            return f"each of the last {len(latest)} evaluations failed, something has broken: {made.reasons[-1]}"
        return ""


@dataclass(frozen=True, eq=False)
class _Calls:
    """Which calls of a run failed, in order, and why each of those did."""

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
_DESIGNS = 10  # calls for each parameter that may fail, each for a reason of its own, before there is any value
_NUMBER = re.compile(r"True|False|[-+.\deE]*\d[-+.\deE]*")


def calls(state: State) -> int:
    """Number of calls of the likelihood that this run has made; earlier evaluations that it was given do not count."""
    return int(called(state.data).sum())
