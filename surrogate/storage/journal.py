"""The journal of a run: one line of JSON per finished evaluation."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.problem.evaluation import Evaluation
from surrogate.storage.blocks import outputs_from_json, outputs_to_json
from surrogate.storage.files import append_line, complete_lines, open_own

__all__ = ["Entry", "Journal", "parse_lines"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One finished evaluation: the point ``x``, with shape (d,), proposed as number ``index`` of its step."""

    step: int
    index: int
    x: np.ndarray
    evaluation: Evaluation


@dataclass(frozen=True)
class Journal:
    """An append-only file with one line of JSON per finished evaluation; large outputs are in a file beside it.

    Only lines that end in a newline count. An incomplete last line, left by a killed process, is not read, and is
    removed by the next `append`.

    Attributes:
        path: The file, created by the first `append`.
    """

    path: Path

    def append(self, entry: Entry) -> None:
        """Appends a line and syncs it to disk.

        Raises:
            OSError: If it cannot be written.
        """
        append_line(self.path, json.dumps(_to_json(entry, self.path), allow_nan=False).encode())

    def read(self) -> list[Entry]:
        """All entries in the order of writing; empty if there is no file.

        Raises:
            ValueError: If a line is damaged, except an incomplete last one.
        """
        return [self._parse(line, number) for number, line in enumerate(complete_lines(self.path), start=1)]

    def _parse(self, line: bytes, number: int) -> Entry:
        try:
            return _from_json(json.loads(line, parse_constant=_refuse_constant), self.path)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            msg = (
                f"line {number} of {self.path} is damaged ({type(error).__name__}: {error}). "
                "Restore the file from a copy, or delete this line: its point is then evaluated again"
            )
            raise ValueError(msg) from error


def parse_lines(path: Path, offset: int) -> tuple[int, list[Entry]]:
    """The entries of a journal after a number of bytes, and the total number of bytes read.

    For programs that follow a run and read nothing twice. A journal that is shorter than before must be a new one, and
    is read from the beginning.

    Raises:
        ValueError: If a line is damaged.
        OSError: If the file cannot be read.
    """
    if not path.exists():
        return 0, []
    with open_own(path, os.O_RDONLY, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = offset if size >= offset else 0
        file.seek(start)
        text, _, _ = file.read().rpartition(b"\n")
    journal = Journal(path)
    lines = text.split(b"\n") if text else []
    entries = [journal._parse(line, number) for number, line in enumerate(lines, start=1)]
    return start + len(text) + (1 if text else 0), entries


def _to_json(entry: Entry, journal: Path) -> dict[str, Any]:
    evaluation = entry.evaluation
    return {
        "step": int(entry.step),
        "index": int(entry.index),
        "x": [_spelling(value) for value in np.asarray(entry.x, dtype=np.float64).tolist()],
        "y": evaluation.y if math.isfinite(evaluation.y) else None,
        "status": evaluation.status,
        "derived": {name: _spelling(value) for name, value in evaluation.derived.items()},
        "noise": evaluation.noise,
        "seconds": evaluation.seconds,
        "worker": evaluation.worker,
        "reason": evaluation.reason,
        **({"gradient": list(evaluation.gradient)} if evaluation.gradient else {}),
        **({} if evaluation.outputs is None else {"outputs": outputs_to_json(evaluation.outputs, journal)}),
    }


def _from_json(line: dict[str, Any], journal: Path) -> Entry:
    """The entry in a line of JSON.

    Raises:
        ValueError: If a value is invalid for an evaluation; other errors if one is missing or of the wrong type.
    """
    status = line["status"]
    evaluation = Evaluation(
        y=_y(line["y"], status),
        status=status,
        derived={name: float(value) for name, value in line["derived"].items()},
        noise=_number(line["noise"], "noise", low=0.0),
        reason=_word(line["reason"], "reason"),
        seconds=_number(line["seconds"], "seconds", low=0.0),
        worker=_word(line["worker"], "worker"),
        gradient=tuple(_number(value, "gradient") for value in line.get("gradient", ())),
        outputs=outputs_from_json(line["outputs"], journal) if "outputs" in line else None,
    )
    x = np.array([_number(value, "x") for value in line["x"]])
    return Entry(_count(line["step"], "step"), _count(line["index"], "index"), x, evaluation)


def _y(value: float | None, status: str) -> float:
    if status == "ok":
        return _number(value, "y")
    return {"infeasible": -math.inf, "failed": math.nan}[status]


def _number(value: Any, name: str, low: float = -math.inf) -> float:
    """The value as a finite number of at least ``low``; raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < math.inf:
        msg = f"{name} must be a finite number{'' if low == -math.inf else ' of at least 0'}, got {str(value)[:40]!r}"
        raise ValueError(msg)
    return float(value)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
        msg = f"{name} must be a whole number of at least 0, got {str(value)[:40]!r}"
        raise ValueError(msg)
    return value


def _word(value: Any, name: str) -> str:
    if not isinstance(value, str):
        msg = f"{name} must be text, got {str(value)[:40]!r}"
        raise TypeError(msg)
    return value


def _refuse_constant(word: str) -> float:
    msg = f"{word} is not a number in JSON"
    raise ValueError(msg)


def _spelling(value: float) -> float | str:
    """The number, which JSON represents exactly, or text for infinities and NaN, which JSON lacks."""
    return value if math.isfinite(value) else repr(value)
