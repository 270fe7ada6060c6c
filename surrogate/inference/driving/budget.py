"""How many calls of the likelihood a run may make, and how many of them may fail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.inference.state import State
from surrogate.problem.dataset import FAILED

__all__ = ["Budget", "calls"]


@dataclass(frozen=True)
class Budget:
    """Limits of a run.

    Attributes:
        max_evaluations: Calls of the likelihood.
        max_failures: How many of them may fail. None: no limit, but the run ends if the last 20 calls all fail.
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
    """Number of calls of the likelihood that this run has made; earlier evaluations that it was given do not count."""
    return int((state.data.step >= 0).sum())
