"""Affine maps to coordinates in which given points have zero mean and unit covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Whitening"]


@dataclass(frozen=True, eq=False)
class Whitening:
    """u = (x - centre) @ forward, with x = centre + u @ backward.

    Attributes:
        centre: With shape (d,).
        forward: With shape (d, d), the inverse of ``backward``.
        backward: With shape (d, d).
    """

    centre: NDArray[np.float64]
    forward: NDArray[np.float64]
    backward: NDArray[np.float64]

    @classmethod
    def identity(cls, d: int) -> Whitening:
        """The map that takes the unit cube to a cube with zero mean and unit variance per axis."""
        side = np.sqrt(12.0)
        return cls(np.full(d, 0.5), np.eye(d) * side, np.eye(d) / side)

    @classmethod
    def of(cls, x: NDArray[np.float64]) -> Whitening:
        """The map that whitens points x with shape (n, d) along their principal axes; n need not exceed d.

        Directions whose standard deviation is below 1e-9 of the widest one are given that width.
        """
        centre = x.mean(0)
        _, singular, axes = np.linalg.svd(x - centre, full_matrices=len(x) <= x.shape[1])
        sd = np.zeros(x.shape[1])
        sd[: len(singular)] = singular / np.sqrt(max(len(x) - 1, 1))
        sd = np.maximum(sd, max(1e-9 * sd.max(), 1e-150))
        return cls(centre, axes.T / sd, sd[:, None] * axes)

    def whiten(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates u of the points x, both with shape (n, d)."""
        return (x - self.centre) @ self.forward

    def unwhiten(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points x of the coordinates u, both with shape (n, d)."""
        return self.centre + u @ self.backward
