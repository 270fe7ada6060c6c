"""The folder of a run: its files, and the lock on it."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import IO

from surrogate.storage.blocks import blocks_path
from surrogate.storage.files import remove_leftovers, replacing, sync
from surrogate.storage.journal import Journal
from surrogate.storage.lock import acquire, release

__all__ = ["RUN_FILES", "RunFiles", "RunFolder"]


_CHAIN = (".txt", ".paramnames", ".ranges", ".properties.ini")
RUN_FILES = (
    *(
        "evaluations.jsonl",
        "evaluations.outputs",
        "reweighting.jsonl",
        "reweighting.outputs",
        "state.npz",
        "config.yaml",
        "trace.csv",
        "result.json",
        "report.html",
    ),
    *(f"chain{ending}" for ending in _CHAIN),
    *(f"samples{ending}" for ending in _CHAIN),
)
"""Names of the files that a posterior run writes into its folder."""


class RunFiles:
    """Paths of the files that every kind of run has; ``path`` is their folder."""

    path: Path

    @property
    def state_path(self) -> Path:
        """File of the loop's state, or of a labelling run's table; holds only numbers."""
        return self.path / "state.npz"

    @property
    def config_path(self) -> Path:
        """File of the settings, with defaults filled in."""
        return self.path / "config.yaml"

    @property
    def trace_path(self) -> Path:
        """File with one row per iteration, or per fit of a labelling run."""
        return self.path / "trace.csv"

    @property
    def report_path(self) -> Path:
        """File of the one-page report."""
        return self.path / "report.html"


class RunFolder(RunFiles):
    """The folder of one run: its files, and a lock that keeps other processes out.

    Reading needs no lock. `create` takes the lock; `close` or the end of the process releases it.

        with RunFolder("runs/banana").create() as folder:
            folder.journal.append(entry)

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None
        self._claimed = False

    @property
    def journal(self) -> Journal:
        """Journal of all evaluations, one per line."""
        return Journal(self.path / "evaluations.jsonl")

    @property
    def outcome_path(self) -> Path:
        """File of the verdict and the evidence, written at the end of a run."""
        return self.path / "result.json"

    @property
    def reweighting_journal(self) -> Journal:
        """Journal of the evaluations at draws of the finished surrogate."""
        return Journal(self.path / "reweighting.jsonl")

    @property
    def chain_root(self) -> Path:
        """Common root of the GetDist files that the run itself writes, re-weighted if requested."""
        return self.path / "chain"

    @property
    def samples_root(self) -> Path:
        """Common root of the GetDist files of samples drawn after the run."""
        return self.path / "samples"

    @property
    def holds_run(self) -> bool:
        """Whether the folder holds evaluations or a state of a run."""
        return self.journal.path.exists() or self.state_path.exists()

    def claim(self, *, into: bool = False) -> None:
        """Checks that a run may write to the folder: it must be new, empty, or that of an earlier run.

        The files that a run writes are listed in ``.surrogate``; no other file is ever replaced or removed.

        Args:
            into: Whether the folder may hold other files, as long as a run would not replace any of them.

        Raises:
            ValueError: If the folder holds other files.
        """
        self._claimed = True
        if self._manifest.exists() or self.holds_run or not self.path.is_dir():
            return
        others = sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith("."))
        taken = [name for name in others if name in RUN_FILES]
        if taken:
            names = ", ".join(taken)
            msg = (
                f"{self.path} holds no run, but it holds files that a run would replace ({names}). "
                "Choose another folder"
            )
            raise ValueError(msg)
        if others and not into:
            shown = ", ".join(others[:3]) + (" and others" if len(others) > 3 else "")
            msg = (
                f"{self.path} holds files that do not belong to a run ({shown}). Choose another "
                "folder, or into=True (--into)"
            )
            raise ValueError(msg)

    def create(self, *, force: bool = False) -> RunFolder:
        """Creates the folder if needed, locks it, and removes incomplete files left by killed processes.

        Args:
            force: Whether to start a new run: removes the files of the former run, and renames its journal
                to ``evaluations.1.jsonl`` or the next free number.

        Raises:
            ValueError: If the folder cannot be created or written to.
            RuntimeError: If another process, or another part of this one, uses the folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _probe(self.path)
            self._lock = acquire(self.path / ".lock")
        except OSError as error:
            msg = f"the output folder {self.path} cannot be written to ({error}). Choose another one"
            raise ValueError(msg) from error
        remove_leftovers(self.path, RUN_FILES)
        if self._claimed and not self._manifest.exists():
            with replacing(self._manifest) as file:
                file.write(("".join(f"{name}\n" for name in RUN_FILES)).encode())
        if force:
            self._clear()
        return self

    def close(self) -> None:
        """Releases the lock; may be called more than once."""
        if self._lock is not None:
            release(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def _clear(self) -> None:
        if self.journal.path.exists():
            number = next(i for i in itertools.count(1) if not self._old_journal(i).exists())
            self.journal.path.rename(self._old_journal(number))
            outputs = blocks_path(self.journal.path)
            if outputs.exists():
                outputs.rename(blocks_path(self._old_journal(number)))
        for name in RUN_FILES:
            if name != self.journal.path.name:
                (self.path / name).unlink(missing_ok=True)

    @property
    def _manifest(self) -> Path:
        """The file that marks the folder as that of a run, and lists the names that a run writes."""
        return self.path / ".surrogate"

    def _old_journal(self, number: int) -> Path:
        return self.path / f"evaluations.{number}.jsonl"


def _probe(folder: Path) -> None:
    """Writes a byte to the folder and removes it, to check that the folder is writable."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"0")
        sync(file)
