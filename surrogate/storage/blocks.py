"""Outputs of a simulator on disk: small ones in the journal itself, large ones in a binary file beside it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.problem.outputs import Layout, Outputs
from surrogate.storage.files import append_block, open_own

__all__ = ["blocks_path", "outputs_from_json", "outputs_to_json"]


_MOST_IN_LINE = 1024
"""Largest number of output values written into the journal itself: 20 kB of text."""

_DTYPE = np.dtype("<f8")


def blocks_path(journal: Path) -> Path:
    """Path of the file for large outputs beside a journal."""
    return journal.with_suffix(".outputs")


def outputs_to_json(outputs: Outputs, journal: Path) -> dict[str, Any]:
    """The journal entry for the outputs of an evaluation; large outputs are synced to disk before this returns."""
    entry: dict[str, Any] = {"layout": outputs.layout.to_text()}
    if len(outputs.values) <= _MOST_IN_LINE:
        return entry | {"values": outputs.values.tolist()}
    block = np.ascontiguousarray(outputs.values, dtype=_DTYPE).tobytes()
    offset = append_block(blocks_path(journal), block)
    return entry | {"offset": offset, "bytes": len(block), "sha256": hashlib.sha256(block).hexdigest()}


def outputs_from_json(entry: dict[str, Any], journal: Path) -> Outputs:
    """The outputs of an evaluation from its journal entry.

    Raises:
        ValueError: If the outputs are missing, or their checksum differs.
    """
    layout = Layout.from_text(entry["layout"])
    if "values" in entry:
        values = np.array([float(value) for value in entry["values"]])
    else:
        values = np.frombuffer(_block(entry, blocks_path(journal)), dtype=_DTYPE).astype(np.float64)
    if values.shape != (layout.size,) or not np.isfinite(values).all():
        msg = f"outputs must be {layout.size} finite numbers, got {len(values)}"
        raise ValueError(msg)
    values.flags.writeable = False
    return Outputs(layout, values)


def _block(entry: dict[str, Any], path: Path) -> bytes:
    if not path.exists():
        msg = f"{path}, which holds the outputs of this evaluation, is missing"
        raise ValueError(msg)
    with open_own(path, os.O_RDONLY, "rb") as file:
        file.seek(int(entry["offset"]))
        block = bytes(file.read(int(entry["bytes"])))
    if hashlib.sha256(block).hexdigest() != entry["sha256"]:
        msg = f"the outputs in {path} are not those that were written: their checksum differs"
        raise ValueError(msg)
    return block
