"""Arrays of numbers in one npz file, with a format number and without pickles."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from surrogate.storage.files import replacing

__all__ = ["FORMAT", "load_arrays", "save_arrays"]

FORMAT = 1


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of numbers and of fixed-width text to an npz file, atomically.

    The same arrays give the same bytes.

    Raises:
        ValueError: If an array holds Python objects, or is called "format", which is reserved for the format number.
        OSError: If the file cannot be written; an existing file is then left unchanged.
    """
    if "format" in arrays:
        msg = "no array may be called 'format', the name of the format number of the file"
        raise ValueError(msg)
    converted = {name: np.asarray(array) for name, array in arrays.items()}
    if objects := [name for name, array in converted.items() if array.dtype.hasobject]:
        msg = f"only numbers and fixed-width text can be saved, got objects in: {', '.join(objects)}"
        raise ValueError(msg)
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in {"format": np.array(FORMAT), **converted}.items():
            # ZipInfo has a fixed date, unlike np.savez, which also cannot save an array called "file".
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays written by `save_arrays`, by name.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If the file is damaged, or has the format of another version.
    """
    arrays = _unzip(path)
    number = arrays.pop("format", None)
    if number is None or number.shape or number != FORMAT:
        msg = (
            f"{path} has format {'(none)' if number is None else number}, and this version reads {FORMAT}. "
            "Use the version that wrote it, or start again in another folder"
        )
        raise ValueError(msg)
    return arrays


def _unzip(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            return {member.filename.removesuffix(".npy"): _member(archive, member) for member in members}
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        msg = (
            f"{path} cannot be read ({type(error).__name__}: {error}). Restore it from a copy, or remove it: "
            "the evaluations of a run are in its journal and are not lost"
        )
        raise ValueError(msg) from error


# Exceptions that zipfile and numpy's header parser raise for damaged bytes.
_DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, ArithmeticError, MemoryError, RuntimeError),
    *(SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Reads one array; never allocates more memory than the size of the file."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        msg = f"{member.filename} is compressed; this package writes and reads uncompressed arrays only"
        raise ValueError(msg)
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > member.file_size:
        msg = f"{member.filename} is too short for the shape {shape} in its header"
        raise ValueError(msg)
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
