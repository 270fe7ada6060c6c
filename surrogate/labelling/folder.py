"""The folder of a labelling run: labels.jsonl, state.npz, config.yaml, trace.csv and report.html.

The journal is the truth: the state is what its events make of the table. ``state.npz`` holds the table as numbers, so
that commands start fast, and is made again from the table when it is missing; ``trace.csv`` is the learning curve.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from surrogate.labelling.journal import LabelJournal
from surrogate.labelling.loop import LabelSettings
from surrogate.labelling.pool import Pool
from surrogate.labelling.schema import Declared, Schema
from surrogate.labelling.state import Stage
from surrogate.labelling.table import digest, read_table
from surrogate.storage.arrays import load_arrays, save_arrays
from surrogate.storage.files import replacing
from surrogate.storage.folder import RunFiles, RunFolder

__all__ = ["LabelFolder", "Recipe"]


@dataclass(frozen=True, eq=False)
class Recipe:
    """What was asked for when a run was made.

    Attributes:
        source: Path of the table; empty for one in memory.
        digest: SHA-256 of the table.
        rows: Its number of rows.
        schema: Meaning of its columns.
        settings: Of the run.
    """

    source: str
    digest: str
    rows: int
    schema: Schema
    settings: LabelSettings

    def to_document(self) -> dict[str, Any]:
        """Plain values; `of_document` reads them."""
        table = {"path": self.source, "sha256": self.digest, "rows": self.rows, **self.schema.to_document()}
        return {"pool": table, "settings": self.settings.to_document()}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_document`.

        Raises:
            ValueError: If words are missing or wrong.
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
            msg = f"config.yaml lacks or misspells {error}; restore it, or make the run anew in another folder"
            raise ValueError(msg) from error

    def declared(self) -> Declared:
        """The declarations that give the same schema for the same table."""
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
        """Raises ValueError if the table has gone or is another one than at the start."""
        if not self.source:
            return
        if not Path(self.source).is_file():
            msg = (
                f"the pool {self.source} is not there any more: put it back, or write its new place into config.yaml "
                "(pool: path)"
            )
            raise ValueError(msg)
        if (now := digest(self.source)) != self.digest:
            msg = (
                f"the pool {self.source} has changed since the run was made (SHA-256 {now[:12]}..., was "
                f"{self.digest[:12]}...): rows are known by their place in it. Put the former file back, or make a new "
                "run with the new one; the labels of this run are safe in labels.jsonl"
            )
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class LabelFolder(RunFiles):
    """Where the files of a run are.

    Attributes:
        path: The folder.
        run: Its lock.
    """

    path: Path
    run: RunFolder = field(repr=False)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> LabelFolder:
        """The folder of a path, which need not exist."""
        return cls(Path(path), RunFolder(path))

    @property
    def journal(self) -> LabelJournal:
        """All events."""
        return LabelJournal(self.path / "labels.jsonl")

    @property
    def holds_run(self) -> bool:
        """Whether there is a run: its recipe is written last."""
        return self.config_path.exists()

    def save_pool(self, pool: Pool) -> None:
        """Writes the table as numbers."""
        save_arrays(self.state_path, pool.to_arrays())

    def load_pool(self, recipe: Recipe) -> Pool:
        """The table; from its file if the numbers are not there.

        Raises:
            ValueError: If neither can be used.
        """
        if self.state_path.exists():
            pool = Pool.from_arrays(load_arrays(self.state_path))
            if pool.digest == recipe.digest:
                return pool
        if not recipe.source:
            msg = f"{self.state_path} is missing, and the table was not a file: make the run again with the same table"
            raise ValueError(msg)
        recipe.check_source()
        declared = recipe.declared()
        text = (*declared.text, *(column.name for column in recipe.schema.category_columns))
        pool = Pool.of(read_table(recipe.source, text=text), declared, digest=recipe.digest)
        self.save_pool(pool)
        return pool

    def save_trace(self, stages: tuple[Stage, ...]) -> None:
        """Writes the learning curve."""
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, [item.name for item in fields(Stage)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(stage) for stage in stages)
        with replacing(self.trace_path) as file:
            file.write(stream.getvalue().encode())
