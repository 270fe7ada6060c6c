"""Durations of calls and fits."""

from __future__ import annotations

import numpy as np

__all__ = ["Pace"]


class Pace:
    """Durations of calls and of the loop, and how many points workers start while the loop is busy.

    Attributes:
        call: Seconds of a call, as a mean with greater weight on recent calls.
    """

    def __init__(self) -> None:
        self._busy = self._asking = self.call = 0.0

    def proposed(self, seconds: float) -> None:
        """Records the duration of choosing points."""
        self._asking = seconds

    def told(self, seconds: float, calls: list[float]) -> None:
        """Records the duration of a fit, and those of the calls that it added."""
        self._busy = seconds + self._asking
        if calls:
            share = 1.0 if self.call == 0.0 else 0.2
            self.call += share * (float(np.mean(calls)) - self.call)

    def expected(self, workers: int) -> int:
        """Expected number of points that workers start during one fit and proposal; at most one per worker."""
        if self.call <= 0.0:
            return workers if self._busy else 0
        return min(int(np.ceil(workers * self._busy / self.call)), workers)
