"""Corrections of a quadratic along a few directions, where a comparison is no quadratic.

The remainder r(z), the comparison minus its quadratic, often depends on few combinations of the components: a
log-normal density of one mean of the outputs depends on one. The space of these combinations is that of the slopes of r
at some points. r is approximated by a sum of functions of one combination each, ridges, which follow it to where it is
deep, and by radial functions of all of them for what the sum leaves near the best evaluations.

Which combinations make r a sum, second derivatives tell: for r = sum_i g_i(a_i . z) they are A D A^T with the same A,
whose columns are a_i, and a diagonal D that depends on the point. Two such matrices P and Q have the eigenvectors
P Q^-1 a_i = lambda_i a_i.
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
_PER_DEPTH = 0.1  # ... and their loss of weight with each nat below the centre
_BEND = 0.03  # step of second derivatives, in sds
_PAIRS = 20  # of combinations of Hessians that are tried ...
_OBLIQUE = 30.0  # ... and the largest condition of axes
_MOST = 3  # axes
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
    """The remainder as a sum of functions of one combination of K components each, and radial functions for the rest.

    Attributes:
        ridges: Functions of one combination each.
        axes: Columns with the coefficients of these combinations, with shape (K, r).
        first: Orthonormal columns that span the axes, with shape (K, k).
        nodes: Centres of the radial functions in coordinates along ``first``, with shape (p, k).
        weights: Their weights, with shape (p,).
        length: Their width, in sds.
        limits: Lowest and highest value of their sum, which may otherwise be large away from the nodes.
    """

    ridges: tuple[Ridge, ...]
    axes: Array
    first: Array
    nodes: Array
    weights: Array
    length: float
    limits: tuple[float, float] = (0.0, 0.0)

    def _radial(self, u: Array) -> Array:
        """Values of the radial functions at u with shape (m, k), with shape (m, p)."""
        return np.exp(-0.5 * cdist(u, self.nodes, "sqeuclidean") / self.length**2)

    def __call__(self, z: Array) -> Array:
        """Values at components with shape (m, K)."""
        value = np.clip(self._radial(z @ self.first) @ self.weights, *self.limits)
        for ridge, t in zip(self.ridges, (z @ self.axes).T, strict=True):
            value = value + ridge(t)
        return np.asarray(value)

    def derivatives(self, z: Array) -> tuple[Array, Array, Array]:
        """Values, with shape (m,), slopes and curvatures along each component, both (m, K), at components (m, K)."""
        u = z @ self.first
        shares = self._radial(u) * self.weights
        total = shares.sum(1)
        value = np.clip(total, *self.limits)
        shares[value != total] = 0.0
        offsets = [(t[:, None] - node) / self.length**2 for t, node in zip(u.T, self.nodes.T, strict=True)]
        slope, curvature = np.zeros_like(z), np.zeros_like(z)
        for offset, row in zip(offsets, self.first.T, strict=True):
            slope -= (shares * offset).sum(1)[:, None] * row
            curvature -= (shares.sum(1) / self.length**2)[:, None] * row**2
            for other, column in zip(offsets, self.first.T, strict=True):
                curvature += (shares * offset * other).sum(1)[:, None] * (row * column)
        for axis, ridge, t in zip(self.axes.T, self.ridges, (z @ self.axes).T, strict=True):
            more, first, second = ridge.derivatives(t)
            value = value + more
            slope += first[:, None] * axis
            curvature += second[:, None] * axis**2
        return value, slope, curvature


def corrected(
    remainder: Callable[[Array], float], near: Array, depth: Array, left: Array, allowed: Array
) -> Correction | None:
    """A correction that reproduces a remainder; None if there is none.

    Corrections with one to three axes are tried until one leaves little enough at the evaluations, or else that which
    leaves least is taken. It takes 12 (K + 1) calls for the directions, and at most some 1000 for the rest.

    Args:
        remainder: A function of K components, zero at the centre; -inf where the likelihood is zero.
        near: Components of evaluations near the best, with shape (p, K).
        depth: Depth of each of them below the best, in nats, with shape (p,).
        left: What the correction should be at each of them, with shape (p,).
        allowed: Allowed error there, with shape (p,).
    """
    order = np.argsort(depth, kind="stable")
    if len(order) > _MOST_POINTS:  # some of all depths
        order = order[np.linspace(0, len(order) - 1, _MOST_POINTS).astype(int)]
    points, weights = near[order], np.exp(-_PER_DEPTH * depth[order])
    directions = _directions_of(remainder, points, weights)
    best, least = None, np.inf
    for k in range(1, min(_MOST, len(directions)) + 1):
        for one in _with_axes(remainder, directions[:, :k], points, weights):
            error = float((np.abs(one(near) - left) / allowed).max())
            if error < least:
                best, least = one, error
        if least <= 1.0:
            break
    return best


def _with_axes(remainder: Callable[[Array], float], first: Array, near: Array, weights: Array) -> list[Correction]:
    """Corrections that depend on the coordinates along some directions, without radial functions and with them.

    Args:
        remainder: See ``corrected``.
        first: Orthonormal directions, with shape (K, k).
        near: Points at which the remainder matters, with shape (p, K).
        weights: Weight of each of them, with shape (p,).
    """
    axes = _axes_of(lambda u: remainder(first @ u), near @ first, weights)
    paths = first @ np.linalg.inv(axes).T  # along each of them one of the combinations changes alone
    found = [(axis, _ridge_along(remainder, path)) for axis, path in zip((first @ axes).T, paths.T, strict=True)]
    known = [(axis, ridge) for axis, ridge in found if ridge is not None]
    if not known:
        return []
    of_ridges = np.array([axis for axis, _ in known]).T
    no_nodes = np.empty((0, first.shape[1]))
    alone = Correction(tuple(ridge for _, ridge in known), of_ridges, first, no_nodes, np.empty(0), _WIDTHS[0])
    nodes, values = _design(remainder, first, near @ first)
    rest = values - alone(nodes @ first.T)
    filled = (_interpolated(alone, nodes, rest, length) for length in _WIDTHS)
    return [alone, min(filled, key=lambda one: _left_out(one, rest))]


def _axes_of(remainder: Callable[[Array], float], near: Array, weights: Array) -> Array:
    """Axes along which a function of k coordinates is nearly a sum, columns of unit length with shape (k, k).

    Those of several pairs of combinations of its Hessians are tried, and the unit vectors; the best make the Hessians
    of the sum those of the function.

    Args:
        remainder: The function.
        near: Points at which it matters, with shape (p, k).
        weights: Weight of each of them, with shape (p,).
    """
    found = [w * _hessian_at(remainder, u) for u, w in zip(near, weights, strict=True)]
    hessians = np.array([one for one in found if np.isfinite(one).all()]).reshape(-1, near.shape[1], near.shape[1])
    tried, rng = [np.eye(near.shape[1])], np.random.default_rng(0)
    for shares in rng.standard_normal((_PAIRS, 2, len(hessians))):
        one, other = np.einsum("sp,pij->sij", shares, hessians)
        if np.linalg.matrix_rank(other) == len(other):
            _, axes = np.linalg.eig(one @ np.linalg.inv(other))
            if np.isrealobj(axes) and np.linalg.cond(axes) < _OBLIQUE:
                tried.append(axes)
    return min(tried, key=lambda axes: _missed(hessians, axes))


def _missed(hessians: Array, axes: Array) -> float:
    """Sum of squares of what is left of Hessians if mixed derivatives between axes are removed."""
    inverse = np.linalg.inv(axes)
    bends = np.einsum("ij,pjk,ik->pi", inverse, hessians, inverse)
    return float(((hessians - np.einsum("ij,pj,kj->pik", axes, bends, axes)) ** 2).sum())


def _hessian_at(remainder: Callable[[Array], float], u: Array) -> Array:
    """Second derivatives by central differences: 2 k^2 + 1 calls for k coordinates."""
    steps = _BEND * np.eye(len(u))
    out, base = np.empty((len(u), len(u))), remainder(u)
    for i, step in enumerate(steps):
        out[i, i] = remainder(u + step) + remainder(u - step) - 2.0 * base
        for j, other in enumerate(steps[:i]):
            alike, unlike = ((remainder(u + step + more) + remainder(u - step - more)) for more in (other, -other))
            out[i, j] = out[j, i] = 0.25 * (alike - unlike)
    return out / _BEND**2


def _design(remainder: Callable[[Array], float], first: Array, near: Array) -> tuple[Array, Array]:
    """Points along some directions that are not too deep, with shape (p, k), and the remainder there.

    The evaluations are not among them, so that they can tell whether the correction is right.

    Args:
        remainder: See ``corrected``.
        first: The directions, with shape (K, k).
        near: Coordinates of evaluations along them.
    """
    best, rng = near, np.random.default_rng(0)
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


def _directions_of(remainder: Callable[[Array], float], near: Array, weights: Array) -> Array:
    """Orthonormal columns, with shape (K, K): directions in which a function changes at some points, strongest first.

    Args:
        remainder: The function of K coordinates.
        near: The points, with shape (p, K).
        weights: Weight of each of them, with shape (p,).
    """
    slopes = np.zeros_like(near)
    for into, z, weight in zip(slopes, near, weights, strict=True):
        base = remainder(z)
        slope = np.array([remainder(z + step) - base for step in _DIFFERENCE * np.eye(near.shape[1])])
        if np.isfinite(slope).all():
            into[:] = weight * slope
    return np.asarray(np.linalg.svd(slopes)[2].T)


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
