"""Outputs of a simulator on disk: a few in the line of their evaluation, many in a binary file beside the journal."""

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
"""Numbers up to which outputs are written into the journal itself: 20 kB of text."""

_DTYPE = np.dtype("<f8")


def blocks_path(journal: Path) -> Path:
    """The file for large outputs that belongs to a journal."""
    return journal.with_suffix(".outputs")


def outputs_to_json(outputs: Outputs, journal: Path) -> dict[str, Any]:
    """What the line of an evaluation says of its outputs; many numbers are on the disk when this returns."""
    entry: dict[str, Any] = {"layout": outputs.layout.to_text()}
    if len(outputs.values) <= _MOST_IN_LINE:
        return entry | {"values": outputs.values.tolist()}
    block = np.ascontiguousarray(outputs.values, dtype=_DTYPE).tobytes()
    offset = append_block(blocks_path(journal), block)
    return entry | {"offset": offset, "bytes": len(block), "sha256": hashlib.sha256(block).hexdigest()}


def outputs_from_json(entry: dict[str, Any], journal: Path) -> Outputs:
    """The outputs that the line of an evaluation refers to.

    Raises:
        ValueError: If they are missing, or are not those that were written.
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
        msg = f"{path} is missing, which holds the outputs of this evaluation"
        raise ValueError(msg)
    with open_own(path, os.O_RDONLY, "rb") as file:
        file.seek(int(entry["offset"]))
        block = bytes(file.read(int(entry["bytes"])))
    if hashlib.sha256(block).hexdigest() != entry["sha256"]:
        msg = f"the outputs in {path} are not those that were written: their checksum differs"
        raise ValueError(msg)
    return block
