"""Affine maps to coordinates in which given points have zero mean and unit covariance."""

from __future__ import annotations

from collections.abc import Mapping
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
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> Whitening:
        """The map with the saved arrays ``centre``, ``forward`` and ``backward``.

        Raises:
            ValueError: If they are no finite numbers, or their shapes do not fit together.
        """
        centre, forward, backward = (np.asarray(arrays[name], np.float64) for name in ("centre", "forward", "backward"))
        square = (centre.size, centre.size)
        if centre.ndim != 1 or forward.shape != square or backward.shape != square:
            msg = f"a whitening needs shapes (d,), (d, d) and (d, d), got {centre.shape}, {forward.shape} and "
            msg += f"{backward.shape}"
            raise ValueError(msg)
        if not all(np.isfinite(array).all() for array in (centre, forward, backward)):
            msg = "the numbers of a whitening must be finite"
            raise ValueError(msg)
        return cls(centre, forward, backward)

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

    @classmethod
    def of_parts(cls, x: NDArray[np.float64], together: NDArray[np.bool_]) -> Whitening:
        """The map that whitens some columns of points x, with shape (n, d), by ``of``, and scales each of the others.

        Args:
            x: The points.
            together: Mask of the columns that are whitened together, with shape (d,).
        """
        if together.all():
            return cls.of(x)
        parts = [np.flatnonzero(together), *np.flatnonzero(~together)[:, None]]
        centre, (forward, backward) = np.empty(x.shape[1]), np.zeros((2, x.shape[1], x.shape[1]))
        for columns in parts:
            part, block = cls.of(x[:, columns]), np.ix_(columns, columns)
            centre[columns], forward[block], backward[block] = part.centre, part.forward, part.backward
        return cls(centre, forward, backward)

    def whiten(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates u of the points x, both with shape (n, d)."""
        return (x - self.centre) @ self.forward

    def unwhiten(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points x of the coordinates u, both with shape (n, d)."""
        return self.centre + u @ self.backward
