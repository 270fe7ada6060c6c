"""Skews: logarithmic coordinates of one parameter whose end is not known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from surrogate.arrays import Array
from surrogate.log_density.coordinates.whitening import Whitening

__all__ = ["Skew"]


_STRAIGHT = 1e-3  # strength below which the logarithm counts as a line
_SMALL = 1e-4  # of strength times coordinate, below which a series replaces the logarithm
_WITHIN = 0.999  # share of the largest strength for which the end is outside of the support


@dataclass(frozen=True, eq=False)
class Skew:
    """z_j = log(1 + a s_j) / a with s_j = (w_j - centre) / unit; other coordinates stay as they are.

    With a > 0 it is, up to a linear map, the logarithm of the distance to a lower end, centre - unit / a; with a < 0 to
    an upper end. A shifted log-normal posterior becomes a Gaussian, whatever its shift.

    Attributes:
        axis: Number j of the parameter.
        centre: A value of the parameter.
        unit: Unit of s, positive.
        bounds: Lower and upper end of the support; the end of the logarithm lies beyond it.
        strength: a; 0 changes nothing.
    """

    axis: int
    centre: float
    unit: float
    bounds: tuple[float, float]
    strength: float = 0.0

    @property
    def vector(self) -> Array:
        """The strength, with shape (1,)."""
        return np.array([self.strength])

    def at(self, vector: Array) -> Skew:
        """The skew with another strength, or the nearest one that the support allows."""
        below, above = self.centre - self.bounds[0], self.bounds[1] - self.centre
        most = _WITHIN * self.unit / below if below > 0.0 else np.inf
        least = -_WITHIN * self.unit / above if above > 0.0 else -np.inf
        return replace(self, strength=float(np.clip(vector[0], least, most)))

    @property
    def is_line(self) -> bool:
        """Whether the strength is so small that the map is hardly bent; its end is far away then."""
        return abs(self.strength) < _STRAIGHT

    @property
    def end(self) -> float:
        """The end of the logarithm; infinite for a strength of 0."""
        return self.centre - self.unit / self.strength if self.strength else -np.inf

    def logarithm(self, d: int) -> Whitening:
        """The affine map from z with shape (n, d) to log(w_j - end), or -log(end - w_j), and the other coordinates.

        Raises:
            ValueError: If the strength is 0.
        """
        if not self.strength:
            msg = "a skew of strength 0 has no logarithm"
            raise ValueError(msg)
        size = abs(self.strength)
        centre, diagonal = np.zeros(d), np.ones(d)
        centre[self.axis], diagonal[self.axis] = np.log(size / self.unit) / self.strength, 1.0 / size
        return Whitening(centre, np.diag(1.0 / diagonal), np.diag(diagonal))

    def forward(self, w: Array) -> Array:
        """Coordinates z of points w, both with shape (n, d)."""
        s = (w[:, self.axis] - self.centre) / self.unit
        q = self.strength * s
        out = w.copy()
        with np.errstate(divide="ignore", invalid="ignore"):
            out[:, self.axis] = np.where(
                np.abs(q) < _SMALL, s * (1.0 - q / 2.0 + q**2 / 3.0), np.log1p(q) / self.strength
            )
        return out

    def jacobian(self, w: Array, slope: Array) -> Array:
        """Derivatives of a function f(z) with slopes df/dz with respect to ``vector``, with shape (n, 1)."""
        s = (w[:, self.axis] - self.centre) / self.unit
        q = self.strength * s
        with np.errstate(divide="ignore", invalid="ignore"):
            exact = (q / (1.0 + q) - np.log1p(q)) / self.strength**2
        by_strength = np.where(np.abs(q) < _SMALL, s**2 * (2.0 * q / 3.0 - 0.5), exact)
        return (slope[:, self.axis] * by_strength)[:, None]
