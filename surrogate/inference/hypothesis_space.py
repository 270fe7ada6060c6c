"""The coordinates in which hypothetical modes are Gaussians: unit coordinates, or those of the known modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array
from surrogate.log_density.coordinates.warps import InputWarp

__all__ = ["STRAIGHT", "HypothesisSpace"]


_STEP = 1e-6  # of finite differences, in unit coordinates


@dataclass(frozen=True, eq=False)
class HypothesisSpace:
    """Coordinates z in which a further mode is taken to be a Gaussian.

    Where bent modes are Gaussians in other coordinates, further ones may be expected to be Gaussians there, too.

    Attributes:
        warp: Map from unit coordinates t to z; None if they are the same.
    """

    warp: InputWarp | None = None

    @classmethod
    def of(cls, warp: InputWarp | None) -> HypothesisSpace:
        """The space of a warp; unit coordinates if the warp changes nothing or has no inverse."""
        if warp is None or not warp.is_invertible or (warp.couplings is None and not warp.chosen):
            return STRAIGHT
        return cls(warp)

    @property
    def is_straight(self) -> bool:
        """Whether z are the unit coordinates."""
        return self.warp is None

    def forward(self, t: Array) -> Array:
        """Coordinates z of points t, both with shape (m, d)."""
        return t if self.warp is None else self.warp.forward(t)

    def inverse(self, z: Array) -> Array:
        """Points t of coordinates z, both with shape (m, d); NaN where there is none."""
        return z if self.warp is None else self.warp.inverse(z)

    def log_volume(self, t: Array) -> Array:
        """Log of |det dt/dz| at points t, with shape (m,), by forward differences along each axis."""
        if self.warp is None:
            return np.zeros(len(t))
        here, d = self.warp.forward(t), t.shape[1]
        slopes = np.stack([(self.warp.forward(t + _STEP * axis) - here) / _STEP for axis in np.eye(d)], 1)
        return np.asarray(-np.linalg.slogdet(slopes)[1])


STRAIGHT = HypothesisSpace()
"""Unit coordinates themselves."""
