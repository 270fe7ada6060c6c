"""Several peaks: a likelihood that is a sum of Gaussians, whose logarithm is part of the mean of a process.

The logarithm of a sum of exponentials of quadratics q_k changes by sum_k r_k dq_k if they change by dq_k, where r_k is
the share of peak k. Given a first fit, the trend of the process is therefore linear in the changes, like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array
from surrogate.gp.means import Gated
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.samplers.mixture import Mixture

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Peaks", "Transform", "depth_weights", "first_gains", "fit_peaks", "fit_transformed", "monomials_of"]


_ROUNDS = 60  # steps of a fit
_DAMPING = 1e-3  # of its first step, relative to the curvature along each coefficient
_LEAST_DAMPING, _MOST_DAMPING = 1e-12, 1e8
_DONE = 1e-10  # relative decrease of the misfit below which a fit ends
_COLLINEAR = 1e-9  # relative singular value below which a combination of a map's coefficients counts as without effect
_FLAT = 1e-6  # least curvature of a peak, relative to its largest one


T = TypeVar("T", bound="Transform")


@dataclass(frozen=True, eq=False)
class Peaks:
    """Quadratics of warped coordinates; the log of the sum of their exponentials describes a log-density.

    Attributes:
        constants: With shape (k,).
        linear: With shape (k, e).
        quadratic: Symmetric and negative definite, with shape (k, e, e).
    """

    constants: Array
    linear: Array
    quadratic: Array

    def __post_init__(self) -> None:
        for name in ("constants", "linear", "quadratic"):  # other layouts round differently
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name)))

    @classmethod
    def of_mixture(cls, mixture: Mixture) -> Peaks:
        """The peaks of the components of a Gaussian mixture."""
        inverse = np.linalg.inv(mixture.factors)
        precision = np.swapaxes(inverse, 1, 2) @ inverse
        linear = np.einsum("kij,kj->ki", precision, mixture.means)
        height = np.log(mixture.weights) - np.linalg.slogdet(mixture.factors)[1]
        return cls(height - 0.5 * (linear * mixture.means).sum(1), linear, -0.5 * precision)

    @classmethod
    def from_array(cls, array: NDArray) -> Peaks:
        """The inverse of ``to_array``.

        Raises:
            ValueError: If the shape is not (k, 1 + e + e^2), or numbers are not finite.
        """
        array = np.asarray(array, np.float64)
        e = 0 if array.ndim != 2 else round(np.sqrt(max(array.shape[1] - 0.75, 0.0)) - 0.5)
        if array.ndim != 2 or array.shape[1] != 1 + e + e * e or not np.isfinite(array).all():
            msg = f"peaks must be finite numbers with shape (k, 1 + e + e^2), got shape {array.shape}"
            raise ValueError(msg)
        return cls(array[:, 0], array[:, 1 : e + 1], array[:, e + 1 :].reshape(-1, e, e))

    def joined(self, other: Peaks) -> Peaks:
        """These peaks and those of another one."""
        names = ("constants", "linear", "quadratic")
        return Peaks(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    def without(self, k: int) -> Peaks:
        """All peaks but the k-th."""
        kept = np.arange(len(self)) != k
        return Peaks(self.constants[kept], self.linear[kept], self.quadratic[kept])

    def like(self, k: int, w: Array, value: float) -> Peaks:
        """One peak of the shape of the k-th, at w with shape (e,), where it has a given value."""
        quadratic = self.quadratic[k : k + 1]
        slope = quadratic @ w
        return Peaks(np.array([value + float(w @ slope[0])]), -2.0 * slope, quadratic)

    def __len__(self) -> int:
        return len(self.constants)

    def to_array(self) -> Array:
        """Constants, linear and quadratic coefficients of each peak, with shape (k, 1 + e + e^2)."""
        return np.concatenate([self.constants[:, None], self.linear, self.quadratic.reshape(len(self), -1)], 1)

    def values(self, w: Array) -> Array:
        """The quadratics at w with shape (m, e), with shape (m, k)."""
        return self.constants + w @ self.linear.T + np.einsum("mi,kij,mj->mk", w, self.quadratic, w, optimize=True)

    def whitened(self, whitening: Whitening) -> Peaks:
        """The same as functions of whitened coordinates u, where w = centre + u @ backward."""
        centre, backward = whitening.centre, whitening.backward
        slope = self.linear + 2.0 * self.quadratic @ centre
        constants = self.constants + self.linear @ centre + (self.quadratic @ centre) @ centre
        return Peaks(constants, slope @ backward.T, backward @ self.quadratic @ backward.T)

    def gated(self) -> Gated:
        """A mean with a quadratic for each peak, in the coordinates of these quadratics."""
        return Gated(tuple(map(tuple, self.to_array())))

    def shares(self, w: Array) -> Array:
        """Shares of the peaks at w, with shape (m, k)."""
        values = self.values(w)
        return np.exp(values - _log_sum(values)[:, None])

    def log_sum(self, w: Array) -> Array:
        """Log of the sum of all peaks at w, with shape (m,)."""
        return _log_sum(self.values(w))


def _log_sum(values: Array) -> Array:
    top = values.max(1)
    return top + np.log(np.exp(values - top[:, None]).sum(1))


class Transform(Protocol):
    """A map of coordinates with coefficients, as couplings and skews are."""

    @property
    def vector(self) -> Array:
        """The coefficients, with shape (k,)."""

    def at(self, vector: Array, /) -> Self:
        """The same map with other coefficients."""

    def forward(self, w: Array, /) -> Array:
        """Coordinates z of points w, both with shape (n, e)."""

    def jacobian(self, w: Array, slope: Array, /) -> Array:
        """Derivatives of a function f(z) with slopes df/dz with respect to the coefficients, with shape (n, k)."""


class _Unchanged:
    """The map that changes nothing."""

    vector = np.empty(0)

    def at(self, _: Array) -> _Unchanged:
        return self

    def forward(self, w: Array) -> Array:
        return w

    def jacobian(self, w: Array, _: Array) -> Array:
        return np.empty((len(w), 0))


def fit_peaks(start: Peaks, w: Array, y: Array, weight: Array) -> Peaks:
    """Peaks whose sum explains values best, by the method of Levenberg and Marquardt.

    Coefficients that the values do not determine stay near the start. O(60 n p^2) for p coefficients of all peaks.

    Args:
        start: Initial peaks.
        w: Points, with shape (n, e).
        y: Values, with shape (n,).
        weight: Weights of the errors, with shape (n,).
    """
    return fit_transformed(start, _Unchanged(), w, y, weight)[0]


def fit_transformed(
    start: Peaks,
    transform: T,
    w: Array,
    y: Array,
    weight: Array,
    *,
    least_decrease: float = _DONE,
) -> tuple[Peaks, T, float]:
    """Peaks and the coordinates in which they are Gaussians, fitted together by the method of `fit_peaks`.

    Args:
        start: Initial peaks, in the transformed coordinates.
        transform: Initial map from w to these.
        w: Points, with shape (n, e).
        y: Values, with shape (n,).
        weight: Weights of the errors, with shape (n,).
        least_decrease: Relative decrease of the misfit in a step below which the fit ends.

    Returns:
        The peaks, the map, and the root mean square of the weighted errors.
    """
    state = _Sum.start(start, transform, w, y, weight)
    damping = _DAMPING
    for _ in range(_ROUNDS):
        jacobian = state.jacobian()
        square, pull = jacobian.T @ jacobian, jacobian.T @ state.error
        diagonal = np.diag(square) + 1e-12 * np.diag(square).max()
        while damping < _MOST_DAMPING:
            step = np.asarray(np.linalg.solve(square + np.diag(damping * diagonal), pull), dtype=np.float64)
            tried = state.moved(step)
            if tried.misfit < state.misfit:
                break
            damping *= 4.0
        else:
            break
        decrease, state = 1.0 - tried.misfit / state.misfit, tried
        damping = max(0.2 * damping, _LEAST_DAMPING)
        if decrease < least_decrease or state.misfit == 0.0:
            break
    return state.peaks, state.transform, float(np.sqrt(state.misfit / len(y)))


def first_gains(peaks: Peaks, transforms: Sequence[T], w: Array, y: Array, weight: Array) -> Array:
    """By how much each of m maps lowers the misfit of peaks to first order, with shape (m,).

    The cost is O(n p^2) for p coefficients of the peaks, and O(n p k) for each map with k coefficients.

    Args:
        peaks: Peaks fitted to the values.
        transforms: Maps that change nothing yet.
        w: Points, with shape (n, e).
        y: Values, with shape (n,).
        weight: Weights of the errors, with shape (n,).
    """
    state = _Sum.start(peaks, _Unchanged(), w, y, weight)
    basis, _ = np.linalg.qr(state.jacobian())
    left, slope, gains = state.error - basis @ (basis.T @ state.error), state.slope(), []
    for transform in transforms:
        columns = transform.jacobian(w, slope)
        columns = columns - basis @ (basis.T @ columns)
        found = columns @ np.linalg.lstsq(columns, left, rcond=_COLLINEAR)[0]
        gains.append(float(found @ found))
    return np.array(gains)


@dataclass(frozen=True, eq=False)
class _Sum(Generic[T]):
    """The log of a sum of peaks in transformed and whitened coordinates u, and its errors.

    Attributes:
        coefficients: Of ``monomials_of`` u, with shape (k, p).
        transform: Map from w to the coordinates that are whitened.
        whitening: Of these, as they were at the start.
        w: Points, with shape (n, e).
        y: Values, with shape (n,).
        weight: Weights of the errors, with shape (n,).
    """

    coefficients: Array
    transform: T
    whitening: Whitening
    w: Array
    y: Array
    weight: Array

    @classmethod
    def start(cls, peaks: Peaks, transform: T, w: Array, y: Array, weight: Array) -> _Sum[T]:
        """The sum of given peaks, shifted so that it agrees with the highest value at its point."""
        whitening = Whitening.of(transform.forward(w))
        first = cls(_coefficients(peaks.whitened(whitening)), transform, whitening, w, y, weight)
        raised = first.coefficients.copy()
        raised[:, 0] += (y - _log_sum(first.values))[np.argmax(y)]
        return replace(first, coefficients=raised)

    @cached_property
    def u(self) -> Array:
        """Whitened coordinates, with shape (n, e)."""
        return self.whitening.whiten(self.transform.forward(self.w))

    @cached_property
    def monomials(self) -> Array:
        """With shape (n, p)."""
        return monomials_of(self.u)

    @cached_property
    def values(self) -> Array:
        """The quadratics, with shape (n, k)."""
        return self.monomials @ self.coefficients.T

    @cached_property
    def error(self) -> Array:
        """Weighted errors, with shape (n,)."""
        return (self.y - _log_sum(self.values)) * self.weight

    @cached_property
    def misfit(self) -> float:
        """Sum of the squared errors; NaN if a point has no transformed coordinates."""
        return float(self.error @ self.error)

    @cached_property
    def shares(self) -> Array:
        """Shares of the peaks times the weights, with shape (n, k)."""
        return np.exp(self.values - _log_sum(self.values)[:, None]) * self.weight[:, None]

    def jacobian(self) -> Array:
        """Derivatives of the weighted sum with respect to all coefficients, those of the map last."""
        of_peaks = (self.shares[:, :, None] * self.monomials[:, None]).reshape(len(self.u), -1)
        if not len(self.transform.vector):
            return of_peaks
        return np.concatenate([of_peaks, self.transform.jacobian(self.w, self.slope())], 1)

    def slope(self) -> Array:
        """Derivatives of the weighted sum with respect to the transformed coordinates, with shape (n, e)."""
        peaks = _of_coefficients(self.coefficients, self.u.shape[1])
        slopes = peaks.linear + 2.0 * np.einsum("ni,kij->nkj", self.u, peaks.quadratic)
        return np.einsum("nk,nkj->nj", self.shares, slopes) @ self.whitening.forward.T

    def moved(self, step: Array) -> _Sum[T]:
        """The sum after a step of all coefficients."""
        size = self.coefficients.size
        transform = self.transform.at(self.transform.vector + step[size:])
        moved = self.coefficients + step[:size].reshape(self.coefficients.shape)
        return replace(self, coefficients=moved, transform=transform)

    @property
    def peaks(self) -> Peaks:
        """The peaks in transformed coordinates."""
        forward = self.whitening.forward
        unwhitened = Whitening(-self.whitening.centre @ forward, self.whitening.backward, forward)
        return _concave(_of_coefficients(self.coefficients, self.u.shape[1])).whitened(unwhitened)


def depth_weights(y: Array) -> Array:
    """Weights of values y <= 0, which fall with their depth: a peak is not exactly Gaussian far out."""
    return 1.0 / (1.0 - y)


def monomials_of(u: Array) -> Array:
    """Monomials up to the second degree at u with shape (n, e), with shape (n, p)."""
    i, j = np.triu_indices(u.shape[1])
    return np.column_stack([np.ones(len(u)), u, u[:, i] * u[:, j]])


def _coefficients(peaks: Peaks) -> Array:
    """Coefficients of ``monomials_of``, with shape (k, p)."""
    i, j = np.triu_indices(peaks.linear.shape[1])
    square = peaks.quadratic[:, i, j] * np.where(i == j, 1.0, 2.0)
    return np.concatenate([peaks.constants[:, None], peaks.linear, square], 1)


def _of_coefficients(x: Array, e: int) -> Peaks:
    i, j = np.triu_indices(e)
    quadratic = np.zeros((len(x), e, e))
    quadratic[:, i, j] = 0.5 * x[:, e + 1 :]
    return Peaks(x[:, 0], x[:, 1 : e + 1], quadratic + np.swapaxes(quadratic, 1, 2))


def _concave(peaks: Peaks) -> Peaks:
    """The peaks, each with curvatures of at least a small share of its largest one about its place."""
    values, vectors = np.linalg.eigh(peaks.quadratic)
    least = -_FLAT * np.abs(values).max(1, keepdims=True)
    bent = np.minimum(values, least)
    return Peaks(peaks.constants, peaks.linear, (vectors * bent[:, None]) @ np.swapaxes(vectors, 1, 2))
