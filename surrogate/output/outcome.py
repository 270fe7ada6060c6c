"""The file with the outcome of a run: its verdict, its evidence, and the iteration from which they come."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from surrogate.output.record import Evidence, Record
from surrogate.storage.files import replacing

__all__ = ["read_outcome", "save_outcome"]


def save_outcome(evidence: Evidence, record: Record, path: Path) -> None:
    """Writes the outcome as JSON.

    Unless the run has converged the evidence has the key ``unconverged_log_evidence``, so that a program that reads it
    by name cannot use it by mistake. Numbers that are not finite are null.

    Raises:
        OSError: If it cannot be written.
    """
    mark = "" if record.converged else "unconverged_"
    row = record.trace[-1] if record.trace else {}
    values = {
        "converged": record.converged,
        "status": record.status,
        "n_evaluations": record.n_evaluations,
        f"{mark}log_evidence": evidence.log_evidence,
        f"{mark}log_evidence_error": evidence.error,
        "probability_of_a_hidden_mode": record.check.get("hidden_mode"),
        "iteration": row.get("step"),
    }
    with replacing(path) as file:
        file.write((json.dumps({name: _finite(value) for name, value in values.items()}, indent=1) + "\n").encode())


def _finite(value: Any) -> Any:
    """The value in a form that JSON allows."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    return float(value) if math.isfinite(value) else None


def read_outcome(path: Path) -> dict[str, Any]:
    """The outcome read from a file; empty if the file does not exist.

    Raises:
        ValueError: If the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"{path} is damaged ({error}); the end of the run rewrites it"
        raise ValueError(msg) from error
    if not isinstance(found, dict):
        msg = f"{path} is damaged: it holds no JSON object"
        raise ValueError(msg)
    return found
