"""The outcome of a run in a file of its own: its verdict, its evidence, and the iteration that it was drawn from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from surrogate.output.record import Evidence, Record
from surrogate.storage.files import replacing

__all__ = ["read_outcome", "save_outcome"]


def save_outcome(evidence: Evidence, record: Record, path: Path) -> None:
    """Writes the outcome as JSON; unless the run has converged its evidence is called ``unconverged_log_evidence``.

    Nobody who reads a number by its name takes it for the evidence by mistake. Numbers that are not finite are null.

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
    """The value as JSON takes it."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    return float(value) if math.isfinite(value) else None


def read_outcome(path: Path) -> dict[str, Any]:
    """The outcome in a file; empty if there is no file.

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
