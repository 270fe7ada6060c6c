"""Corrections of a quadratic along a few directions, where a comparison is no quadratic.

The remainder r(z), the comparison minus its quadratic, often depends on few combinations of the components: a
log-normal density of one mean of the outputs depends on one. These are the main directions of its slopes at some
points. r is approximated by a sum of functions of one of these coordinates each, which follow it to where it is deep,
and by radial functions of all of them for what the sum leaves near the best evaluations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.distance import cdist

from surrogate.arrays import Array

__all__ = ["Correction", "Ridge", "corrected"]


_DEEP = 25.0  # nats below the quadratic to which a remainder is followed ...
_FARTHEST = 10.0  # ... or sds
_STEP = 0.5  # sds between the points at which its ends are searched
_HALVINGS = 5  # of the last step, towards an edge beyond which the likelihood is zero
_NODES = 21  # of the spline on each side
_DIFFERENCE = 1e-3  # step of the slopes, in sds
_MOST_POINTS = 12  # at which slopes are computed ...
_PER_DEPTH = 0.2  # ... and their loss of weight with each nat below the centre
_MOST = 3  # directions ...
_LEAST = 0.01  # ... and the least strength of one, relative to the first
_DESIGN = 48  # random points for what ridges leave, on lines between evaluations ...
_BETWEEN = 1.0  # ... in units of their distances, from one of them ...
_AROUND = 0.5  # ... and by sds to the side
_WIDTHS = (0.7, 1.5, 3.0)  # of radial functions, among which leave-one-out errors choose
_NUGGET = 1e-6


@dataclass(frozen=True, eq=False)
class Ridge:
    """A function of one coordinate, a cubic spline; beyond its ends it is constant.

    Attributes:
        nodes: Ascending coordinates, with shape (k,).
        values: Values there, with shape (k,).
    """

    nodes: Array
    values: Array

    @cached_property
    def _spline(self) -> CubicSpline:
        return CubicSpline(self.nodes, self.values)

    def derivatives(self, t: Array) -> tuple[Array, Array, Array]:
        """Values, slopes and curvatures at coordinates with shape (m,), each with shape (m,)."""
        inside = np.clip(t, self.nodes[0], self.nodes[-1])
        known = inside == t
        value, slope, curvature = (self._spline(inside, order) for order in range(3))
        return value, np.where(known, slope, 0.0), np.where(known, curvature, 0.0)

    def __call__(self, t: Array) -> Array:
        """Values at coordinates with shape (m,)."""
        return np.asarray(self._spline(np.clip(t, self.nodes[0], self.nodes[-1])))


@dataclass(frozen=True, eq=False)
class Correction:
    """The remainder as a function of the first k components: a sum of ridges, and radial functions for what they leave.

    Attributes:
        ridges: Functions of one component each.
        nodes: Centres of the radial functions, with shape (p, k).
        weights: Their weights, with shape (p,).
        length: Their width, in sds.
        limits: Lowest and highest value of their sum, which may otherwise be large away from the nodes.
    """

    ridges: tuple[Ridge, ...]
    nodes: Array
    weights: Array
    length: float
    limits: tuple[float, float] = (0.0, 0.0)

    def _radial(self, u: Array) -> Array:
        """Values of the radial functions at u with shape (m, k), with shape (m, p)."""
        return np.exp(-0.5 * cdist(u, self.nodes, "sqeuclidean") / self.length**2)

    def __call__(self, z: Array) -> Array:
        """Values at components with shape (m, K)."""
        u = z[:, : len(self.ridges)]
        value = np.clip(self._radial(u) @ self.weights, *self.limits)
        for ridge, t in zip(self.ridges, u.T, strict=True):
            value = value + ridge(t)
        return np.asarray(value)

    def derivatives(self, z: Array) -> tuple[Array, Array, Array]:
        """Values, with shape (m,), slopes and curvatures, both with shape (m, k), at components (m, K)."""
        u = z[:, : len(self.ridges)]
        shares = self._radial(u) * self.weights
        total = shares.sum(1)
        value = np.clip(total, *self.limits)
        shares[value != total] = 0.0
        slope, curvature = np.empty_like(u), np.empty_like(u)
        for j, (ridge, t) in enumerate(zip(self.ridges, u.T, strict=True)):
            offset = (t[:, None] - self.nodes[:, j]) / self.length**2
            more, first, second = ridge.derivatives(t)
            value = value + more
            slope[:, j] = first - (shares * offset).sum(1)
            curvature[:, j] = second + (shares * (offset**2 - 1.0 / self.length**2)).sum(1)
        return value, slope, curvature


def corrected(remainder: Callable[[Array], float], near: Array, depth: Array) -> tuple[Array, Correction] | None:
    """A rotation of the components, and a correction that depends on the first of the new ones; None if there is none.

    It takes at most 12 (K + 1) calls for the directions, some 70 for each of them, and 72 for what these leave.

    Args:
        remainder: A function of K components, zero at the centre; -inf where the likelihood is zero.
        near: Components of evaluations near the best, with shape (p, K).
        depth: Depth of each of them below the best, in nats, with shape (p,).

    Returns:
        Orthonormal columns with shape (K, K), and the correction.
    """
    kept, ridges = [], []
    for direction in _directions_of(remainder, near, depth).T[:_MOST]:
        ridge = _ridge_along(remainder, direction)
        if ridge is not None:
            kept.append(direction)
            ridges.append(ridge)
    if not kept:
        return None
    first = np.array(kept).T
    turn = np.linalg.qr(np.concatenate([first, np.eye(len(first))], axis=1))[0]
    turn[:, : len(kept)] = first  # whose signs the decomposition may have changed
    alone = Correction(tuple(ridges), np.empty((0, len(kept))), np.empty(0), _WIDTHS[0])
    nodes, values = _design(remainder, first, near[np.argsort(depth, kind="stable")] @ first)
    rest = values - alone(nodes)
    return turn, min(
        (_interpolated(alone, nodes, rest, length) for length in _WIDTHS), key=lambda one: _left_out(one, rest)
    )


def _design(remainder: Callable[[Array], float], first: Array, near: Array) -> tuple[Array, Array]:
    """Points of the first components that are not too deep, with shape (p, k), and the remainder there.

    The evaluations are not among them, so that they can tell whether the correction is right.

    Args:
        remainder: See ``corrected``.
        first: The directions, with shape (K, k).
        near: First components of the evaluations, the best ones first.
    """
    best, rng = near[:_MOST_POINTS], np.random.default_rng(0)
    one, other = rng.integers(len(best), size=(2, _DESIGN))
    about = best[one] + _BETWEEN * (best[other] - best[one]) * rng.standard_normal((_DESIGN, 1))
    points = np.concatenate([0.7 * best, 1.2 * best, about + _AROUND * rng.standard_normal(about.shape)])
    values = np.array([remainder(first @ u) for u in points])
    kept = values > -_DEEP  # false for -inf
    return points[kept], values[kept]


def _interpolated(alone: Correction, nodes: Array, rest: Array, length: float) -> Correction:
    """The correction with radial functions of one width that reproduce values at nodes."""
    empty = replace(alone, nodes=nodes, length=length)
    gram = empty._radial(nodes) + _NUGGET * np.eye(len(nodes))
    limits = (min(0.0, float(rest.min(initial=0.0))), max(0.0, float(rest.max(initial=0.0))))
    return replace(empty, weights=np.asarray(np.linalg.solve(gram, rest), dtype=np.float64), limits=limits)


def _left_out(one: Correction, rest: Array) -> float:
    """Root mean square of leave-one-out errors."""
    inverse = np.linalg.inv(one._radial(one.nodes) + _NUGGET * np.eye(len(one.nodes)))
    return float(np.sqrt(np.mean((inverse @ rest / np.diag(inverse)) ** 2))) if len(rest) else 0.0


def _directions_of(remainder: Callable[[Array], float], near: Array, depth: Array) -> Array:
    """Orthonormal directions with shape (K, k) along which a remainder changes at evaluations, the strongest first.

    The arguments are those of ``corrected``. Deeper evaluations, of which the best 12 are used, have less weight.
    """
    slopes = []
    for i in np.argsort(depth, kind="stable")[:_MOST_POINTS]:
        base = remainder(near[i])
        if not np.isfinite(base):
            continue
        slope = np.array([remainder(near[i] + step) - base for step in _DIFFERENCE * np.eye(near.shape[1])])
        if np.isfinite(slope).all():
            slopes.append(np.exp(-_PER_DEPTH * depth[i]) * slope)
    if not slopes:
        return np.empty((near.shape[1], 0))
    _, strength, directions = np.linalg.svd(np.array(slopes), full_matrices=False)
    return np.asarray(directions[strength > _LEAST * strength[0]].T)


def _ridge_along(remainder: Callable[[Array], float], direction: Array) -> Ridge | None:
    """The remainder along a direction through the centre; None if the likelihood is zero next to the centre.

    One side may be much shorter than the other, where the likelihood falls off steeply. It takes some 70 calls.

    Args:
        remainder: As in ``corrected``.
        direction: A unit vector, with shape (K,).
    """

    def along(t: float) -> float:
        return remainder(t * direction)

    low, high = (sign * _end(along, sign) for sign in (-1.0, 1.0))
    if not low < 0.0 < high:
        return None
    nodes = np.concatenate([np.linspace(low, 0.0, _NODES), np.linspace(0.0, high, _NODES)[1:]])
    values = np.array([along(float(t)) for t in nodes])
    return Ridge(nodes, values) if np.isfinite(values).all() else None


def _end(along: Callable[[float], float], sign: float) -> float:
    """Distance to which a remainder is followed to one side: to where it is deep, or the edge."""
    last = 0.0
    for t in np.arange(1, int(_FARTHEST / _STEP) + 1) * _STEP:
        value = along(sign * float(t))
        if not np.isfinite(value):
            break
        last = float(t)
        if value < -_DEEP:
            return last
    else:
        return last
    step = _STEP
    for _ in range(_HALVINGS):
        step *= 0.5
        value = along(sign * (last + step))
        if np.isfinite(value):
            last += step
            if value < -_DEEP:
                break
    return last
