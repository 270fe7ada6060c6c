"""Target: a log-likelihood on a box together with what is known about its posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Draw", "RowWise", "Target"]

Array = NDArray[np.floating[Any]]
Draw = Callable[[int, np.random.Generator], Array]


@dataclass(frozen=True)
class RowWise:
    """A density of rows, callable with one point or with many.

    Args:
        density: Function of points with shape (m, d) that returns one value a row, with shape (m,).
        d: Number of parameters.
    """

    density: Callable[[Array], Array]
    d: int

    def __call__(self, x: Array) -> float | Array:
        """Value at one point, with shape (d,), as a float; at many, with shape (m, d), as an array with shape (m,)."""
        points = _points(x, self.d)
        values = self.density(np.atleast_2d(points))
        return float(values[0]) if points.ndim == 1 else values


def _points(x: Array, d: int) -> Array:
    points = np.asarray(x, dtype=np.float64)
    if points.ndim not in (1, 2) or points.shape[-1] != d:
        msg = f"x must have shape ({d},) or (m, {d}), got {points.shape}"
        raise ValueError(msg)
    return points


@dataclass(frozen=True, eq=False)
class Target:
    """A log-likelihood on a box, with a uniform prior, and the exact posterior as far as it is known.

    All functions are built of module-level classes, so that a target may be sent to other processes.

    Args:
        name: Name of the target.
        names: Name of each parameter.
        labels: LaTeX label of each parameter, without dollars.
        bounds: Box of the prior, with shape (d, 2).
        log_likelihood: Natural logarithm of the likelihood: (d,) -> float or (m, d) -> (m,). Targets that
            declare their noise return a pair (value, sd) of such.
        draw: Independent posterior draws, (n, generator) -> (n, d); None where there is no such sampler.
        log_evidence: Natural logarithm of the mean likelihood over the box, or None.
        mean: Posterior mean, with shape (d,), or None.
        covariance: Posterior covariance, with shape (d, d), or None.
        periodic: Whether each parameter is an angle whose two bounds are the same point; all False when empty.
        noise: Sd of the noise in the log-likelihood, declared or not.
    """

    name: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    bounds: Array
    log_likelihood: Callable[..., float | Array | tuple[float, float] | tuple[Array, Array]]
    draw: Draw | None = None
    log_evidence: float | None = None
    mean: Array | None = None
    covariance: Array | None = None
    periodic: tuple[bool, ...] = ()
    noise: float = 0.0

    def __post_init__(self) -> None:
        d = len(self.names)
        if self.bounds.shape != (d, 2):
            msg = f"bounds of {self.name} must have shape ({d}, 2), got {self.bounds.shape}"
            raise ValueError(msg)
        if len(self.labels) != d:
            msg = f"{self.name} must have {d} labels, got {len(self.labels)}"
            raise ValueError(msg)
        if not self.periodic:
            object.__setattr__(self, "periodic", (False,) * d)

    @property
    def d(self) -> int:
        """Number of parameters."""
        return len(self.names)

    @property
    def prior(self) -> dict[str, tuple[float, float]]:
        """Bounds by parameter name."""
        return {name: (float(low), float(high)) for name, (low, high) in zip(self.names, self.bounds, strict=True)}

    @property
    def log_volume(self) -> float:
        """Natural logarithm of the volume of the box."""
        return float(np.log(np.diff(self.bounds, axis=1)).sum())
