"""Files that a run leaves behind, written so that killing it at any moment damages none of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import socket
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from surrogate.problem.evaluation import Evaluation

__all__ = [
    "FORMAT",
    "Journal",
    "Record",
    "RunFiles",
    "RunFolder",
    "append_line",
    "complete_lines",
    "load_arrays",
    "replacing",
    "save_arrays",
]

FORMAT = 1


# One evaluation per line


@dataclass(frozen=True, eq=False)
class Record:
    """One finished evaluation: the point ``x``, with shape (d,), proposed as number ``index`` of its step."""

    step: int
    index: int
    x: np.ndarray
    evaluation: Evaluation


@dataclass(frozen=True)
class Journal:
    """An append-only file with one line of JSON per finished evaluation.

    A line counts once it ends in a newline: what a killed process left of its last line is not read, and is cut off by
    the next `append`.

    Attributes:
        path: The file, which is made by the first `append`.
    """

    path: Path

    def append(self, record: Record) -> None:
        """Adds a line, which is on the disk when this returns.

        Raises:
            OSError: If it cannot be written.
        """
        append_line(self.path, json.dumps(_to_json(record), allow_nan=False).encode())

    def read(self) -> list[Record]:
        """All records in the order of writing; none if there is no file.

        Raises:
            ValueError: If a line other than an unfinished last one is damaged.
        """
        return [self._parse(line, number) for number, line in enumerate(complete_lines(self.path), start=1)]

    def _parse(self, line: bytes, number: int) -> Record:
        try:
            return _from_json(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            msg = (
                f"line {number} of {self.path} is damaged ({type(error).__name__}: {error}). "
                "Restore the file from a copy, or delete this line: its point is then evaluated again."
            )
            raise ValueError(msg) from error


def append_line(path: Path, line: bytes) -> None:
    """Adds a line to a file, which is made if need be; it is on the disk when this returns.

    What a killed process left of its last line is cut off.

    Raises:
        OSError: If it cannot be written.
    """
    is_new = not path.exists()
    with open(path, "ab+") as file:
        _cut_off_partial_line(file)
        file.write(line + b"\n")
        _sync(file)
    if is_new:
        _sync_folder(path.parent)


def complete_lines(path: Path) -> list[bytes]:
    """The lines of a file that end in a newline; none if there is no file."""
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    return lines


def _to_json(record: Record) -> dict[str, Any]:
    evaluation = record.evaluation
    return {
        "step": int(record.step),
        "index": int(record.index),
        "x": [_spelled(value) for value in np.asarray(record.x, dtype=np.float64).tolist()],
        "y": evaluation.y if math.isfinite(evaluation.y) else None,
        "status": evaluation.status,
        "derived": {name: _spelled(value) for name, value in evaluation.derived.items()},
        "noise": evaluation.noise,
        "seconds": evaluation.seconds,
        "worker": evaluation.worker,
        "reason": evaluation.reason,
        **({"gradient": list(evaluation.gradient)} if evaluation.gradient else {}),
    }


def _from_json(entry: dict[str, Any]) -> Record:
    evaluation = Evaluation(
        y=_y(entry["y"], entry["status"]),
        status=entry["status"],
        derived={name: float(value) for name, value in entry["derived"].items()},
        noise=float(entry["noise"]),
        reason=entry["reason"],
        seconds=float(entry["seconds"]),
        worker=entry["worker"],
        gradient=tuple(float(value) for value in entry.get("gradient", ())),
    )
    x = np.array([float(value) for value in entry["x"]])
    return Record(int(entry["step"]), int(entry["index"]), x, evaluation)


def _y(value: float | None, status: str) -> float:
    if status == "ok":
        return float(value)  # type: ignore[arg-type]  # null raises, as it should
    return {"infeasible": -math.inf, "failed": math.nan}[status]


def _spelled(value: float) -> float | str:
    """The number, which JSON writes so that it reads back exactly; as text if it is one that JSON lacks."""
    return value if math.isfinite(value) else repr(value)


def _cut_off_partial_line(file: IO[bytes]) -> None:
    if not file.seek(0, os.SEEK_END):
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


# Arrays


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of numbers and of fixed-width text to an npz file, all of it or nothing.

    The same arrays give the same bytes.

    Raises:
        ValueError: If an array holds Python objects, or is called "format", which is the number of the layout.
        OSError: If the file cannot be written; a former one is then intact.
    """
    if "format" in arrays:
        msg = "no array may be called 'format': that is the number of the layout of the file."
        raise ValueError(msg)
    converted = {name: np.asarray(array) for name, array in arrays.items()}
    if objects := [name for name, array in converted.items() if array.dtype.hasobject]:
        msg = f"only numbers and fixed-width text can be saved, got objects in: {', '.join(objects)}."
        raise ValueError(msg)
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in {"format": np.array(FORMAT), **converted}.items():
            # ZipInfo has a fixed date, unlike np.savez, which also cannot save an array called "file".
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is damaged, or has the layout of another version.
    """
    arrays = _unzipped(path)
    number = arrays.pop("format", None)
    if number is None or number.shape or number != FORMAT:
        msg = (
            f"{path} has format {'(none)' if number is None else number}, and this version reads {FORMAT}. "
            "Use the version that wrote it, or start anew in another folder."
        )
        raise ValueError(msg)
    return arrays


def _unzipped(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _member(archive, name) for name in members}
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        msg = (
            f"{path} cannot be read ({type(error).__name__}: {error}). Restore it from a copy, or remove it: "
            "the evaluations of a run are in its journal, and nothing of them is lost."
        )
        raise ValueError(msg) from error


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` once it is complete and on the disk.

    Whatever is raised on the way leaves the former file as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            yield file
            _sync(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


_TEMPORARY = ".tmp"


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Makes the names in a folder durable, where the system can open folders."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# The folder of a run


class RunFiles:
    """Names of the files that runs of every kind have; ``path`` is their folder."""

    path: Path

    @property
    def state_path(self) -> Path:
        """State of the loop, or the table of a labelling run: numbers only."""
        return self.path / "state.npz"

    @property
    def config_path(self) -> Path:
        """What was asked for, with defaults filled in."""
        return self.path / "config.yaml"

    @property
    def trace_path(self) -> Path:
        """One row per iteration, or per fit of a labelling run."""
        return self.path / "trace.csv"

    @property
    def report_path(self) -> Path:
        """The report, one page."""
        return self.path / "report.html"


class RunFolder(RunFiles):
    """The folder of one run: where its files are, and a lock that keeps a second process out.

    Reading needs no lock; `create` takes it and `close` or the end of the process gives it back.

        with RunFolder("runs/banana").create() as folder:
            folder.journal.append(record)

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None

    @property
    def journal(self) -> Journal:
        """All evaluations, one per line."""
        return Journal(self.path / "evaluations.jsonl")

    @property
    def reweighting_journal(self) -> Journal:
        """Evaluations at draws of the finished surrogate."""
        return Journal(self.path / "reweighting.jsonl")

    @property
    def chain_root(self) -> Path:
        """Root of the names of the GetDist files that the run itself wrote, re-weighted if it was asked to."""
        return self.path / "chain"

    @property
    def samples_root(self) -> Path:
        """Root of the names of those that were drawn afterwards."""
        return self.path / "samples"

    @property
    def holds_run(self) -> bool:
        """Whether a run has left evaluations or a state here."""
        return self.journal.path.exists() or self.state_path.exists()

    def create(self, *, force: bool = False) -> RunFolder:
        """Makes the folder if need be, locks it and removes what killed processes left half written.

        Args:
            force: Whether to start anew: the files of a former run are removed, but for its journal, which is renamed
                to ``evaluations.1.jsonl`` or the next free number.

        Raises:
            ValueError: If the folder cannot be made or written to.
            RuntimeError: If another process, or another part of this one, is running in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _probe(self.path)
            self._lock = _locked(self.path / ".lock")
        except OSError as error:
            msg = f"the output folder {self.path} cannot be written to ({error}). Choose another one."
            raise ValueError(msg) from error
        for leftover in self.path.glob(f".*{_TEMPORARY}"):
            leftover.unlink(missing_ok=True)
        if force:
            self._clear()
        return self

    def close(self) -> None:
        """Gives the lock back; once is enough and twice does no harm."""
        if self._lock is not None:
            _unlock(self._lock)
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
        known = [self.state_path, self.config_path, self.trace_path, self.report_path, self.reweighting_journal.path]
        chains = [path for pattern in ("chain.*", "chain_*.txt", "samples.*") for path in self.path.glob(pattern)]
        for path in [*known, *chains]:
            path.unlink(missing_ok=True)

    def _old_journal(self, number: int) -> Path:
        return self.path / f"evaluations.{number}.jsonl"


def _probe(folder: Path) -> None:
    """Writes a byte to the folder and takes it away again."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"0")
        _sync(file)


def _locked(path: Path) -> IO[str]:
    """The open lock file, which now says who has it."""
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  # open as long as the lock is held
    try:
        _lock(file)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    except BaseException:
        file.close()
        raise
    _HELD.add(file)
    return file


def _lock(file: IO[str]) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read() or "another process"
        msg = f"{Path(file.name).parent} is in use by {holder}. Wait for it or end it, or choose another output folder."
        raise RuntimeError(msg) from None
    except (ImportError, OSError) as error:
        msg = f"no lock in {Path(file.name).parent} ({error}): see to it yourself that no second process runs there."
        warnings.warn(msg, RuntimeWarning, stacklevel=4)


def _unlock(file: IO[str]) -> None:
    _HELD.discard(file)
    with contextlib.suppress(ImportError, OSError, ValueError):  # closing is not enough while a child is being forked
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


# A forked child shares the lock of its parent and would hold it after the parent's death.
_HELD: set[IO[str]] = set()


def _let_go() -> None:
    for file in _HELD:
        file.close()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
