"""Returned labels: read from a file, checked against the table and the state, and turned into events.

A file of labels is accepted as a whole or not at all: the first mistake raises an error, and nothing is recorded.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.labelling.pool import Pool
from surrogate.labelling.schema import Column
from surrogate.labelling.state import FAILED, LABELLED, LabelState, Rows
from surrogate.labelling.table import MISSING, Table, read_table
from surrogate.problem.words import did_you_mean

__all__ = ["Answers", "check_told", "events_of", "read_answers", "row_column"]


_FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Answers:
    """Labels and failures of rows, as given by the user.

    Attributes:
        rows: Row numbers, counted from 0, with shape (k,).
        y: Labels, NaN where labelling failed, with shape (k,).
        reasons: Why labelling failed; empty where it did not.
        empty: Number of rows in the file without a label.
        places: Where each label was found, for error messages.
    """

    rows: Rows
    y: Array
    reasons: tuple[str, ...]
    empty: int
    places: tuple[str, ...]


def row_column(pool: Pool) -> str:
    """Name of the column of row numbers, for tables without ids."""
    taken = {pool.schema.target, *pool.schema.ignored, *(column.name for column in pool.schema.columns)}
    return next(name for name in ("row", "pool_row", "row_of_pool") if name not in taken)


def read_answers(path: str | os.PathLike[str], pool: Pool) -> Answers:
    """The labels in a file: a batch as it was written, with the target filled in.

    The file must have the ids (or the row numbers) and the target; other columns of the pool, if present, must agree
    with it. A row with an empty label stays pending; ``failed`` or ``failed: reason`` means that the row cannot be
    labelled.

    Raises:
        ValueError: If a column is missing, a row is unknown or repeated, a value differs from the pool's, or a label is
            neither a number nor ``failed``; the message gives row and column of the file.
    """
    schema = pool.schema
    keys = schema.ids or (row_column(pool),)
    categories = [column.name for column in schema.category_columns]
    table = read_table(path, text=[*keys, schema.target, *categories])
    if absent := [name for name in (*keys, schema.target) if name not in table.columns]:
        msg = (
            f"{table.source} lacks the column {absent[0]!r}: a file of labels needs "
            f"{', '.join(map(repr, keys))} to say which row "
            f"is meant, and {schema.target!r}; it has {', '.join(map(repr, table.columns))}"
        )
        raise ValueError(msg)
    rows = _positions(table, keys, pool)
    _check_agreement(table, rows, pool)
    labels = [_label(table, line, schema.target, cell) for line, cell in enumerate(table.texts(schema.target), start=1)]
    return _answers(table, rows, labels, schema.target)


def _label(table: Table, line: int, target: str, cell: str) -> tuple[float, str] | None:
    """A label with an empty reason, NaN with a reason, or None for an empty cell."""
    text = cell.strip()
    if text.lower() in MISSING:
        return None
    if text.lower() == _FAILED or text.lower().startswith(f"{_FAILED}:"):
        return math.nan, text[len(_FAILED) + 1 :].strip() or _FAILED
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        msg = (
            f"{table.source}, row {line}, column {target!r}: the label {text!r} is not a finite number; leave the cell "
            "empty if there is none yet, or write 'failed' if this row cannot be labelled"
        )
        raise ValueError(msg)
    return value, ""


def _answers(table: Table, rows: Rows, labels: list[tuple[float, str] | None], target: str) -> Answers:
    given = [line for line, label in enumerate(labels) if label is not None]
    y = np.array([label[0] for label in labels if label is not None], dtype=np.float64)
    reasons = tuple(label[1] for label in labels if label is not None)
    places = tuple(f"{table.source}, row {line + 1}, column {target!r}" for line in given)
    return Answers(rows[given], y, reasons, len(labels) - len(given), places)


def _positions(table: Table, keys: tuple[str, ...], pool: Pool) -> Rows:
    """The rows of the pool that the rows of a table refer to."""
    found: dict[int, int] = {}
    for line, parts in enumerate(zip(*(table.texts(key) for key in keys), strict=True), start=1):
        name = " / ".join(part.strip() for part in parts)
        row = pool.position(name)
        if row is None:
            raise ValueError(_unknown(table, line, keys, name, pool))
        if row in found:
            msg = f"{table.source}, row {line}: {name!r} appears in row {found[row]} too"
            raise ValueError(msg)
        found[row] = line
    return np.array(list(found), dtype=np.int64)


def _unknown(table: Table, line: int, keys: tuple[str, ...], name: str, pool: Pool) -> str:
    what = f"{table.source}, row {line}, column {keys[0]!r}: there is no row {name!r} in the pool"
    if not pool.schema.ids:
        return f"{what}; its rows are 1 to {len(pool)}"
    return what + did_you_mean(name, pool.names[:20_000].tolist())


def _check_agreement(table: Table, rows: Rows, pool: Pool) -> None:
    """Raises ValueError if a value differs from the same column of the pool, as rows may have been mixed up."""
    for j, column in enumerate(pool.schema.number_columns):
        if column.name in table.columns:
            values, own = table.numbers(column.name), pool.numbers[rows, j]
            differs = np.isfinite(values) & ~np.isclose(values, own, rtol=1e-6, atol=1e-12)
            _report(table, column, differs, values, own)
    for j, column in enumerate(pool.schema.category_columns):
        if column.name in table.columns:
            words = np.array([word.strip() for word in table.texts(column.name)], dtype=object)
            own = np.array(column.categories, dtype=object)[pool.codes[rows, j]]
            differs = (words != np.array([word.strip() for word in own], dtype=object)) & (words != "")
            _report(table, column, differs, words, own)


def _report(table: Table, column: Column, differs: Flags, values: Any, own: Any) -> None:
    if differs.any():
        line = int(np.flatnonzero(differs)[0])
        msg = (
            f"{table.source}, row {line + 1}, column {column.name!r}: {values[line]} here, but {own[line]} in the "
            "pool: are the rows mixed up? Leave out the column if it is not meant to be compared"
        )
        raise ValueError(msg)


def check_told(rows: Any, y: Array, n: int) -> None:
    """Raises ValueError unless rows are distinct whole numbers in 0..n - 1, with a finite or missing label each."""
    if rows.ndim != 1 or rows.shape != y.shape:
        msg = f"rows and labels must both have shape (k,), got {rows.shape} and {y.shape}"
        raise ValueError(msg)
    if len(rows) and not np.issubdtype(rows.dtype, np.integer):
        msg = f"rows must be whole numbers, counted from 0, got {rows.dtype}"
        raise ValueError(msg)
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        wrong = rows[(rows < 0) | (rows >= n)][0]
        msg = f"there is no row {wrong}: rows are 0 to {n - 1}"
        raise ValueError(msg)
    values, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        msg = f"row {values[counts > 1][0]} appears twice"
        raise ValueError(msg)
    if np.isinf(y).any():
        msg = "labels must be finite, got an infinite one"
        raise ValueError(msg)


def events_of(answers: Answers, state: LabelState, *, correct: bool) -> list[dict[str, Any]]:
    """The events that record answers; labels already known are left out.

    Args:
        answers: Labels and failures.
        state: State of the run.
        correct: Whether new labels may replace known ones.

    Raises:
        ValueError: If a row has another label and ``correct`` is False.
    """
    known = state.status[answers.rows] == LABELLED
    settled = known | (state.status[answers.rows] == FAILED)
    works = np.isfinite(answers.y)
    same = known & works & (state.y[answers.rows] == answers.y)
    same |= (state.status[answers.rows] == FAILED) & ~works
    changed = settled & ~same
    if changed.any() and not correct:
        at = int(np.flatnonzero(changed)[0])
        before = state.y[answers.rows[at]]
        was = f"the label {before:g}" if known[at] else "no label, because labelling failed"
        now = f"{answers.y[at]:g}" if works[at] else f"failed: {answers.reasons[at]}"
        msg = (
            f"{answers.places[at]}: this row already has {was}, got {now} ({int(changed.sum())} such rows). "
            "Correct labels with --correct, or correct=True; nothing was recorded"
        )
        raise ValueError(msg)
    return _events(answers, state, new=~settled, changed=changed, works=works)


def _events(
    answers: Answers,
    state: LabelState,
    *,
    new: Flags,
    changed: Flags,
    works: Flags,
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for kind, chosen in (("corrected", changed & works), ("told", new & works)):
        if chosen.any():
            found.append({"event": kind, "rows": answers.rows[chosen].tolist(), "y": answers.y[chosen].tolist()})
    if changed.any() and found and found[0]["event"] == "corrected":
        before = state.y[found[0]["rows"]].tolist()
        found[0]["before"] = [value if math.isfinite(value) else None for value in before]
    if (lost := (new | changed) & ~works).any():
        reasons = [answers.reasons[i] for i in np.flatnonzero(lost)]
        found.append({"event": _FAILED, "rows": answers.rows[lost].tolist(), "reasons": reasons})
    return found
