"""The folder of a labelling run: labels.jsonl, state.npz, config.yaml, trace.csv and report.html.

The journal defines the state, which results from replaying it on the table. ``state.npz`` caches the table as numbers
for fast starts, and is rebuilt if missing. ``trace.csv`` is the learning curve.
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from surrogate.labelling.journal import LabelJournal
from surrogate.labelling.pool import Pool
from surrogate.labelling.recipe import Recipe
from surrogate.labelling.state import Stage
from surrogate.labelling.table import read_table
from surrogate.storage.arrays import load_arrays, save_arrays
from surrogate.storage.files import replacing
from surrogate.storage.folder import RunFiles, RunFolder

__all__ = ["LabelFolder"]


@dataclass(frozen=True, eq=False)
class LabelFolder(RunFiles):
    """The files of a labelling run.

    Attributes:
        path: The folder.
        run: The locked run folder.
    """

    path: Path
    run: RunFolder = field(repr=False)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> LabelFolder:
        """The files of the run at a path, which need not exist yet."""
        return cls(Path(path), RunFolder(path))

    @property
    def journal(self) -> LabelJournal:
        """All events."""
        return LabelJournal(self.path / "labels.jsonl")

    @property
    def holds_run(self) -> bool:
        """Whether the folder holds a run: the recipe is the last file written at the start."""
        return self.config_path.exists()

    def save_pool(self, pool: Pool) -> None:
        """Writes the table as numbers."""
        save_arrays(self.state_path, pool.to_arrays())

    def load_pool(self, recipe: Recipe) -> Pool:
        """The pool, rebuilt from the table if ``state.npz`` is missing.

        Raises:
            ValueError: If neither can be used.
        """
        if self.state_path.exists():
            pool = Pool.from_arrays(load_arrays(self.state_path))
            if pool.digest == recipe.digest:
                return pool
        if not recipe.source:
            msg = f"{self.state_path} is missing, and the table was not a file: start the run again with the same table"
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
