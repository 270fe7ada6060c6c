"""Writing and reading single files so that killing the process at any moment damages none of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["append_line", "complete_lines", "remove_leftovers", "replacing", "sync"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` once it is complete and on the disk.

    Whatever is raised on the way leaves the former file as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            yield file
            sync(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


_TEMPORARY = ".tmp"


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed processes left in a folder."""
    for leftover in folder.glob(f".*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)


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
        sync(file)
    if is_new:
        _sync_folder(path.parent)


def complete_lines(path: Path) -> list[bytes]:
    """The lines of a file that end in a newline; none if there is no file."""
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    return lines


def _cut_off_partial_line(file: IO[bytes]) -> None:
    if not file.seek(0, os.SEEK_END):
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def sync(file: IO[bytes]) -> None:
    """Writes what a file still buffers to the disk."""
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
