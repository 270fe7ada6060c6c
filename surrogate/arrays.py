"""Names of array types, and NumPy's floating-point error state in this package."""

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
    """Context and decorator with NumPy's default handling of floating-point errors.

    Underflow to zero is correct almost everywhere, and must not raise because the caller's program has set
    ``np.seterr`` to raise in its own code.
    """
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        yield
