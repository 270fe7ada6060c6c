"""Parts shared by the numpy forms of a predictor: affine maps, and correlation functions of -r^2 / 2.

Correlations are those of ``surrogate.linalg.stationary`` written for numpy and e = -r^2 / 2, which saves a fifth of the
time of a batch and half of that of a single point; a test compares each with the definition there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from surrogate.arrays import Array

if TYPE_CHECKING:
    from surrogate.log_density.predictor.numbers import Predictor

__all__ = ["CORRELATIONS", "SLOPES", "affine", "augmented_trend", "tilted_trend"]


def affine(p: Predictor) -> tuple[Array, Array]:
    """A and b of z = A v + b for z = (u / lengthscale, 1), with v = x without warps and v = warped t with them.

    The last coordinate of z, a one, lets a single product carry what is constant.
    """
    matrix = p.coordinates.forward.T / p.residual.lengthscale[:, None]
    offset = -matrix @ p.coordinates.centre
    if not p.coordinates.is_warped:
        offset -= matrix @ (p.coordinates.location / p.coordinates.scale)
        matrix = matrix / p.coordinates.scale
    return np.concatenate([matrix, np.zeros((1, len(p.coordinates.centre)))]), np.append(offset, 1.0)


def augmented_trend(p: Predictor) -> Array:
    """The trend as a quadratic form of z, with shape (e + 1, e + 1)."""
    return _augmented(p.trend, p.residual.lengthscale)


def tilted_trend(p: Predictor) -> tuple[Array, Array] | None:
    """a and C of the tilted trend exp(a.z) z.C.z, with shapes (e + 1,) and (e + 1, e + 1); None if there is none."""
    if not len(p.tilted):
        return None
    e = len(p.coordinates.centre)
    return np.append(p.tilted[:e] * p.residual.lengthscale, 0.0), _augmented(p.tilted[e:], p.residual.lengthscale)


def _augmented(quadratic: Array, lengthscale: Array) -> Array:
    """c + b.u + u.C.u as a quadratic form of z, with shape (e + 1, e + 1)."""
    e = len(lengthscale)
    out = np.zeros((e + 1, e + 1))
    out[:e, :e] = quadratic[e + 1 :].reshape(e, e) * np.outer(lengthscale, lengthscale)
    out[:e, e], out[e, e] = quadratic[1 : e + 1] * lengthscale, quadratic[0]
    return out


def _rbf(e: Array) -> Array:
    return np.exp(e, out=e)


def _root(e: Array, nu: float) -> Array:
    """sqrt(2 nu) r."""
    e *= -4.0 * nu
    return np.sqrt(np.maximum(e, 0.0, out=e), out=e)


def _matern32(e: Array) -> Array:
    t = _root(e, 1.5)
    return (1.0 + t) * np.exp(-t)


def _matern52(e: Array) -> Array:
    t = _root(e, 2.5)
    return (1.0 + t * (1.0 + t / 3.0)) * np.exp(-t)


def _matern52_slope(e: Array) -> Array:
    t = _root(e, 2.5)
    return (5.0 / 3.0) * (1.0 + t) * np.exp(-t)


CORRELATIONS: dict[str, Callable[[Array], Array]] = {"rbf": _rbf, "matern32": _matern32, "matern52": _matern52}
"""k as functions of e = -r^2 / 2, which they overwrite."""
SLOPES: dict[str, Callable[[Array], Array]] = {"rbf": _rbf, "matern52": _matern52_slope}
"""-2 dk/d(r^2) of the kernels that can be differentiated twice, as functions of e, which they overwrite."""
