"""The journal of a run: one line of JSON per finished evaluation."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.problem.evaluation import Evaluation
from surrogate.storage.files import append_line, complete_lines

__all__ = ["Entry", "Journal"]


@dataclass(frozen=True, eq=False)
class Entry:
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

    def append(self, entry: Entry) -> None:
        """Adds a line, which is on the disk when this returns.

        Raises:
            OSError: If it cannot be written.
        """
        append_line(self.path, json.dumps(_to_json(entry), allow_nan=False).encode())

    def read(self) -> list[Entry]:
        """All entrys in the order of writing; none if there is no file.

        Raises:
            ValueError: If a line other than an unfinished last one is damaged.
        """
        return [self._parse(line, number) for number, line in enumerate(complete_lines(self.path), start=1)]

    def _parse(self, line: bytes, number: int) -> Entry:
        try:
            return _from_json(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            msg = (
                f"line {number} of {self.path} is damaged ({type(error).__name__}: {error}). "
                "Restore the file from a copy, or delete this line: its point is then evaluated again"
            )
            raise ValueError(msg) from error


def _to_json(entry: Entry) -> dict[str, Any]:
    evaluation = entry.evaluation
    return {
        "step": int(entry.step),
        "index": int(entry.index),
        "x": [_spelled(value) for value in np.asarray(entry.x, dtype=np.float64).tolist()],
        "y": evaluation.y if math.isfinite(evaluation.y) else None,
        "status": evaluation.status,
        "derived": {name: _spelled(value) for name, value in evaluation.derived.items()},
        "noise": evaluation.noise,
        "seconds": evaluation.seconds,
        "worker": evaluation.worker,
        "reason": evaluation.reason,
        **({"gradient": list(evaluation.gradient)} if evaluation.gradient else {}),
    }


def _from_json(entry: dict[str, Any]) -> Entry:
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
    return Entry(int(entry["step"]), int(entry["index"]), x, evaluation)


def _y(value: float | None, status: str) -> float:
    if status == "ok":
        return float(value)  # type: ignore[arg-type]  # null raises, as it should
    return {"infeasible": -math.inf, "failed": math.nan}[status]


def _spelled(value: float) -> float | str:
    """The number, which JSON writes so that it reads back exactly; as text if it is one that JSON lacks."""
    return value if math.isfinite(value) else repr(value)
