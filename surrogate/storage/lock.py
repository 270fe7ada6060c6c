"""A lock that keeps a second process out of a folder."""

from __future__ import annotations

import contextlib
import os
import socket
import warnings
from pathlib import Path
from typing import IO

from surrogate.storage.files import open_own

__all__ = ["acquire", "release"]


def acquire(path: Path) -> IO[str]:
    """Locks a folder by a file in it, and returns the open file, which names this process.

    Raises:
        RuntimeError: If another process, or another part of this one, holds the lock.
        OSError: If the file cannot be written.
    """
    file = open_own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, "a+")
    try:
        _lock(file)
        if os.fstat(file.fileno()).st_nlink == 1:  # with a hard link it may be another file
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
        msg = (
            f"{Path(file.name).parent} is in use by {holder}. Wait for that process, end it, or "
            "choose another output folder"
        )
        raise RuntimeError(msg) from None
    except (ImportError, OSError) as error:
        msg = f"no lock in {Path(file.name).parent} ({error}): make sure that no second process uses the folder"
        warnings.warn(msg, RuntimeWarning, stacklevel=4)


def release(file: IO[str]) -> None:
    """Releases a lock that `acquire` took."""
    _HELD.discard(file)
    with contextlib.suppress(ImportError, OSError, ValueError):  # closing does not unlock while a child is being forked
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
