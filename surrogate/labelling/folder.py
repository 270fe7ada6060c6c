"""The folder of a labelling run: labels.jsonl, state.npz, config.yaml, trace.csv and report.html.

The journal is the truth: the state is what its events make of the table. ``state.npz`` holds the table as numbers, so
that commands start fast, and is made again from the table when it is missing; ``trace.csv`` is the learning curve.
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
