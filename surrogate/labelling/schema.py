"""The meaning of the columns of a table, and the model inputs made of them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array
from surrogate.labelling.table import MISSING, Table, comma_hint, has_comma
from surrogate.problem.words import did_you_mean

__all__ = ["Column", "Declared", "Schema"]

Codes = NDArray[np.int32]

_MOST_CATEGORIES = 50


@dataclass(frozen=True)
class Declared:
    """The user's declarations about columns; the rest is inferred.

    Attributes:
        target: Column with the labels, empty where a row has none.
        categorical: Columns to treat as categories even if they hold numbers.
        ordinal: Ordered categories of each ordinal column.
        ids: Columns that identify a row; together they must be unique.
        ignored: Columns not used as model inputs.
        mask: Column that is 1 for rows that may be requested and 0 for others; None if all may be.
    """

    target: str
    categorical: tuple[str, ...] = ()
    ordinal: Mapping[str, tuple[str, ...]] | None = None
    ids: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    mask: str | None = None

    @property
    def text(self) -> tuple[str, ...]:
        """Names of the columns to read as text."""
        return (*self.categorical, *(self.ordinal or {}), *self.ids)

    def check(self, names: Collection[str]) -> None:
        """Raises ValueError if a name is not among the columns, or is declared twice."""
        mask = () if self.mask is None else (self.mask,)
        said = [self.target, *self.categorical, *(self.ordinal or {}), *self.ids, *self.ignored, *mask]
        for name in said:
            if name not in names:
                hint = did_you_mean(name, names, otherwise=f"; there are: {', '.join(names)}")
                msg = f"there is no column {name!r}{hint}"
                raise ValueError(msg)
            if said.count(name) > 1:
                msg = f"column {name!r} is declared twice: declare it once"
                raise ValueError(msg)


@dataclass(frozen=True)
class Column:
    """A column used as model input.

    Attributes:
        name: Name in the table.
        categories: Its categories; empty for a column of numbers.
        ordered: Whether the categories are ordinal and coded as 0, 1, 2, ...; otherwise they are one-hot.
    """

    name: str
    categories: tuple[str, ...] = ()
    ordered: bool = False

    @property
    def width(self) -> int:
        """Number of model inputs made of it."""
        return 1 if self.ordered or not self.categories else len(self.categories)


@dataclass(frozen=True)
class Schema:
    """The meaning of all columns.

    Attributes:
        target: Column with the labels.
        columns: Columns used as model inputs.
        ids: Columns that identify a row.
        ignored: Columns that are not used.
        mask: Column that says which rows may be requested, or None.
    """

    target: str
    columns: tuple[Column, ...]
    ids: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    mask: str | None = None

    @property
    def d(self) -> int:
        """Number of model inputs."""
        return sum(column.width for column in self.columns)

    @property
    def number_columns(self) -> tuple[Column, ...]:
        """The numeric columns."""
        return tuple(column for column in self.columns if not column.categories)

    @property
    def category_columns(self) -> tuple[Column, ...]:
        """The categorical columns."""
        return tuple(column for column in self.columns if column.categories)

    @classmethod
    def infer(cls, table: Table, declared: Declared) -> Schema:
        """The schema of a table: columns of text are categories, all others numbers.

        Raises:
            ValueError: If a declaration does not fit, a column has more than 50 categories, or no column is left.
        """
        declared.check(table.columns)
        aside = {declared.target, declared.mask, *declared.ids, *declared.ignored}
        columns = tuple(_column(table, name, declared) for name in table.columns if name not in aside)
        if not columns:
            msg = f"{table.source} has no column besides the target {declared.target!r} that a model could learn from"
            raise ValueError(msg)
        return cls(declared.target, columns, declared.ids, declared.ignored, declared.mask)

    def read(self, table: Table, *, may_be_unknown: bool = False) -> tuple[Array, Codes]:
        """Numbers with shape (n, p) and codes of categories with shape (n, q) of a table that has these columns.

        Args:
            table: The table.
            may_be_unknown: Whether unknown categories of unordered columns get the code -1 and a warning, instead of an
                error.

        Raises:
            ValueError: If a column is missing, or a value is missing, infinite, text among numbers, or an unknown
                category; the message gives row and column.
        """
        if absent := [column.name for column in self.columns if column.name not in table.columns]:
            msg = f"{table.source} lacks the columns {', '.join(map(repr, absent))}"
            raise ValueError(msg)
        numbers = [_complete(table, column.name) for column in self.number_columns]
        codes = [_codes(table, column, may_be_unknown) for column in self.category_columns]
        n = len(table)
        return (
            np.stack(numbers, axis=1) if numbers else np.empty((n, 0)),
            np.stack(codes, axis=1) if codes else np.empty((n, 0), dtype=np.int32),
        )

    def encode(self, numbers: Array, codes: Codes) -> Array:
        """Model inputs, with shape (n, d): numbers, then categories, in the order of the columns.

        The one-hot columns of an unknown category are all 0.
        """
        parts = [numbers]
        for j, column in enumerate(self.category_columns):
            code = codes[:, j]
            one_hot = np.vstack([np.eye(column.width), np.zeros(column.width)])
            parts.append(code[:, None].astype(np.float64) if column.ordered else one_hot[code])
        return np.concatenate(parts, axis=1)

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Ranges (start, stop) of the one-hot model inputs, one for each unordered categorical column."""
        out, start = [], len(self.number_columns)
        for column in self.category_columns:
            if not column.ordered:
                out.append((start, start + column.width))
            start += column.width
        return tuple(out)

    def to_document(self) -> dict[str, Any]:
        """The contents as plain values, for `of_document`."""
        return {
            "target": self.target,
            "ids": list(self.ids),
            "ignored": list(self.ignored),
            "mask": self.mask,
            "columns": {column.name: _describe(column) for column in self.columns},
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Schema:
        """The inverse of `to_document`."""
        columns = tuple(_of_description(name, words) for name, words in document["columns"].items())
        ids, ignored = tuple(document["ids"]), tuple(document["ignored"])
        return cls(document["target"], columns, ids, ignored, document["mask"])


def _describe(column: Column) -> str | dict[str, list[str]]:
    if not column.categories:
        return "number"
    return {"ordinal" if column.ordered else "categories": list(column.categories)}


def _of_description(name: str, words: Any) -> Column:
    if words == "number":
        return Column(name)
    ((kind, categories),) = words.items()
    return Column(name, tuple(str(word) for word in categories), ordered=kind == "ordinal")


def _column(table: Table, name: str, declared: Declared) -> Column:
    ordinal = (declared.ordinal or {}).get(name)
    if ordinal is not None:
        if len(set(ordinal)) < len(ordinal) or len(ordinal) < 2:
            msg = f"the order of column {name!r} must list at least two different words, got {', '.join(ordinal)}"
            raise ValueError(msg)
        return Column(name, tuple(ordinal), ordered=True)
    if name not in declared.categorical and not isinstance(table.columns[name], list):
        return Column(name)
    declared_so = name in declared.categorical
    missing = (
        {""} if declared_so else MISSING
    )  # "None" and "NA" are categories if the user declares the column categorical
    words = sorted({word for word in table.texts(name) if word.strip().lower() not in missing})
    if not declared_so:
        _check_commas(table, name, words)
    if len(words) > _MOST_CATEGORIES:
        msg = (
            f"column {name!r} of {table.source} holds {len(words)} different words (such as "
            f"{_some(words)}), but a categorical column may hold at most "
            f"{_MOST_CATEGORIES}: declare it as an id or as ignored, or group the words"
        )
        raise ValueError(msg)
    return Column(name, tuple(words))


def _check_commas(table: Table, name: str, words: Sequence[str]) -> None:
    """Raises ValueError if a column of text looks like numbers written with commas."""
    found = [word for word in words if has_comma(word)]
    if 2 * len(found) > len(words):
        row = table.texts(name).index(found[0]) + 1
        msg = (
            f"{table.source}, row {row}, column {name!r}: {found[0]!r} is text{comma_hint(found[0])}, or declare the "
            "column as categorical"
        )
        raise ValueError(msg)


def _some(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words[:3]))


def _complete(table: Table, name: str) -> Array:
    """A column of numbers; raises ValueError if one is missing or infinite."""
    try:
        values = table.numbers(name)
    except ValueError as error:
        msg = f"{error}; correct it, or declare the column as categorical or as ignored"
        raise ValueError(msg) from error
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        what = "is missing" if np.isnan(values[bad[0]]) else "is infinite"
        raise ValueError(_gap(table, name, int(bad[0]), what, len(bad)))
    return values


def _gap(table: Table, name: str, row: int, what: str, count: int, word: str = "") -> str:
    others = f" (and {count - 1} more such cells in this column)" if count > 1 else ""
    is_word = f", or as categorical if {word!r} is one of its words" if word else ""
    return (
        f"{table.source}, row {row + 1}, column {name!r}: the value {what}{others}; models need every value: fill it "
        f"in, leave out the row, or declare the column as ignored{is_word}"
    )


def _codes(table: Table, column: Column, may_be_unknown: bool) -> Codes:
    """Codes of a column: the positions of its values among the categories."""
    position = {word: code for code, word in enumerate(column.categories)}
    texts = table.texts(column.name)
    codes = np.array([position.get(word, -1) for word in texts], dtype=np.int32)
    if len(bad := np.flatnonzero(codes < 0)):
        word = texts[bad[0]]
        if word.strip().lower() in MISSING:
            raise ValueError(_gap(table, column.name, int(bad[0]), "is missing", len(bad), word.strip()))
        hint = did_you_mean(word, column.categories, otherwise=f"; known: {', '.join(column.categories[:10])}")
        msg = f"{table.source}, row {bad[0] + 1}, column {column.name!r}: {word!r} is not a known category{hint}"
        if column.ordered or not may_be_unknown:
            raise ValueError(msg)
        msg += f". Predictions for {len(bad)} such rows cannot account for its effect"
        warnings.warn(msg, UserWarning, stacklevel=2)
    return codes
