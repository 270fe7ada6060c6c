"""The recipe of a labelling run: its table, the meaning of its columns, and its settings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.arrays import Array
from surrogate.labelling.pool import Pool
from surrogate.labelling.schema import Declared, Schema
from surrogate.labelling.settings import LabelSettings
from surrogate.labelling.table import Table, digest, read_table

__all__ = ["Recipe", "encoded", "recipe_and_pool"]


@dataclass(frozen=True, eq=False)
class Recipe:
    """Table, columns and settings of a run.

    Attributes:
        source: Path of the table; empty for one in memory.
        digest: SHA-256 of the table.
        rows: Number of rows of the table.
        schema: Meaning of its columns.
        settings: Settings of the run.
    """

    source: str
    digest: str
    rows: int
    schema: Schema
    settings: LabelSettings

    def to_document(self) -> dict[str, Any]:
        """The contents as plain values, for `of_document`."""
        table = {"path": self.source, "sha256": self.digest, "rows": self.rows, **self.schema.to_document()}
        return {"pool": table, "settings": self.settings.to_document()}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_document`.

        Raises:
            ValueError: If entries are missing or invalid.
        """
        try:
            table = document["pool"]
            return cls(
                str(table["path"]),
                str(table["sha256"]),
                int(table["rows"]),
                Schema.of_document(table),
                LabelSettings.of_document(document["settings"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"config.yaml is incomplete or invalid: {error}; restore it, or start the run again in another folder"
            raise ValueError(msg) from error

    def declared(self) -> Declared:
        """The declarations of columns that reproduce this schema for the same table."""
        columns = self.schema.category_columns
        return Declared(
            self.schema.target,
            tuple(column.name for column in columns if not column.ordered),
            {column.name: column.categories for column in columns if column.ordered},
            self.schema.ids,
            self.schema.ignored,
            self.schema.mask,
        )

    def check_source(self) -> None:
        """Raises ValueError if the table is missing or has changed since the start."""
        if not self.source:
            return
        if not Path(self.source).is_file():
            msg = f"the pool {self.source} is missing: restore it, or write its new path into config.yaml (pool: path)"
            raise ValueError(msg)
        if (now := digest(self.source)) != self.digest:
            msg = (
                f"the pool {self.source} has changed since the run was made (SHA-256 {now[:12]}..., was "
                f"{self.digest[:12]}...): rows are identified by position. Restore the file, or start a new "
                "run with the new one; the labels of this run are in labels.jsonl"
            )
            raise ValueError(msg)


_KINDS = {"categorical": "categorical", "id": "ids", "ignored": "ignored"}


def _declared(target: str, columns: Mapping[str, Any] | None) -> Declared:
    found: dict[str, Any] = {"categorical": [], "ids": [], "ignored": [], "ordinal": {}, "mask": None}
    for name, kind in (columns or {}).items():
        if kind == "mask":
            found["mask"] = name
        elif isinstance(kind, str):
            if kind not in _KINDS:
                msg = f"column {name!r} must be 'categorical', 'id', 'ignored', 'mask' or a list of words, got {kind!r}"
                raise ValueError(msg)
            found[_KINDS[kind]].append(name)
        else:
            found["ordinal"][name] = tuple(str(word) for word in kind)
    lists = {name: tuple(found[name]) for name in ("categorical", "ids", "ignored")}
    return Declared(target, ordinal=found["ordinal"], mask=found["mask"], **lists)


def _table(data: Any, declared: Declared, names: Sequence[str] | None = None) -> Table:
    if isinstance(data, (str, os.PathLike)):
        return read_table(data, text=declared.text)
    return Table.of(data, names=names if isinstance(data, np.ndarray) else None)


def recipe_and_pool(
    data: Any, target: str, columns: Mapping[str, Any] | None, settings: LabelSettings
) -> tuple[Recipe, Pool]:
    """The recipe and the pool of a new run; takes the arguments of `surrogate.label`.

    Raises:
        ValueError: If the table or a declaration is invalid; the message gives row and column.
        TypeError: If the table has an unsupported type.
    """
    declared = _declared(target, columns)
    table = _table(data, declared)
    is_file = isinstance(data, (str, os.PathLike))
    pool = Pool.of(table, declared)
    found = digest(data) if is_file else _digest_of(pool)
    source = str(Path(data).absolute()) if is_file else ""
    return Recipe(source, found, len(pool), pool.schema, settings), replace(pool, digest=found)


def encoded(recipe: Recipe, pool: Pool, rows: Any) -> Array:
    """Model inputs, with shape (m, d), of other rows with the columns of the pool.

    Args:
        recipe: Recipe of the run.
        pool: Pool of the run.
        rows: A table in any form that `surrogate.label` accepts.

    Raises:
        ValueError: If a column or a value is missing or of the wrong kind; the message gives row and column.

    Warns:
        UserWarning: If a column has categories that are not in the pool.
    """
    schema = recipe.schema
    declared = Declared(schema.target, recipe.declared().categorical)
    table = _table(rows, declared, [column.name for column in schema.columns])
    return pool.encode(*schema.read(table, may_be_unknown=True))


def _digest_of(pool: Pool) -> str:
    parts = (pool.numbers, pool.codes, pool.y, pool.allowed)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()
