"""Couplings of coordinates: bends and scales under which a curved or funnel-shaped log-density becomes a quadratic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from surrogate.arrays import Array, Flags

__all__ = ["STEEPEST", "Coupling", "Couplings"]

Coupling = tuple[str, int, int]
"""A coupling: its kind, "bend" or "scale", and the numbers of the source and the target coordinate."""

STEEPEST = 6.0
"""Largest absolute log scale; a funnel has no evaluations beyond a factor of 400 from which to learn."""
_MISSED = 1e-6  # relative error of a coordinate above which an inverse counts as not found


@dataclass(frozen=True, eq=False)
class Couplings:
    """z_j = (s_j - q_j - sum_i (L_ij s_i + B_ij s_i^2)) exp(-sum_i A_ij s_i), with s = (w - centre) @ frame.

    A bend B_ij subtracts from coordinate j the parabola that it follows along coordinate i; a scale A_ij divides j by a
    width that grows exponentially with i. All couplings act on the original coordinates, so in a chain, where each
    coordinate follows the previous one, every link has separate coefficients: B, and also L if the source is itself a
    target (this shifts the centre of its parabola; otherwise a quadratic of z already describes such a shift). They are
    affine couplings of a fixed form, see Dinh, Sohl-Dickstein & Bengio (2017), arXiv:1605.08803. The log-density is
    modelled, and the sampler stays in the original coordinates, so that neither needs an inverse or a Jacobian.

    Attributes:
        bend: B with shape (d, d), zero where there is no coupling.
        scale: A with shape (d, d).
        linear: L with shape (d, d).
        offset: q with shape (d,), zero for coordinates that are not scaled.
        bends: Mask of the active bends, with shape (d, d).
        scales: Mask of the active scales, with shape (d, d).
        centre: With shape (d,).
        frame: With shape (d, d); diagonal if the couplings are between parameters.
    """

    bend: Array
    scale: Array
    linear: Array
    offset: Array
    bends: Flags
    scales: Flags
    centre: Array
    frame: Array

    @classmethod
    def none(cls, centre: Array, frame: Array) -> Couplings:
        """A set without active couplings."""
        d = len(centre)
        zero, off = np.zeros((d, d)), np.zeros((d, d), dtype=bool)
        return cls(zero, zero, zero, np.zeros(d), off, off, centre, frame)

    @property
    def size(self) -> int:
        """Number of active couplings."""
        return int(self.bends.sum() + self.scales.sum())

    @property
    def pairs(self) -> list[Coupling]:
        """The active couplings."""
        out = [("bend", int(i), int(j)) for i, j in np.argwhere(self.bends)]
        return out + [("scale", int(i), int(j)) for i, j in np.argwhere(self.scales)]

    @property
    def _linears(self) -> Flags:
        acted_upon = np.flatnonzero((self.bends | self.scales).any(0))
        out = np.zeros_like(self.bends)
        out[acted_upon] = self.bends[acted_upon]
        return out

    @property
    def vector(self) -> Array:
        """Active coefficients of B, A and L, and the offsets of the scaled coordinates, with shape (k,)."""
        parts = (self.bend[self.bends], self.scale[self.scales], self.linear[self._linears])
        return np.concatenate([*parts, self.offset[self.scales.any(0)]])

    def at(self, vector: Array) -> Couplings:
        """The same couplings with new coefficients, in the order of ``vector``."""
        masks = (self.bends, self.scales, self._linears, self.scales.any(0))
        ends = np.cumsum([int(mask.sum()) for mask in masks])[:-1]
        filled = []
        for mask, values in zip(masks, np.split(vector, ends), strict=True):
            part = np.zeros(mask.shape)
            part[mask] = values
            filled.append(part)
        return replace(self, bend=filled[0], scale=filled[1], linear=filled[2], offset=filled[3])

    def only(self, pairs: Sequence[Coupling]) -> Couplings:
        """A copy with only these couplings active, with their current coefficients, or zero for new ones."""
        bends, scales = np.zeros_like(self.bends), np.zeros_like(self.scales)
        for kind, source, target in pairs:
            (bends if kind == "bend" else scales)[source, target] = True
        out = replace(self, bends=bends, scales=scales)
        return replace(
            out,
            bend=np.where(bends, self.bend, 0.0),
            scale=np.where(scales, self.scale, 0.0),
            linear=np.where(out._linears, self.linear, 0.0),
            offset=np.where(scales.any(0), self.offset, 0.0),
        )

    def of_parameters(self, kept: Flags) -> Couplings:
        """The couplings whose source and target depend only on the marked parameters; the mask has shape (d,)."""
        whole = np.array([kept[np.flatnonzero(column)].all() for column in self.frame.T])
        return self.only([pair for pair in self.pairs if whole[pair[1]] and whole[pair[2]]])

    def same(self, other: Couplings) -> bool:
        """Whether the same couplings are active, with any coefficients."""
        return bool((self.bends == other.bends).all() and (self.scales == other.scales).all())

    def _parts(self, w: Array) -> tuple[Array, Array, Flags, Array]:
        """s, the factor exp(-sum A s), a mask of where that is not clipped, and z."""
        s = (w - self.centre) @ self.frame
        log_scale = s @ self.scale
        stretch = np.exp(-np.clip(log_scale, -STEEPEST, STEEPEST))
        return (
            s,
            stretch,
            np.abs(log_scale) < STEEPEST,
            (s - self.offset - s @ self.linear - s**2 @ self.bend) * stretch,
        )

    def forward(self, w: Array) -> Array:
        """Coupled coordinates z of points w, both with shape (n, d)."""
        return self._parts(w)[3]

    def inverse(self, z: Array) -> Array:
        """Points w of coupled coordinates z, both with shape (n, d); NaN where d steps do not find one.

        If no coordinate acts on itself through others, each step of this fixed-point iteration finds at least one more.
        """
        s = z
        for _ in range(z.shape[1]):
            with np.errstate(over="ignore", invalid="ignore"):
                stretch = np.exp(np.clip(s @ self.scale, -STEEPEST, STEEPEST))
                s = z * stretch + self.offset + s @ self.linear + s**2 @ self.bend
        w: Array = s @ np.linalg.inv(self.frame) + self.centre
        with np.errstate(over="ignore", invalid="ignore"):
            missed = ~(np.abs(self.forward(w) - z) < _MISSED * (1.0 + np.abs(z))).all(1)
        w[missed] = np.nan
        return w

    def columns(self, w: Array, slope: Array) -> tuple[Array, Array]:
        """Derivatives of a function f(z) with respect to each bend and each scale, active or not.

        Args:
            w: With shape (n, d).
            slope: df/dz there, with the same shape.

        Returns:
            Two arrays with shape (n, d, d), axes point, source, target.
        """
        s, stretch, free, z = self._parts(w)
        return -(s**2)[:, :, None] * (slope * stretch)[:, None], -s[:, :, None] * (slope * z * free)[:, None]

    def jacobian(self, w: Array, slope: Array) -> Array:
        """Derivatives of a function f(z) with slopes df/dz with respect to ``vector``, with shape (n, k)."""
        s, stretch, free, z = self._parts(w)
        by_shift, by_stretch = -slope * stretch, -slope * z * free
        (bi, bj), (si, sj), (li, lj) = (np.nonzero(mask) for mask in (self.bends, self.scales, self._linears))
        parts = (s[:, bi] ** 2 * by_shift[:, bj], s[:, si] * by_stretch[:, sj], s[:, li] * by_shift[:, lj])
        return np.concatenate([*parts, by_shift[:, self.scales.any(0)]], 1)

    def to_array(self) -> Array:
        """All numbers as an array with shape (6 d + 2, d)."""
        masks = self.bends.astype(float), self.scales.astype(float)
        return np.concatenate([self.bend, self.scale, self.linear, self.frame, *masks, [self.offset, self.centre]])

    @staticmethod
    def rows(d: int) -> int:
        """Number of rows of ``to_array``."""
        return 6 * d + 2

    @classmethod
    def of_array(cls, array: Array) -> Couplings:
        """The inverse of ``to_array``."""
        d = array.shape[1]
        bend, scale, linear, frame, bends, scales = array[: 6 * d].reshape(6, d, d)
        return cls(bend, scale, linear, array[6 * d], bends > 0, scales > 0, array[6 * d + 1], frame)
