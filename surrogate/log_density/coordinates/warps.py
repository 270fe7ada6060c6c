"""Monotone warps of parameters and of the log-density."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.symmetry import Symmetry

__all__ = ["CIRCLE", "EXPANDED_TO", "FOLDS", "INPUT_WARPS", "InputWarp", "OutputWarp"]


INPUT_WARPS = ("identity", "log", "reflected log", "logit", "circle", "fold", "log fold")
"""Kinds of input warps by number: t, log(t - low), -log(high - t), log((t - low) / (high - t)), the circle, |t - m| and
log |t - m|, with m the middle of the support."""

CIRCLE = INPUT_WARPS.index("circle")

FOLDS = (INPUT_WARPS.index("fold"), INPUT_WARPS.index("log fold"))
"""Kinds for a likelihood that does not depend on which side of the middle a parameter lies, such as on a sign."""

EXPANDED_TO = 0.75
"""Fraction of the largest z of an expanding output warp up to which its inverse is exact: 1.4 times its scale above the
data."""

_EDGE = 1e-7  # distance, relative to the range, by which points on a face are moved inside


@dataclass(frozen=True, eq=False)
class InputWarp:
    """A warp for each parameter; needs no Jacobian and no inverse, since the log-density itself is modelled.

    A periodic parameter, whose support is one period, becomes two coordinates, the cosine and the sine of its angle.
    Any function of these is periodic. A stationary kernel of them is the exp-sine-squared kernel (MacKay 1998,
    "Introduction to Gaussian processes") with a lengthscale for each of two directions. A quadratic of them is a
    trigonometric polynomial of the second order, which describes a von Mises density and its coupling to other
    parameters exactly.

    Attributes:
        kinds: Numbers of ``INPUT_WARPS``, with shape (d,).
        low: Lower ends of the support, with shape (d,); may be -inf.
        high: Upper ends.
        couplings: Couplings of the warped coordinates, or None.
        symmetry: Symmetry by which points are mapped before they are warped, or None.
        shifted: Ends of the logarithms, with shape (2, d), where some lie beyond the support; None if none do.
    """

    kinds: Indices
    low: Array
    high: Array
    couplings: Couplings | None = None
    symmetry: Symmetry | None = None
    shifted: Array | None = None

    @classmethod
    def identity(cls, low: Array, high: Array, periodic: Flags | None = None) -> InputWarp:
        """The identity warp, except for periodic parameters, marked by a mask with shape (d,)."""
        kinds = np.zeros(len(low), dtype=np.int64)
        if periodic is not None:
            kinds[periodic] = CIRCLE
        return cls(kinds, low, high)

    @property
    def size(self) -> int:
        """Number of warped coordinates: one for each parameter, two for a periodic one."""
        return len(self.kinds) + int((self.kinds == CIRCLE).sum())

    @property
    def plain_kinds(self) -> Indices:
        """Default kinds, with shape (d,): the circle for periodic parameters, otherwise the identity."""
        return np.where(self.kinds == CIRCLE, CIRCLE, 0)

    @property
    def chosen(self) -> int:
        """Number of parameters with a warp other than the default."""
        return int((self.kinds != self.plain_kinds).sum())

    @property
    def ends(self) -> Array:
        """Lower and upper ends of the logarithms, with shape (2, d): those of the support unless they are shifted."""
        return np.stack([self.low, self.high]) if self.shifted is None else self.shifted

    @property
    def n_shifted(self) -> int:
        """Number of parameters with a logarithm whose end is shifted."""
        return 0 if self.shifted is None else int((self.shifted != np.stack([self.low, self.high])).any(0).sum())

    def with_kinds(self, kinds: Indices) -> InputWarp:
        """A copy with new kinds, without couplings and shifts of parameters whose kind has changed."""
        kept = kinds == self.kinds
        shifted = None
        if self.shifted is not None and (kept & (self.kinds != 0)).any():
            shifted = np.where(kept, self.shifted, np.stack([self.low, self.high]))
        out = replace(self, kinds=kinds, shifted=shifted)
        return out if self.couplings is None else out.with_couplings(self.couplings.of_parameters(kept))

    def with_end(self, parameter: int, end: float) -> InputWarp:
        """A copy in which a parameter is warped by the logarithm of its distance to an end beyond its support."""
        kinds, shifted = self.kinds.copy(), self.ends.copy()
        above = end > self.high[parameter]
        kinds[parameter], shifted[int(above), parameter] = (2 if above else 1), end
        return replace(self.with_kinds(kinds), shifted=shifted)

    def same(self, other: InputWarp) -> bool:
        """Whether kinds and ends are equal and the same couplings are active, with any coefficients."""
        if (self.kinds != other.kinds).any() or (self.ends != other.ends).any():
            return False
        if self.couplings is None or other.couplings is None:
            return self.couplings is other.couplings
        return self.couplings.same(other.couplings)

    def with_couplings(self, couplings: Couplings | None) -> InputWarp:
        """A copy with these couplings, or without any if none is active."""
        return replace(self, couplings=couplings if couplings is not None and couplings.size else None)

    @property
    def plain(self) -> InputWarp:
        """A copy with default kinds, without couplings and shifted ends."""
        return replace(self, kinds=self.plain_kinds, couplings=None, shifted=None)

    def possible_kinds(self, parameter: int) -> list[int]:
        """Kinds that the support of a parameter allows; for a periodic parameter only the circle."""
        if self.kinds[parameter] == CIRCLE:
            return [CIRCLE]
        low, high = np.isfinite(self.low[parameter]), np.isfinite(self.high[parameter])
        return [0, *([1] if low else []), *([2] if high else []), *([3] if low and high else [])]

    def possible_folds(self, parameter: int) -> tuple[int, ...]:
        """Kinds that fold a parameter in the middle of its support, which must have two ends or none."""
        low, high = np.isfinite(self.low[parameter]), np.isfinite(self.high[parameter])
        return FOLDS if low == high and self.kinds[parameter] != CIRCLE else ()

    @property
    def middle(self) -> Array:
        """Middle m of the support of each parameter, 1/2 where it has not two ends, with shape (d,)."""
        ends = np.isfinite(self.low) & np.isfinite(self.high)
        return np.where(ends, self.low + 0.5 * self._width, 0.5)

    def forward(self, t: Array) -> Array:
        """Warped coordinates (m, size) of t (m, d): cosines replace periodic parameters, sines are further columns."""
        out = self.single(t)
        if self.couplings is None:
            return out
        d = t.shape[1]
        coupled = self.couplings.forward(out[:, :d])
        return coupled if out.shape[1] == d else np.concatenate([coupled, out[:, d:]], 1)

    @property
    def is_invertible(self) -> bool:
        """Whether no two points have the same image and no coordinate is added: no folds, no circles, no symmetry."""
        return bool((self.kinds < CIRCLE).all()) and self.symmetry is None

    def inverse(self, w: Array) -> Array:
        """Points t of warped coordinates, both with shape (m, d); NaN where couplings have no inverse.

        Raises:
            ValueError: If the warp is not invertible.
        """
        if not self.is_invertible:
            msg = "a warp with folds, circles or a symmetry has no inverse"
            raise ValueError(msg)
        single = w if self.couplings is None else self.couplings.inverse(w)
        low, high = self.ends
        out = single.copy()
        for j, kind in enumerate(self.kinds):
            q = single[:, j]
            if kind == 1:
                out[:, j] = low[j] + np.exp(q)
            elif kind == 2:
                out[:, j] = high[j] - np.exp(-q)
            elif kind == 3:
                out[:, j] = low[j] + (high[j] - low[j]) / (1.0 + np.exp(-q))
        return out

    def single(self, t: Array) -> Array:
        """Warped coordinates without couplings, with shape (m, size)."""
        t = t if self.symmetry is None else self.symmetry.forward(t)
        if not self.kinds.any():
            return t
        out = np.empty((len(t), self.size))
        out[:, : t.shape[1]] = t
        for j in np.flatnonzero((self.kinds != 0) & (self.kinds < CIRCLE)):
            out[:, j] = self._column(t[:, j], int(self.kinds[j]), *self.ends[:, j])
        for j in np.flatnonzero(np.isin(self.kinds, FOLDS)):
            distance = np.abs(t[:, j] - self.middle[j])
            out[:, j] = distance if self.kinds[j] == FOLDS[0] else np.log(np.maximum(distance, _EDGE * self._width[j]))
        circles = np.flatnonzero(self.kinds == CIRCLE)
        if len(circles):
            turns = (t[:, circles] - self.low[circles]) / (self.high - self.low)[circles]
            angle = 2.0 * np.pi * (turns - np.floor(turns))  # reduced to one period first, to avoid rounding errors
            out[:, circles], out[:, t.shape[1] :] = np.cos(angle), np.sin(angle)
        return out

    def slopes(self, t: Array) -> Array:
        """Derivative of each warped coordinate at t, with the shape (m, d) of t; negative below a fold.

        Raises:
            ValueError: If a parameter is periodic (its circle also has a radial direction), or there are couplings or a
                symmetry.
        """
        if self.symmetry is not None:
            msg = "derivatives of the log-likelihood cannot be used with a symmetry"
            raise ValueError(msg)
        if self.couplings is not None:
            msg = "derivatives of the log-likelihood cannot be used with couplings"
            raise ValueError(msg)
        if (self.kinds == CIRCLE).any():
            msg = "derivatives with respect to periodic parameters cannot be used"
            raise ValueError(msg)
        out = np.ones_like(t)
        edge = _EDGE * self._width
        low, high = self.ends
        above, below = np.maximum(t - low, edge), np.maximum(high - t, edge)
        side = np.where(t < self.middle, -1.0, 1.0)
        folded = side / np.maximum(np.abs(t - self.middle), edge)
        slopes = (1.0 / above, 1.0 / below, 1.0 / above + 1.0 / below)
        for kind, slope in (*enumerate(slopes, 1), *zip(FOLDS, (side, folded), strict=True)):
            out = np.where(self.kinds == kind, slope, out)
        return out

    @property
    def _width(self) -> Array:
        """Width of the support of each parameter, 1 where it is infinite, with shape (d,)."""
        return np.where(np.isfinite(self.high - self.low), self.high - self.low, 1.0)

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
    """A warp z(y) of the log-density y relative to its maximum, as a function of the depth g = -y.

    A positive ``scale`` o compresses depths, z = -o log(1 + g / o), for likelihoods that fall faster than a quadratic.
    A negative one expands them, z = -o expm1(g / o) with o = -scale, for heavy tails. Zero leaves y unchanged.
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
        """Inverse y(z); above zero, where there are no data, compressing warps saturate and others become linear.

        The best of a few points may lie some nats below the mode, with all of the bulk in between. An expanding warp
        that became linear at the best point would flatten the top of a heavy-tailed density.
        """
        o = abs(self.scale)
        if self.scale > 0:
            return -o * np.expm1(np.minimum(-z / o, 600.0))
        if self.scale < 0:
            end = EXPANDED_TO * o
            return -o * np.log1p(-np.minimum(z, end) / o) + np.maximum(z - end, 0.0) / (1.0 - EXPANDED_TO)
        return z

    def slope(self, z: Array) -> Array:
        """dy/dz at z."""
        o = abs(self.scale)
        if self.scale > 0:
            return np.exp(np.minimum(-z / o, 600.0))
        if self.scale < 0:
            return 1.0 / (1.0 - np.minimum(z, EXPANDED_TO * o) / o)
        return np.ones_like(z)

    def log_jacobian(self, y: Array) -> float:
        """Sum of log |dz/dy| over the data, which makes the evidences of different warps comparable."""
        o = abs(self.scale)
        if self.scale > 0:
            return -float(np.log1p(-y / o).sum())
        if self.scale < 0:
            return float((-y / o).sum())
        return 0.0
