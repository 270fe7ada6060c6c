"""Common parts of the numpy closures of a predictor: affine maps of the points, and the slope of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from surrogate.arrays import Array
from surrogate.linalg.stationary import CORRELATIONS

if TYPE_CHECKING:
    from surrogate.log_density.predictor.numbers import Predictor

__all__ = ["affine", "augmented_trend", "peaks_function", "slope_function", "tilted_trend"]


def affine(p: Predictor) -> tuple[Array, Array]:
    """A and b of z = A v + b for z = (u / lengthscale, 1), where v = x without warps, and v = warped t with warps.

    The last coordinate of z is one, so that a single product includes constants.
    """
    matrix = p.coordinates.forward.T / p.residual.lengthscale[:, None]
    offset = -matrix @ p.coordinates.centre
    if not p.coordinates.is_warped:
        offset -= matrix @ (p.coordinates.location / p.coordinates.scale)
        matrix = matrix / p.coordinates.scale
    return np.concatenate([matrix, np.zeros((1, len(p.coordinates.centre)))]), np.append(offset, 1.0)


def augmented_trend(p: Predictor) -> Array:
    """The trend as a quadratic form of the z of ``affine``, with shape (e + 1, e + 1)."""
    return _augment(p.trend, p.residual.lengthscale)


def tilted_trend(p: Predictor) -> tuple[Array, Array] | None:
    """a and C of the tilted trend exp(a.z) z.C.z, with shapes (e + 1,) and (e + 1, e + 1); None if there is none."""
    if not len(p.tilted):
        return None
    e = len(p.coordinates.centre)
    return np.append(p.tilted[:e] * p.residual.lengthscale, 0.0), _augment(p.tilted[e:], p.residual.lengthscale)


def peaks_function(p: Predictor) -> Callable[[Array], Array] | None:
    """Log of the sum of the peaks, with corrections, at z with shape (m, e + 1); None with one peak."""
    if not len(p.gates):
        return None
    gates, peaks = (np.stack([_augment(row, p.residual.lengthscale) for row in rows]) for rows in (p.gates, p.peaks))

    def peaked(z: Array) -> Array:
        gate, peak = (np.einsum("mi,kij,mj->mk", z, forms, z, optimize=True) for forms in (gates, peaks))
        top = gate.max(1, keepdims=True)
        share = np.exp(gate - top)
        total = share.sum(1)
        return top[:, 0] + np.log(total) + (share * peak).sum(1) / total

    return peaked


def _augment(quadratic: Array, lengthscale: Array) -> Array:
    """c + b.u + u.C.u as a quadratic form of z, with shape (e + 1, e + 1)."""
    e = len(lengthscale)
    out = np.zeros((e + 1, e + 1))
    out[:e, :e] = quadratic[e + 1 :].reshape(e, e) * np.outer(lengthscale, lengthscale)
    out[:e, e], out[e, e] = quadratic[1 : e + 1] * lengthscale, quadratic[0]
    return out


def slope_function(p: Predictor) -> Callable[[Array], Array]:
    """The slope h of the kernel as a function of -r^2 / 2, see ``surrogate.linalg.stationary.Stationary``.

    Raises:
        ValueError: If the kernel has no derivatives, although the predictor has evaluations with derivatives.
    """
    function = CORRELATIONS[p.residual.kernel].slope_of_exponent
    if function is None:
        msg = f"a predictor with derivatives needs the kernel rbf or matern52, got {p.residual.kernel}"
        raise ValueError(msg)
    return function
