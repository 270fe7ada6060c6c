"""Local maxima of a function that is known at points only, from many starts at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surrogate.arrays import Array

__all__ = ["ascend"]


_STEP = 1e-3  # scales, of central differences: errors of 1e-6 in slopes of order one
_LOWEST = -1e10  # stands for -inf, as finite differences need numbers
_STEPS = 40
_CURVED = 1e-6  # cosine between step and change of slope from which they tell the curvature ...
_NOISE = 1e-8  # ... if the step is longer than rounding


def ascend(
    function: Callable[[Array], Array], starts: Array, low: Array, high: Array, scale: Array, *, steps: int = _STEPS
) -> tuple[Array, Array]:
    """Local maxima in a box, by the method of Broyden, Fletcher, Goldfarb and Shanno with a trust region.

    All starts go ahead together: ``steps`` calls of the function with (2 d + 1) k points each.

    Args:
        function: From points (m, d) to values (m,).
        starts: Starting points, with shape (k, d).
        low: Lower corner of the box, may be infinite.
        high: Upper corner.
        scale: First radius of the trust region in each coordinate, with shape (d,).
        steps: Iterations.

    Returns:
        The points, with shape (k, d), and their values, with shape (k,); none is lower than its start.
    """
    k, d = starts.shape
    t = np.clip(starts, low, high)
    value, slope = _value_and_slope(function, t, low, high, scale)
    inverse, radius = np.tile(np.eye(d), (k, 1, 1)), np.ones(k)
    for _ in range(steps):
        step = np.einsum("kij,kj->ki", inverse, slope)
        step *= np.minimum(1.0, radius / np.maximum(np.linalg.norm(step, axis=1), 1e-30))[:, None]
        there = np.clip(t + step * scale, low, high)
        new, bent = _value_and_slope(function, there, low, high, scale)
        step, change = (there - t) / scale, slope - bent
        inverse = _updated(inverse, step, change)
        uphill = new > value
        radius = np.where(uphill, 2.0, 0.25) * radius
        t, slope = np.where(uphill[:, None], there, t), np.where(uphill[:, None], bent, slope)
        value = np.maximum(value, new)
    return t, value


def _value_and_slope(
    function: Callable[[Array], Array], t: Array, low: Array, high: Array, scale: Array
) -> tuple[Array, Array]:
    """Values and slopes per scale at t with shape (k, d), with shapes (k,) and (k, d)."""
    k, d = t.shape
    shift = _STEP * np.diag(scale)
    above, below = np.clip(t[:, None] + shift, low, high), np.clip(t[:, None] - shift, low, high)
    found = function(np.concatenate([t, above.reshape(-1, d), below.reshape(-1, d)]))
    found = np.maximum(np.nan_to_num(found, nan=_LOWEST), _LOWEST)
    difference = (found[k : k + k * d] - found[k + k * d :]).reshape(k, d)
    width = np.einsum("kii->ki", above - below) / scale
    return found[:k], difference / np.maximum(width, 1e-12)


def _updated(inverse: Array, step: Array, change: Array) -> Array:
    """Inverse Hessians after a step in which the slope has fallen by ``change``."""
    product = (step * change).sum(1)
    length = np.linalg.norm(step, axis=1)
    curved = (length > _NOISE) & (product > _CURVED * length * np.linalg.norm(change, axis=1))
    rho = np.where(curved, 1.0 / np.where(curved, product, 1.0), 0.0)
    left = np.eye(step.shape[1]) - rho[:, None, None] * step[:, :, None] * change[:, None, :]
    out = left @ inverse @ np.swapaxes(left, 1, 2) + rho[:, None, None] * step[:, :, None] * step[:, None, :]
    return np.where(curved[:, None, None], out, inverse)
