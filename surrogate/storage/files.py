"""Safe reading and writing of single files: killing the process at any moment damages none of them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["append_block", "append_line", "complete_lines", "open_own", "remove_leftovers", "replacing", "sync"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Context with a binary file that replaces ``path`` on exit, once it is complete and synced to disk.

    If anything is raised, the existing file is unchanged. A link at ``path`` is replaced, not followed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    temporary.unlink(missing_ok=True)  # left by a killed process with the same process id
    try:
        with open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb") as file:
            yield file
            sync(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


_TEMPORARY = ".tmp"


def remove_leftovers(folder: Path, names: Collection[str]) -> None:
    """Removes temporary versions of these files that killed processes left in a folder."""
    for leftover in folder.glob(f".*{_TEMPORARY}"):
        name, _, process = leftover.name.removesuffix(_TEMPORARY)[1:].rpartition(".")
        if name in names and process.isdigit():
            leftover.unlink(missing_ok=True)


def open_own(path: Path, flags: int, mode: str) -> IO[Any]:
    """Opens a regular file, without following a link or waiting for a pipe in its place.

    Raises:
        OSError: If the file cannot be opened, or is not a regular file.
    """
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", str(path))
    descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=lambda *_: descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def append_line(path: Path, line: bytes) -> None:
    """Appends a line to a file, created if needed, and syncs it to disk.

    An incomplete last line, left by a killed process, is removed first.

    Raises:
        OSError: If it cannot be written.
    """
    is_new = not path.exists()
    with open_own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, "ab+") as file:
        _cut_off_partial_line(file)
        file.write(line + b"\n")
        sync(file)
    if is_new:
        _sync_folder(path.parent)


def append_block(path: Path, block: bytes) -> int:
    """Appends bytes to a file, created if needed, syncs it to disk, and returns the position of the first byte.

    Raises:
        OSError: If it cannot be written.
    """
    is_new = not path.exists()
    with open_own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, "ab+") as file:
        offset = int(file.seek(0, os.SEEK_END))
        file.write(block)
        sync(file)
    if is_new:
        _sync_folder(path.parent)
    return offset


def complete_lines(path: Path) -> list[bytes]:
    """The complete lines of a file, which end in a newline; empty if there is no file.

    Raises:
        OSError: If the file cannot be read, or is not a regular file.
    """
    if not path.exists():
        return []
    with open_own(path, os.O_RDONLY, "rb") as file:
        *lines, _ = file.read().split(b"\n")
    return lines


def _cut_off_partial_line(file: IO[bytes]) -> None:
    if not file.seek(0, os.SEEK_END):
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def sync(file: IO[bytes]) -> None:
    """Flushes a file to disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Syncs a folder's directory entries to disk, on systems that can open folders."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
