"""Monotone warps of one axis: of inputs with bounds, and of the log-density itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["INPUT_WARPS", "InputWarp", "OutputWarp"]

Array = NDArray[np.float64]

INPUT_WARPS = ("identity", "log", "reflected log", "logit")
"""Kinds of input warps by number: t, log(t - low), -log(high - t), log((t - low) / (high - t))."""

_EDGE = 1e-7  # of the range: points on a face are taken this far inside


@dataclass(frozen=True, eq=False)
class InputWarp:
    """A warp per parameter. The model of the log-density needs no Jacobian: the sampler stays in the original axes.

    Attributes:
        kinds: Numbers of ``INPUT_WARPS``, with shape (d,).
        low: Lower ends of the support, with shape (d,); may be -inf.
        high: Upper ends.
    """

    kinds: NDArray[np.int64]
    low: Array
    high: Array

    @classmethod
    def identity(cls, low: Array, high: Array) -> InputWarp:
        """No warp."""
        return cls(np.zeros(len(low), dtype=np.int64), low, high)

    def allowed(self, parameter: int) -> list[int]:
        """Kinds that the support of a parameter admits."""
        low, high = np.isfinite(self.low[parameter]), np.isfinite(self.high[parameter])
        return [0, *([1] if low else []), *([2] if high else []), *([3] if low and high else [])]

    def forward(self, t: Array) -> Array:
        """Warped coordinates of t, both with shape (m, d)."""
        if not self.kinds.any():
            return t
        out = np.array(t, dtype=np.float64)
        for j in np.flatnonzero(self.kinds):
            out[:, j] = self._column(t[:, j], int(self.kinds[j]), self.low[j], self.high[j])
        return out

    @staticmethod
    def _column(t: Array, kind: int, low: float, high: float) -> Array:
        width = high - low if np.isfinite(high - low) else 1.0
        above, below = np.maximum(t - low, _EDGE * width), np.maximum(high - t, _EDGE * width)
        if kind == 1:
            return np.log(above)
        if kind == 2:
            return -np.log(below)
        return np.log(above / below)


@dataclass(frozen=True)
class OutputWarp:
    """A warp z(y) of the log-density y relative to its maximum, with gap g = -y.

    Positive ``scale`` o compresses depths, z = -o log(1 + g / o): likelihoods that fall faster than a quadratic.
    Negative expands them, z = -o expm1(g / o) with o = -scale: heavy tails. Zero leaves y as it is.
    """

    scale: float = 0.0

    def forward(self, y: Array) -> Array:
        """z(y) for y <= 0."""
        o = abs(self.scale)
        if self.scale > 0:
            return -o * np.log1p(-y / o)
        if self.scale < 0:
            return -o * np.expm1(-y / o)
        return y

    def inverse(self, z: Array) -> Array:
        """y(z); above zero, where no data are, the compressed one saturates at o and the expanded one is linear."""
        o = abs(self.scale)
        if self.scale > 0:
            return -o * np.expm1(np.minimum(-z / o, 600.0))
        if self.scale < 0:
            return np.where(z > 0, z, -o * np.log1p(np.maximum(-z, 0.0) / o))
        return z

    def slope(self, z: Array) -> Array:
        """dy/dz at z."""
        o = abs(self.scale)
        if self.scale > 0:
            return np.exp(np.minimum(-z / o, 600.0))
        if self.scale < 0:
            return 1.0 / (1.0 + np.maximum(-z, 0.0) / o)
        return np.ones_like(z)

    def log_jacobian(self, y: Array) -> float:
        """Sum of log |dz/dy| over the data, which makes evidences of different warps comparable."""
        o = abs(self.scale)
        if self.scale > 0:
            return -float(np.log1p(-y / o).sum())
        if self.scale < 0:
            return float((-y / o).sum())
        return 0.0
