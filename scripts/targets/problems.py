"""The package's own targets as a folder of problems for `scripts/bench_posterior.py`.

`PUBLIC` names them; `get(name)` gives an object with `bounds`, `loglike`, `reference(n, seed)` and `logz`, and with
`periodic`, `noise` (the sd that the likelihood declares, or None) and `d`. Reference draws and evidence are exact.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from likelihoods import TARGETS, Target

__all__ = ["PUBLIC", "Problem", "get"]

PUBLIC = (
    "needle6",
    "student4",
    "funnel4",
    "shell3",
    "cliff3",
    "noisy_gaussian4",
    "silent_gaussian4",
    "angle3",
    "torus3",
    "gaussian27",
)
"""The problems of a run without --problems: those that the shared suites lack. `get` knows all of `TARGETS`."""


@dataclass(frozen=True, eq=False)
class Values:
    """Log-likelihoods of points with shape (m, d), or of one point (d,), without the noise that comes with them."""

    target: Target
    vec: bool = True

    def __call__(self, x: np.ndarray) -> float | np.ndarray:
        """Values with shape (m,), or one of them."""
        answer = self.target.log_likelihood(x)
        return answer[0] if isinstance(answer, tuple) else answer


@dataclass(frozen=True, eq=False)
class Problem:
    """A target in the words of the benchmark."""

    name: str
    target: Target

    @property
    def bounds(self) -> np.ndarray:
        """Box of the uniform prior, with shape (d, 2)."""
        return self.target.bounds

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.target.d

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Whether each parameter is an angle."""
        return self.target.periodic

    @property
    def noise(self) -> float | None:
        """Sd of the noise that the likelihood declares."""
        declared = isinstance(self.target.log_likelihood(self.bounds.mean(1)), tuple)
        return self.target.noise if declared else None

    @property
    def loglike(self) -> Values:
        """The log-likelihood."""
        return Values(self.target)

    @property
    def logvol(self) -> float:
        """Log volume of the box."""
        return self.target.log_volume

    @property
    def logz(self) -> float | None:
        """Log of the likelihood's mean over the box."""
        return self.target.log_evidence

    def reference(self, n: int, seed: int) -> np.ndarray:
        """Exact posterior draws, with shape (n, d).

        Raises:
            ValueError: If the target has no sampler.
        """
        if self.target.draw is None:
            msg = f"{self.name} has no exact draws"
            raise ValueError(msg)
        return self.target.draw(n, np.random.default_rng(seed))


def get(name: str) -> Problem:
    """The problem of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in TARGETS:
        msg = f"problem must be one of {', '.join(sorted(TARGETS))}, got {name!r}"
        raise ValueError(msg)
    return Problem(name, TARGETS[name]())
