"""The outputs of a simulator as one vector, and the layout of its arrays."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from surrogate.arrays import Array
from surrogate.problem.evaluation import UnusableError
from surrogate.problem.prior import NAME

__all__ = ["Layout", "Outputs"]


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the arrays that a simulator returns; a single array has the name "".

    Attributes:
        names: Name of each array.
        shapes: Shape of each array.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of values in each array."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """Number of values in all arrays."""
        return sum(self.sizes)

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Slice of each array in the vector of all values."""
        ends = np.cumsum((0, *self.sizes)).tolist()
        return {name: slice(a, b) for name, a, b in zip(self.names, ends[:-1], ends[1:], strict=True)}

    def split(self, values: Array) -> Any:
        """The array or the dict of arrays that a simulator would return, from vectors with shape (..., size)."""
        parts = {
            name: values[..., self.columns[name]].reshape((*values.shape[:-1], *shape))
            for name, shape in zip(self.names, self.shapes, strict=True)
        }
        return parts[""] if self.names == ("",) else parts

    def to_text(self) -> str:
        """The layout as JSON, for ``from_text``."""
        return json.dumps([list(self.names), [list(shape) for shape in self.shapes]])

    @classmethod
    def from_text(cls, text: str) -> Layout:
        """The inverse of ``to_text``.

        Raises:
            ValueError: If the text is not that of a layout.
        """
        try:
            names, shapes = json.loads(text)
            layout = cls(tuple(map(str, names)), tuple(tuple(map(operator.index, shape)) for shape in shapes))
            if len(layout.names) != len(layout.shapes) or min((0, *chain(*layout.shapes))) < 0:
                raise ValueError  # noqa: TRY301
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            msg = f"a layout is a list of names and a list of shapes, got {text[:60]!r}"
            raise ValueError(msg) from error
        return layout


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of one call of a simulator.

    Attributes:
        layout: Names and shapes.
        values: All numbers, with shape (layout.size,); finite.
    """

    layout: Layout
    values: Array

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Outputs)
            and self.layout == other.layout
            and self.values.tobytes() == other.values.tobytes()
        )

    def __hash__(self) -> int:
        return hash((self.layout, self.values.tobytes()))

    @classmethod
    def of(cls, answer: Any) -> Outputs:
        """The outputs in the return value of a simulator, an array or a dict of arrays.

        Raises:
            UnusableError: If it is neither, is empty, or has a value that is not finite.
        """
        named = answer if isinstance(answer, Mapping) else {"": answer}
        for name in named:
            if name != "" and not (isinstance(name, str) and NAME.fullmatch(name)):
                msg = f"the name of an output must be a letter, then letters, digits, '_', '.' or '-', got {name!r}"
                raise UnusableError(msg)
        arrays = {name: _numbers(values, name) for name, values in named.items()}
        layout = Layout(tuple(arrays), tuple(array.shape for array in arrays.values()))
        if not layout.size:
            msg = "the simulator returned no numbers"
            raise UnusableError(msg)
        values = np.concatenate([array.ravel() for array in arrays.values()])
        if not np.isfinite(values).all():
            bad = next(name for name, array in arrays.items() if not np.isfinite(array).all())
            count = int((~np.isfinite(values)).sum())
            msg = f"{count} of {len(values)} outputs of the simulator are not finite{f' ({bad})' if bad else ''}"
            raise UnusableError(msg)
        values.flags.writeable = False
        return cls(layout, values)


def _numbers(values: Any, name: str) -> Array:
    what = f"the output {name!r}" if name else "the output of the simulator"
    if values is None:
        msg = f"{what} is None (a function without return?)"
        raise UnusableError(msg)
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        msg = f"{what} must be real numbers, got {type(values).__name__} of {array.dtype}"
        raise UnusableError(msg)
    return array.astype(np.float64)
