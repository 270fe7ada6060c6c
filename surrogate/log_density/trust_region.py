"""The trust region of a surrogate: a box around its data, outside which the log-density is lowered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Flags

__all__ = ["BEND_QUARTIC", "BEND_WIDTH", "TrustRegion"]


BEND_WIDTH = 0.1
"""Distance outside the trust region, in units of its width, at which a log-density is lowered by half a nat."""
BEND_QUARTIC = 0.1
"""Weight of the penalty's square, added to the penalty: a quartic, which outgrows any quadratic trend."""
_PADDING = 0.5  # padding on each side, in units of the box of the points, to allow draws to extrapolate
_PADDING_FLAT = 2.0  # the same along coordinates on which nothing depends, so that one distant point tells enough


@dataclass(frozen=True, eq=False)
class TrustRegion:
    """A box in whitened coordinates.

    Attributes:
        low: Lower corner, with shape (d,).
        high: Upper corner, with shape (d,).
    """

    low: Array
    high: Array

    @classmethod
    def around(cls, u: Array, flat: Flags | None = None) -> TrustRegion:
        """The padded box of points u with shape (n, d).

        Args:
            u: The points.
            flat: Mask of the coordinates on which nothing depends, as far as the points show, with shape (d,).
        """
        low, high = u.min(0), u.max(0)
        padding = _PADDING if flat is None else np.where(flat, _PADDING_FLAT, _PADDING)
        pad = padding * (high - low) + 1e-9
        return cls(low - pad, high + pad)

    @classmethod
    def everywhere(cls, d: int) -> TrustRegion:
        """A region without limits in d dimensions."""
        return cls(np.full(d, -np.inf), np.full(d, np.inf))

    def excess(self, u: Array) -> Array:
        """Distance of each coordinate of u outside the box, with shape (m, d); negative inside."""
        return np.maximum(self.low - u, u - self.high)

    def bent(self, value: Array, u: Array) -> Array:
        """Values at u, lowered by a quartic of the distance outside the box, each with shape (m,)."""
        excess = self.excess(u)
        if not (excess > 0.0).any():
            return value
        bend = ((np.maximum(excess, 0.0) / (BEND_WIDTH * (self.high - self.low))) ** 2).sum(1)
        return value - 0.5 * (bend + (BEND_QUARTIC * bend) ** 2)
