"""Logarithms of parameters whose priors span many decades."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Flags

__all__ = ["LEAST", "Decades"]

LEAST = 1e-300
"""Distance from the origin that stands for zero."""


@dataclass(frozen=True, eq=False)
class Decades:
    """The map of some parameters x to log(x - origin); the others stay.

    Attributes:
        origin: With shape (d,), NaN for the parameters that stay.
    """

    origin: Array

    @property
    def mapped(self) -> Flags:
        """Whether each parameter is mapped, with shape (d,)."""
        return np.isfinite(self.origin)

    def forward(self, x: Array) -> Array:
        """The mapped points, with the shape (..., d) of x; a point at or below the origin lies 1e-300 above it."""
        out, columns = np.array(x, dtype=np.float64), self.mapped
        out[..., columns] = np.log(np.maximum(out[..., columns] - self.origin[columns], LEAST))
        return out

    def inverse(self, w: Array) -> Array:
        """The points x of mapped points w, both with shape (..., d); infinite beyond the range of numbers."""
        out, columns = np.array(w, dtype=np.float64), self.mapped
        with np.errstate(over="ignore"):
            out[..., columns] = self.origin[columns] + np.exp(out[..., columns])
        return out

    def log_slope(self, w: Array) -> Array:
        """Natural logarithms of dx/dw, with the shape of w."""
        return np.where(self.mapped, w, 0.0)
