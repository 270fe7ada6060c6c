"""Names of array types, and the floating-point state that the package works in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Flags", "Indices", "default_float_errors"]

Array: TypeAlias = NDArray[np.float64]
"""Numbers in double precision."""
Flags: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.int64]


@contextlib.contextmanager
def default_float_errors() -> Iterator[None]:
    """NumPy's own reaction to overflow and the like inside, whatever ``np.seterr`` the caller has made.

    An underflow to zero is right almost everywhere, and must not become an exception because a program asked NumPy to
    raise in its own code. To be used in a ``with`` statement or as a decorator.
    """
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        yield
