"""Location and scale of values, in units of which a model is fitted."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array

__all__ = ["location_and_scale"]

_CONSTANT = 1e-12  # sd relative to the largest value up to which the differences are rounding errors


def location_and_scale(values: Array, what: str = "y") -> tuple[Array, Array]:
    """Mean and standard deviation of each column, which is 1 if the column is constant up to rounding.

    Args:
        values: Values with shape (n,) or (n, d).
        what: Name of the values, for the message.

    Returns:
        Both, with shape () or (d,).

    Raises:
        ValueError: If the squares of the values overflow.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, sd = values.mean(0), values.std(0)
    if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
        msg = f"{what} overflows with sizes up to {np.abs(values).max():.3g}: divide it by a constant"
        raise ValueError(msg)
    return mean, np.where(sd > _CONSTANT * np.abs(values).max(0, initial=0.0), sd, 1.0)
