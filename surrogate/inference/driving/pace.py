"""Durations of calls and fits."""

from __future__ import annotations

import numpy as np

__all__ = ["Pace"]


class Pace:
    """Durations of calls and of the loop, and the number of points that workers begin while the loop is busy.

    Attributes:
        call: Seconds of a call, the mean of all so far with a greater weight on the last ones.
    """

    def __init__(self) -> None:
        self._busy = self._asking = self.call = 0.0

    def proposed(self, seconds: float) -> None:
        """Records how long it took to choose points."""
        self._asking = seconds

    def told(self, seconds: float, calls: list[float]) -> None:
        """Records how long a fit took, and the durations of the calls that it added."""
        self._busy = seconds + self._asking
        if calls:
            share = 1.0 if self.call == 0.0 else 0.2
            self.call += share * (float(np.mean(calls)) - self.call)

    def expected(self, workers: int) -> int:
        """Expected number of points that workers begin during one fit and proposal; at most one each."""
        if self.call <= 0.0:
            return workers if self._busy else 0
        return min(int(np.ceil(workers * self._busy / self.call)), workers)
