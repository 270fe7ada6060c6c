"""The pool: the rows of a table as numbers, some of them labelled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array, Flags, Indices
from surrogate.labelling.schema import Codes, Declared, Schema
from surrogate.labelling.table import Table
from surrogate.problem.words import did_you_mean

__all__ = ["Pool"]


@dataclass(frozen=True, eq=False)
class Pool:
    """The rows of a table, from which a run chooses those to label.

    Attributes:
        schema: Meaning of the columns.
        numbers: Columns of numbers, with shape (n, p).
        codes: Columns of categories, with shape (n, q).
        y: Labels in the table, with shape (n,); NaN where there are none.
        allowed: Whether each row may be requested, with shape (n,).
        names: Name of each row for the user, with shape (n,): its ids, or its number counted from 1.
        digest: SHA-256 of the file; empty for a table in memory.
    """

    schema: Schema
    numbers: Array
    codes: Codes
    y: Array
    allowed: Flags
    names: NDArray[np.str_]
    digest: str = ""
    _positions: dict[str, int] = field(init=False, repr=False)
    _limits: tuple[Array, Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_limits", _limits(self.numbers))
        object.__setattr__(self, "_positions", {name: row for row, name in enumerate(self.names.tolist())})

    def __len__(self) -> int:
        return len(self.y)

    @property
    def d(self) -> int:
        """Number of model inputs."""
        return self.schema.d

    @classmethod
    def of(cls, table: Table, declared: Declared, *, digest: str = "") -> Pool:
        """The pool made of a table.

        If the target is not a column of the table, no row has a label yet.

        Raises:
            ValueError: If the declarations do not fit, a value is missing or of the wrong kind, or ids are not unique;
                the message gives row and column.
        """
        _check_target(table, declared.target)
        if not len(table):
            msg = f"{table.source} has no rows"
            raise ValueError(msg)
        if declared.target in table.columns:
            schema, numbers, codes = _read(table, declared)
        else:
            nothing = np.full(len(table), np.nan)
            names = ", ".join(table.columns)
            table = Table(table.source, {**table.columns, declared.target: nothing}, table.strays)
            try:
                schema, numbers, codes = _read(table, declared)
            except ValueError as error:
                msg = (
                    f"{error}. The target {declared.target!r} is not a column of the table either; its "
                    f"columns are {names}"
                )
                raise ValueError(msg) from error
        y, allowed = _labels(table, declared.target), _allowed(table, declared.mask)
        return cls(schema, numbers, codes, y, allowed, _names(table, declared.ids), digest)

    def x(self, rows: Indices | slice | None = None) -> Array:
        """Model inputs of some rows, with shape (m, d); all rows by default."""
        rows = slice(None) if rows is None else rows
        return self.encode(self.numbers[rows], self.codes[rows])

    def encode(self, numbers: Array, codes: Codes) -> Array:
        """Model inputs of any rows with these columns, with shape (m, d).

        Numbers are clipped to within 100 times the central 90 % range of the pool on either side of the median;
        otherwise a single cell of 99999 would set the scale of its column.
        """
        return self.schema.encode(np.clip(numbers, *self._limits), codes)

    def far_cells(self) -> list[str]:
        """Warnings about columns with cells that `encode` clips."""
        found = []
        for j, column in enumerate(self.schema.number_columns):
            low, high = self._limits[0][j], self._limits[1][j]
            rows = np.flatnonzero((self.numbers[:, j] < low) | (self.numbers[:, j] > high))
            if len(rows):
                cell = f"{self.numbers[rows[0], j]:.10g} in row {rows[0] + 1}"
                others = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
                found.append(
                    f"column {column.name!r}: {cell}{others} is very far from the rest: a code for a missing value? "
                    f"Models see {low:.4g} to {high:.4g}; correct the cell, or leave out the row"
                )
        return found

    def position(self, name: str) -> int | None:
        """The row with this name, counted from 0; None if there is none."""
        return self._positions.get(name)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The pool as arrays of numbers and fixed-width text, for `from_arrays`."""
        return {
            "schema": np.array(json.dumps(self.schema.to_document())),
            "numbers": self.numbers,
            "codes": self.codes,
            "y": self.y,
            "allowed": self.allowed,
            "names": self.names,
            "digest": np.array(self.digest),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Pool:
        """The inverse of `to_arrays`.

        Raises:
            ValueError: If the arrays are others, or do not fit together.
        """
        try:
            schema = Schema.of_document(json.loads(str(arrays["schema"])))
            _check_arrays(schema, arrays)
            columns = {name: arrays[name] for name in ("numbers", "codes", "y", "allowed", "names")}
            return cls(schema=schema, digest=str(arrays["digest"]), **columns)
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            msg = f"the table cannot be restored from its arrays ({type(error).__name__}: {error})"
            raise ValueError(msg) from error


def _check_arrays(schema: Schema, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless shapes and types of the arrays of a pool are those that its schema implies."""
    sizes = [len(column.categories) for column in schema.category_columns]
    n, q = len(np.atleast_1d(arrays["names"])), len(sizes)
    expected = {
        "numbers": ((n, len(schema.columns) - q), "f"), "codes": ((n, q), "iu"), "y": ((n,), "f"),
        "allowed": ((n,), "b"), "names": ((n,), "U"),
    }  # fmt: skip
    for name, (shape, kinds) in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in kinds:
            msg = f"{name} must have shape {shape}, got {arrays[name].dtype} with shape {arrays[name].shape}"
            raise ValueError(msg)
    if not np.isfinite(arrays["numbers"]).all() or not (arrays["codes"] < np.array(sizes, dtype=int)).all():
        msg = "numbers must be finite, and codes must be those of categories"
        raise ValueError(msg)


_FAR = 100.0  # central 90 % ranges; 4 in 100,000 rows of a lognormal column with log sd 2 lie beyond
_ENOUGH = 100_000  # rows over which quantiles are computed


def _limits(numbers: Array) -> tuple[Array, Array]:
    """Lower and upper clipping limits of the columns, each with shape (p,)."""
    if not len(numbers):
        return np.full(numbers.shape[1], -np.inf), np.full(numbers.shape[1], np.inf)
    some = numbers[:: max(1, len(numbers) // _ENOUGH)]
    low, middle, high = np.quantile(some, [0.05, 0.5, 0.95], axis=0)
    reach = np.where(high > low, _FAR * (high - low), np.inf)
    return middle - reach, middle + reach


def _read(table: Table, declared: Declared) -> tuple[Schema, Array, Codes]:
    schema = Schema.infer(table, declared)
    return schema, *schema.read(table)


def _check_target(table: Table, target: str) -> None:
    """Raises ValueError if the target looks like a misspelt column."""
    if target not in table.columns and (hint := did_you_mean(target, table.columns, cutoff=0.75)):
        msg = f"{table.source} has no column {target!r}{hint}"
        raise ValueError(msg)


def _labels(table: Table, target: str) -> Array:
    try:
        y = table.numbers(target)
    except ValueError as error:
        msg = f"{error}; a label is a number, and the cell is empty where there is none"
        raise ValueError(msg) from error
    if len(bad := np.flatnonzero(np.isinf(y))):
        msg = f"{table.source}, row {bad[0] + 1}, column {target!r}: the label is infinite"
        raise ValueError(msg)
    return y


def _allowed(table: Table, mask: str | None) -> Flags:
    if mask is None:
        return np.ones(len(table), dtype=bool)
    values = table.numbers(mask)
    if len(bad := np.flatnonzero((values != 0) & (values != 1))):
        msg = f"{table.source}, row {bad[0] + 1}, column {mask!r}: a mask is 0 or 1, got {values[bad[0]]:g}"
        raise ValueError(msg)
    return np.asarray(values == 1)


def _names(table: Table, ids: tuple[str, ...]) -> NDArray[np.str_]:
    if not ids:
        return np.array([str(row) for row in range(1, len(table) + 1)])
    names = [" / ".join(parts) for parts in zip(*(table.texts(name) for name in ids), strict=True)]
    first: dict[str, int] = {}
    for row, name in enumerate(names, start=1):
        if not name.strip() or name in first:
            what = f"stands in row {first[name]} too" if name in first else "is empty"
            msg = f"{table.source}, row {row}: the id {name!r} {what}; ids must be unique"
            raise ValueError(msg)
        first[name] = row
    return np.array(names)
