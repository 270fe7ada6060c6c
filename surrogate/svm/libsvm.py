"""LIBSVM's text formats: tables of labelled points, and models of support vector machines.

A line of a table is ``label index:value index:value ...`` with indices in ascending order from 1. Missing values are
zero, and a ``#`` starts a comment. A model is a header of keywords and numbers, then a line for each support vector
with its coefficients and the vector. LIBSVM's programs can read models of two classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array

__all__ = ["MachineFile", "read_libsvm", "read_machine", "spelled_label", "write_libsvm", "write_machine"]

_Path = str | os.PathLike[str]

_SMALL = 2**24  # values up to which a table is always made dense: 128 MB
_SPARSEST = 1000  # largest ratio of a larger table's values to those given


def read_libsvm(path: _Path, *, n_features: int | None = None) -> tuple[Array, Array]:
    """The points and labels of a table, as dense arrays.

    Args:
        path: File.
        n_features: Number d of columns; by default the largest index in the file.

    Returns:
        The points, with shape (n, d), and the labels, with shape (n,).

    Raises:
        ValueError: If a line is malformed (the message gives its number), an index exceeds ``n_features``, there are no
            points, or the dense table would be large and nearly empty.
        OSError: If the file cannot be read.
    """
    labels, rows = [], []
    for number, words in _lines(path):
        try:
            labels.append(_finite(words[0], "label"))
            rows.append(_entries(words[1:], n_features))
        except ValueError as error:
            msg = f"{path}, line {number}: {error}"
            raise ValueError(msg) from None
    if not rows:
        msg = f"{path} holds no points"
        raise ValueError(msg)
    return _dense(rows, n_features, path), np.array(labels)


def write_libsvm(path: _Path, x: ArrayLike, y: ArrayLike) -> None:
    """Writes points x with shape (n, d) and labels y with shape (n,), omitting zeros.

    Raises:
        ValueError: If the shapes do not fit together or a value is not finite.
        OSError: If the file cannot be written.
    """
    points, labels = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if points.ndim != 2 or labels.shape != (len(points),):
        msg = f"expected x with shape (n, d) and y with shape (n,), got {points.shape} and {labels.shape}"
        raise ValueError(msg)
    if not (np.isfinite(points).all() and np.isfinite(labels).all()):
        msg = "x and y must be finite"
        raise ValueError(msg)
    lines = (f"{spelled_label(label)}{_vector(row)}\n" for label, row in zip(labels, points, strict=True))
    Path(path).write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True, eq=False)
class MachineFile:
    """The numbers that define a support vector machine.

    Attributes:
        kernel: "linear" or "rbf".
        gamma: Coefficient of the kernel exp(-gamma |x - x'|^2); not used by the linear kernel.
        labels: Labels of the k classes, with shape (k,).
        support: Support vectors, with shape (n, d).
        coefficients: Coefficients, with shape (c, n): c = k for each class against the rest, or c = 1 for k = 2, where
            the second class is positive.
        intercepts: Constants added to the sums, with shape (c,).
    """

    kernel: str
    gamma: float
    labels: Array
    support: Array
    coefficients: Array
    intercepts: Array


def write_machine(path: _Path, machine: MachineFile) -> None:
    """Writes a machine; one of two classes as LIBSVM's C-SVC, which has the same decision function.

    Raises:
        OSError: If the file cannot be written.
    """
    two = len(machine.labels) == 2
    # LIBSVM's decision function is sum - rho, and positive for the first label.
    labels = machine.labels[::-1] if two else machine.labels
    header = [
        f"svm_type {'c_svc' if two else 'ls_svc_one_vs_rest'}",
        f"kernel_type {machine.kernel}",
        *([f"gamma {machine.gamma!r}"] if machine.kernel == "rbf" else []),
        f"nr_class {len(labels)}",
        f"total_sv {len(machine.support)}",
        f"rho {' '.join(repr(-float(b)) for b in machine.intercepts)}",
        f"label {' '.join(map(spelled_label, labels))}",
        *([f"nr_sv {int((machine.coefficients > 0).sum())} {int((machine.coefficients <= 0).sum())}"] if two else []),
        "SV",
    ]
    order = np.argsort(machine.coefficients[0] <= 0, kind="stable") if two else np.arange(len(machine.support))
    vectors = (
        " ".join(repr(float(a)) for a in machine.coefficients[:, i]) + _vector(machine.support[i]) for i in order
    )
    Path(path).write_text("\n".join([*header, *vectors]) + "\n", encoding="utf-8")


def read_machine(path: _Path) -> MachineFile:
    """The machine in a file of `write_machine`, or in a two-class C-SVC file of LIBSVM.

    Raises:
        ValueError: If the file is malformed (the message gives the line), or holds an unsupported kind of machine.
        OSError: If it cannot be read.
    """
    lines = list(_lines(path))
    header: dict[str, list[str]] = {}
    for place, (number, words) in enumerate(lines):
        if words == ["SV"]:
            return _machine(path, header, lines[place + 1 :])
        if words[0] in header or len(words) < 2:
            msg = f"{path}, line {number}: expected a keyword followed by numbers, got {' '.join(words)[:60]!r}"
            raise ValueError(msg)
        header[words[0]] = words[1:]
    msg = f"{path} is not a model file: it has no line 'SV'"
    raise ValueError(msg)


def _machine(path: _Path, header: dict[str, list[str]], lines: list[tuple[int, list[str]]]) -> MachineFile:
    try:
        kind, kernel = header["svm_type"][0], header["kernel_type"][0]
        labels = np.array([_finite(word, "label") for word in header["label"]])
        intercepts = -np.array([_finite(word, "rho") for word in header["rho"]])
        gamma = _finite(header["gamma"][0], "gamma") if kernel == "rbf" else 0.0
        total = int(header["total_sv"][0])
    except (KeyError, ValueError) as error:
        msg = f"the header of {path} is incomplete or invalid: {error}"
        raise ValueError(msg) from None
    two = kind == "c_svc" and len(labels) == 2
    if kernel not in ("linear", "rbf") or not (two or kind == "ls_svc_one_vs_rest"):
        msg = (
            f"{path} holds a {kind} of {len(labels)} classes with a {kernel} kernel, which cannot be used here: "
            "expected a linear or rbf kernel, and a two-class c_svc or a model written by this package"
        )
        raise ValueError(msg)
    c = 1 if two else len(labels)
    if len(lines) != total or len(intercepts) != c:
        msg = f"{path} must have {total} support vectors and {c} rho, got {len(lines)} and {len(intercepts)}"
        raise ValueError(msg)
    support, weights = _support(path, lines, c)
    return MachineFile(kernel, gamma, labels[::-1] if two else labels, support, weights, intercepts)


def _support(path: _Path, lines: list[tuple[int, list[str]]], c: int) -> tuple[Array, Array]:
    """Support vectors, with shape (n, d), and their c weights each, with shape (c, n)."""
    coefficients, rows = [], []
    for number, words in lines:
        try:
            coefficients.append([_finite(word, "coefficient") for word in words[:c]])
            rows.append(_entries(words[c:], None))
        except ValueError as error:
            msg = f"{path}, line {number}: {error}"
            raise ValueError(msg) from None
    return _dense(rows, None, path), np.array(coefficients).T


def _lines(path: _Path) -> Iterable[tuple[int, list[str]]]:
    """Line number and words of each line that is not blank."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if words := line.partition("#")[0].split():
                yield number, words


def _finite(word: str, what: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        msg = f"the {what} must be a finite number, got {word[:40]!r}"
        raise ValueError(msg)
    return value


def _entries(words: list[str], n_features: int | None) -> dict[int, float]:
    """Values by index, counted from 0."""
    entries: dict[int, float] = {}
    last = 0
    for word in words:
        index, colon, value = word.partition(":")
        if not colon or not (index.isascii() and index.isdigit()):
            msg = f"expected index:value, got {word[:40]!r}"
            raise ValueError(msg)
        if int(index) <= last:
            msg = f"indices must start at 1 and ascend, got {index} after {last}"
            raise ValueError(msg)
        last = int(index)
        if n_features is not None and last > n_features:
            msg = f"index {last} exceeds the number of features, {n_features}"
            raise ValueError(msg)
        entries[last - 1] = _finite(value, "value")
    return entries


def _dense(rows: list[dict[int, float]], n_features: int | None, path: _Path) -> Array:
    d = max((max(row, default=-1) + 1 for row in rows), default=0) if n_features is None else n_features
    given = sum(map(len, rows))
    if len(rows) * d > max(_SMALL, _SPARSEST * given):
        msg = (
            f"{path} has {len(rows)} points of {d} features, of which only {given} are given: too "
            "sparse for the dense table "
            f"that they become. Is the index {d} a mistake?"
        )
        raise ValueError(msg)
    try:
        out = np.zeros((len(rows), d))
    except MemoryError as error:
        msg = f"{path} has {len(rows)} points of {d} features: too many for the memory of this machine as a dense table"
        raise ValueError(msg) from error
    for i, row in enumerate(rows):
        out[i, list(row)] = list(row.values())
    return out


def _vector(row: Array) -> str:
    return "".join(f" {j + 1}:{float(row[j])!r}" for j in np.flatnonzero(row))


def spelled_label(label: float) -> str:
    """The label as text with all digits; whole numbers have no decimal point."""
    return str(int(label)) if float(label).is_integer() else repr(float(label))
