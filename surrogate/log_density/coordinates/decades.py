"""Logarithms of parameters whose priors span many decades."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Flags

__all__ = ["LEAST", "Decades"]

LEAST = 1e-300
"""Distance from the origin used instead of zero."""


@dataclass(frozen=True, eq=False)
class Decades:
    """The map of some parameters x to log(x - origin); the others are unchanged.

    Attributes:
        origin: With shape (d,), NaN for the unchanged parameters.
    """

    origin: Array

    @property
    def mapped(self) -> Flags:
        """Whether each parameter is mapped, with shape (d,)."""
        return np.isfinite(self.origin)

    def forward(self, x: Array) -> Array:
        """The mapped points, with the shape (..., d) of x; points at or below the origin count as 1e-300 above it."""
        out, columns = np.array(x, dtype=np.float64), self.mapped
        out[..., columns] = np.log(np.maximum(out[..., columns] - self.origin[columns], LEAST))
        return out

    def inverse(self, w: Array) -> Array:
        """The points x of mapped points w, both with shape (..., d); infinite on overflow."""
        out, columns = np.array(w, dtype=np.float64), self.mapped
        with np.errstate(over="ignore"):
            out[..., columns] = self.origin[columns] + np.exp(out[..., columns])
        return out

    def log_slope(self, w: Array) -> Array:
        """Natural logarithms of dx/dw, with the shape of w."""
        return np.where(self.mapped, w, 0.0)
