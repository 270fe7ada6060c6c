"""Requests of a Cobaya model's fast components to slow ones, and their answers as arrays.

Cobaya's provider hands each request, such as ``provider.get_Hubble(z, units="1/Mpc")``, to the theory that computes the
quantity. A `StandIn` replaces a slow theory there. It passes requests on, records them, or answers them from given
numbers, without any change for the requesting component.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surrogate.arrays import Array

__all__ = ["Desk", "Leaf", "Product", "StandIn", "UnsuitedError"]


class UnsuitedError(Exception):
    """Raised if an answer of a theory cannot be learned as numbers; the message says which and why."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """An array in the answer to a request.

    Attributes:
        name: Its name among the outputs of the simulator.
        path: Keys and indices that lead to it.
        template: Its value at the point where the request was recorded.
        start: First used entry along the first axis.
        stop: One past the last used entry.
        learned: Whether it may change; whole numbers, text and similar values must be constant.
    """

    name: str
    path: tuple[Any, ...]
    template: Any
    start: int = 0
    stop: int = 0
    learned: bool = True

    def part(self, answer: Any) -> Array:
        """The used entries of an answer of the theory.

        An array whose last entries nobody uses may have another length: spectra end where the parameters say.

        Raises:
            UnsuitedError: If the shape of the answer has changed, or an array has lost entries that are used.
        """
        value = answer
        for key in self.path:
            value = value[key]
        if not self.learned:
            if not _same(value, self.template) and not _begins_alike(value, self.template):
                msg = f"{self.name} is a constant that changes from {self.template!r} to {value!r}"
                raise UnsuitedError(msg)
            return np.empty(0)
        value = np.asarray(value, dtype=np.float64)
        expected = np.shape(self.template)
        if expected and self.stop < expected[0] and value.shape[1:] == expected[1:] and len(value) >= self.stop:
            return value[self.start : self.stop]
        if value.shape != expected:
            msg = f"the shape of {self.name} changes from {expected} to {value.shape}"
            raise UnsuitedError(msg)
        return value[self.start : self.stop] if value.ndim else value

    def whole(self, part: Any) -> Any:
        """The complete array with the given values for the used entries; a number if the template is one."""
        if not self.learned:
            return self.template
        if not np.ndim(self.template):
            return float(part)
        value = self.template.copy()
        value[self.start : self.stop] = part
        return value


@dataclass(frozen=True, eq=False)
class Product:
    """A request and the arrays in its answer.

    Attributes:
        theory: Name of the slow component that answers.
        method: Name of the method.
        arguments: Positional arguments.
        options: Named arguments.
        shape: How the answer is built: "single", "dict" or "tuple".
        leaves: Its arrays.
    """

    theory: str
    method: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    shape: str
    leaves: tuple[Leaf, ...]

    def parts(self, answer: Any) -> dict[str, Array]:
        """The learned arrays of an answer, by name."""
        try:
            return {leaf.name: part for leaf in self.leaves for part in [leaf.part(answer)] if leaf.learned}
        except (KeyError, IndexError, TypeError) as error:
            msg = f"the answer to {self.method} has lost a part: {error!r}"
            raise UnsuitedError(msg) from error

    def answer(self, outputs: Mapping[str, Any]) -> Any:
        """The answer to the request, rebuilt from predicted outputs."""
        if self.shape == "single":
            leaf = self.leaves[0]
            return leaf.whole(outputs.get(leaf.name))
        values = {leaf.path[0]: leaf.whole(outputs.get(leaf.name)) for leaf in self.leaves}
        return _Known(values) if self.shape == "dict" else tuple(values[i] for i in range(len(values)))


class _Known(dict[Any, Any]):
    """A dict of the known arrays; an unknown key raises an error other than KeyError, which means "absent"."""

    def __missing__(self, key: Any) -> Any:
        msg = f"{key!r} was not requested before"
        raise UnsuitedError(msg)

    def get(self, key: Any, default: Any = None) -> Any:  # noqa: ARG002 - see the class
        return self[key]


class _Noted(dict[Any, Any]):
    """A dict that records which of its keys are used."""

    def __init__(self, values: Mapping[Any, Any]) -> None:
        super().__init__(values)
        self.used: set[Any] = set()

    def __getitem__(self, key: Any) -> Any:
        self.used.add(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self.used.add(key)
        return super().get(key, default)

    def _all(self) -> None:
        self.used |= set(super().keys())

    def __iter__(self) -> Iterator[Any]:
        self._all()
        return super().__iter__()

    def keys(self) -> Any:
        self._all()
        return super().keys()

    def values(self) -> Any:
        self._all()
        return super().values()

    def items(self) -> Any:
        self._all()
        return super().items()

    def copy(self) -> Any:
        self._all()
        return super().copy()


class Desk:
    """Handles requests to slow theories: passes them on, records them, or answers from given numbers.

    Attributes:
        products: Known products, by request.
        outputs: Arrays to answer from; None to pass requests on.
        reason: Why a request could not be recorded or answered; "" if all could.
    """

    def __init__(self, products: Mapping[Any, Product] | None = None) -> None:
        self.products: dict[Any, Product] = dict(products or {})
        self.outputs: Mapping[str, Any] | None = None
        self.reason = ""
        self._noted: dict[Any, tuple[Any, ...]] | None = None

    def answer(self, theory: str, method: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """The answer to a request.

        Raises:
            UnsuitedError: If it cannot be recorded or answered. ``reason`` also stores why, because Cobaya suppresses
                exceptions.
        """
        if self.outputs is None and self._noted is None:
            return function(*args, **options)
        try:
            if method == "get_param" and len(args) == 1 and not isinstance(args[0], str):
                args = (tuple(args[0]),)
            key = (theory, method, _hashable(args), _hashable(options))
            if self.outputs is not None:
                if key not in self.products:
                    msg = f"{_spelling(method, args, options)} has arguments that change between calls"
                    raise UnsuitedError(msg)
                return self.products[key].answer(self.outputs)
            return self._note(key, theory, method, args, options, function(*args, **options))
        except UnsuitedError as error:
            self.reason = self.reason or f"{_spelling(method, args, options)}: {error}"
            raise

    def _note(self, key: Any, theory: str, method: str, args: Any, options: Any, answer: Any) -> Any:
        known = {} if self._noted is None else self._noted
        if key not in known:
            shown = _Noted(answer) if isinstance(answer, Mapping) else answer
            if not isinstance(answer, Mapping | tuple | list):
                _kind(answer)
            known[key] = (theory, method, args, options, answer, shown)
        return known[key][-1]

    def start_noting(self) -> None:
        """Starts recording requests."""
        self._noted, self.outputs, self.reason = {}, None, ""

    def stop_noting(self) -> None:
        """Makes products of the recorded requests, and passes further requests on."""
        noted, self._noted = self._noted or {}, None
        for number, (key, (theory, method, args, options, answer, shown)) in enumerate(noted.items()):
            used = shown.used & set(answer) if isinstance(shown, _Noted) else None
            try:
                shape, leaves = _leaves(f"{method.removeprefix('get_')}.{number}", answer, used)
            except UnsuitedError as error:
                self.reason = self.reason or f"{_spelling(method, args, options)}: {error}"
                continue
            self.products[key] = Product(theory, method, args, options, shape, leaves)

    def trim(self, limits: Mapping[str, tuple[int, int]]) -> None:
        """Restricts arrays to the entries between limits given by name."""
        for key, product in self.products.items():
            leaves = tuple(
                replace(leaf, start=limits[leaf.name][0], stop=limits[leaf.name][1]) if leaf.name in limits else leaf
                for leaf in product.leaves
            )
            self.products[key] = replace(product, leaves=leaves)


class StandIn:
    """Replaces a slow theory among the providers of a model."""

    def __init__(self, theory: Any, name: str, desk: Desk) -> None:
        self._theory, self._name, self._desk = theory, name, desk

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._theory, name)
        if not name.startswith("get_") or not callable(found):
            return found
        return functools.partial(self._desk.answer, self._name, name, found)


def _leaves(name: str, answer: Any, used: set[Any] | None) -> tuple[str, tuple[Leaf, ...]]:
    """The structure of an answer, and its arrays."""
    if used is not None:
        keys = [key for key in answer if key in used]
        return "dict", tuple(_leaf(f"{name}.{_word(key, i)}", (key,), answer[key]) for i, key in enumerate(keys))
    if isinstance(answer, tuple | list) and not all(isinstance(value, int | float) for value in answer):
        return "tuple", tuple(_leaf(f"{name}.{i}", (i,), value) for i, value in enumerate(answer))
    return "single", (_leaf(name, (), np.array(answer, float) if isinstance(answer, tuple | list) else answer),)


def _leaf(name: str, path: tuple[Any, ...], value: Any) -> Leaf:
    if _kind(value) == "constant":
        return Leaf(name, path, value, learned=False)
    array = np.array(value, dtype=np.float64)
    return Leaf(name, path, array, 0, len(array) if array.ndim else 0)


def _kind(value: Any) -> str:
    """Whether a value is "learned" or a "constant".

    Raises:
        UnsuitedError: If it is neither numbers nor a plain value.
    """
    if isinstance(value, bool | str | bytes | int | np.integer | np.bool_ | None):
        return "constant"
    if isinstance(value, float | np.floating):
        return "learned"
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return "learned" if value.dtype.kind == "f" else "constant"
    kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    msg = f"the answer holds {kind}, not numbers"
    raise UnsuitedError(msg)


def _hashable(value: Any) -> Any:
    """Arguments of a request in a hashable form.

    Raises:
        UnsuitedError: If an argument is not made of plain values and arrays.
    """
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, Mapping):
        return ("dict", tuple(sorted((str(key), _hashable(part)) for key, part in value.items())))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ("list", tuple(map(_hashable, value)))
    if isinstance(value, bool | str | bytes | int | float | np.generic | None):
        return value.item() if isinstance(value, np.generic) else value
    msg = f"an argument is a {type(value).__name__}"
    raise UnsuitedError(msg)


def _same(value: Any, other: Any) -> bool:
    return bool(np.array_equal(value, other)) if isinstance(value, np.ndarray) else bool(value == other)


def _begins_alike(value: Any, other: Any) -> bool:
    """Whether one of two arrays of whole numbers, such as multipoles, begins with the other."""
    if not isinstance(value, np.ndarray) or not isinstance(other, np.ndarray) or {value.ndim, other.ndim} != {1}:
        return False
    n = min(len(value), len(other))
    return n > 0 and bool(np.array_equal(value[:n], other[:n]))


def _spelling(method: str, args: Any, options: Mapping[str, Any]) -> str:
    """A request as text, with arrays shortened."""

    def short(value: Any) -> str:
        text = " ".join(repr(value).split())
        return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."

    return f"{method}({', '.join([*map(short, args), *(f'{k}={short(v)}' for k, v in options.items())])})"


_LONGEST = 40  # characters of an argument in a message


def _word(key: Any, number: int) -> str:
    """A key as part of the name of an output."""
    return key if isinstance(key, str) and key.isidentifier() and key.isascii() else str(number)
