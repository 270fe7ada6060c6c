"""Parameters of any kind of surrogate from the arrays that a run saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from numpy.typing import NDArray

from surrogate.log_density.composite.parameters import CompositeParameters
from surrogate.log_density.mixed.parameters import MixedParameters
from surrogate.log_density.parameters import SurrogateParameters
from surrogate.log_density.protocol import Parameters

__all__ = ["KINDS", "parameters_from_arrays"]


KINDS: dict[str, Callable[[Mapping[str, NDArray]], Parameters]] = {
    "scalar": SurrogateParameters.from_arrays,
    "composite": CompositeParameters.from_arrays,
    "mixed": MixedParameters.from_arrays,
}
"""Functions that read the parameters of each kind of surrogate; a new kind adds an entry."""


_WORDS = {"kind", "names", "feasibility", "logs"}  # arrays of text


def parameters_from_arrays(arrays: Mapping[str, NDArray]) -> Parameters:
    """The inverse of ``Parameters.to_arrays``; arrays of earlier versions, without a kind, are scalar.

    Raises:
        ValueError: If the kind is unknown, or an array that should hold numbers holds something else.
    """
    for name, array in arrays.items():
        if name.rsplit("/", 1)[-1] not in _WORDS and array.dtype.kind not in "fiub":
            msg = f"{name} must be numbers, got {array.dtype}"
            raise ValueError(msg)
    kind = str(arrays.get("kind", "scalar"))
    if kind not in KINDS:
        msg = f"the kind of surrogate must be one of {', '.join(KINDS)}, got {kind!r}: a newer version wrote this"
        raise ValueError(msg)
    return KINDS[kind](arrays)
