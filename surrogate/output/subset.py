"""Selection of a result's parameters by name, and points given by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from surrogate.arrays import Array
from surrogate.output.record import Record
from surrogate.problem.words import did_you_mean
from surrogate.samplers.samples import Samples

__all__ = ["named_points", "only"]


def only(names: Iterable[str] | None, samples: Samples, record: Record) -> tuple[Samples, Record]:
    """The draws and the record restricted to the named parameters, in the order given; unchanged for None.

    Raises:
        ValueError: If a name is unknown or repeated, or there are none.
    """
    if names is None:
        return samples, record
    words = [names] if isinstance(names, str) else list(names)
    if not words or len(set(words)) < len(words):
        msg = f"parameters must be different names, at least one, got {words}"
        raise ValueError(msg)
    for word in words:
        _check(word, samples.names)
    c = [samples.names.index(word) for word in words]
    data = replace(record.data, x=record.data.x[:, c], gradient=record.data.gradient[:, c])
    chosen = replace(
        samples,
        names=tuple(words),
        labels=tuple(samples.labels[j] for j in c),
        bounds=samples.bounds[c],
        x=samples.x[:, c],
        periodic=tuple(samples.periodic[j] for j in c) if samples.periodic else (),
    )
    return chosen, replace(record, data=data)


def named_points(points: Mapping[str, Any], names: tuple[str, ...]) -> Array:
    """An array of points with shape (m, d) from values by name, each a number or with shape (m,).

    Raises:
        ValueError: If a name is unknown or missing, or the values differ in length.
    """
    for word in points:
        _check(word, names)
    if missing := [name for name in names if name not in points]:
        msg = f"x must have a value for each parameter, missing: {', '.join(missing)}"
        raise ValueError(msg)
    columns = [np.atleast_1d(np.asarray(points[name], dtype=np.float64)) for name in names]
    try:
        return np.stack(np.broadcast_arrays(*columns), axis=-1).reshape(-1, len(names))
    except ValueError as error:
        shapes = ", ".join(f"{name} {column.shape}" for name, column in zip(names, columns, strict=True))
        msg = f"values by name must be numbers or arrays of one shape, got {shapes}"
        raise ValueError(msg) from error


def _check(word: str, names: tuple[str, ...]) -> None:
    if word not in names:
        msg = f"unknown parameter {word!r}{did_you_mean(str(word), names)} (known: {', '.join(names)})"
        raise ValueError(msg)
