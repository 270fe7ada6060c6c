"""The journal of a labelling run: one line of JSON per event, on disk before anything else happens.

    {"event": "asked", "batch": 1, "rows": [...], "random": [...], "prediction": [[mean, sd, low, high], ...], ...}
    {"event": "delivered", "batch": 1} {"event": "told", "rows": [...], "y": [...]}            all labels of one
    command, or none {"event": "corrected", "rows": [...], "y": [...], "before": [...]} {"event": "failed", "rows":
    [...], "reasons": [...]} {"event": "released", "rows": [...]} {"event": "judged", "stage": {...}}
    a model whose errors end the run

Rows are counted from 0. Replaying the events on the table gives the state; lines are never changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.labelling.state import Batch, LabelState, Stage
from surrogate.storage.files import append_line, complete_lines

__all__ = ["LabelJournal", "asked", "judged", "replay"]

Event = Mapping[str, Any]


@dataclass(frozen=True)
class LabelJournal:
    """An append-only file of events.

    Attributes:
        path: The file, created by the first `append`.
    """

    path: Path

    def append(self, event: Event) -> None:
        """Appends an event with the time, and syncs it to disk before returning.

        Raises:
            OSError: If it cannot be written.
        """
        stamped = {**event, "time": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        append_line(self.path, json.dumps(stamped, allow_nan=False).encode())

    def read(self) -> list[Event]:
        """All events; an incomplete last line is ignored.

        Raises:
            ValueError: If another line is damaged.
        """
        return [self._parsed(line, number) for number, line in enumerate(complete_lines(self.path), start=1)]

    def _parsed(self, line: bytes, number: int) -> Event:
        try:
            event = json.loads(line)
            return {**event, "event": str(event["event"])}
        except (ValueError, TypeError, KeyError) as error:
            msg = (
                f"line {number} of {self.path} is damaged ({type(error).__name__}: {error}). Restore the file from a "
                "copy, or delete this line and record its labels again"
            )
            raise ValueError(msg) from error


def replay(state: LabelState, events: list[Event]) -> LabelState:
    """The state after applying the events in order.

    Raises:
        ValueError: If the kind of an event is unknown to this version, or an event does not fit the table.
    """
    for number, event in enumerate(events, start=1):
        try:
            state = _after(state, event)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            msg = f"event {number} of the journal ({event['event']}) does not fit this run: {error}"
            raise ValueError(msg) from error
    return state


def _after(state: LabelState, event: Event) -> LabelState:
    kind = event["event"]
    if kind == "asked":
        return state.asked(_batch(event))
    if kind == "delivered":
        return state.delivered(int(event["batch"]))
    if kind in ("told", "corrected"):
        return state.told(event["rows"], event["y"])
    if kind == "failed":
        return state.failed(event["rows"], event["reasons"])
    if kind == "released":
        return state.released(event["rows"])
    if kind == "judged":
        return state.judged(_stage(event["stage"]))
    msg = "it was written by another version"
    raise ValueError(msg)


def asked(batch: Batch) -> Event:
    """The journal entry of a batch, as `replay` reads it."""
    prediction = [[_finite(value) for value in row] for row in batch.prediction.tolist()]
    return {
        "event": "asked",
        "batch": batch.number,
        "rows": batch.rows.tolist(),
        "random": batch.random.astype(int).tolist(),
        "prediction": prediction if np.isfinite(batch.prediction).any() else None,
        "level": batch.level,
        "stage": None if batch.stage is None else _plain(batch.stage),
        "note": batch.note,
    }


def judged(stage: Stage) -> Event:
    """The journal entry of a model that chose no batch, as `replay` reads it."""
    return {"event": "judged", "stage": _plain(stage)}


def _plain(stage: Stage) -> dict[str, Any]:
    return {name: _finite(value) for name, value in asdict(stage).items()}


def _stage(document: Mapping[str, Any]) -> Stage:
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in document.items()}
    return Stage(**known)


def _finite(value: Any) -> Any:
    """The value, or None for numbers that JSON cannot represent."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _batch(event: Event) -> Batch:
    rows = np.array(event["rows"], dtype=np.int64)
    prediction = np.full((len(rows), 4), np.nan)
    if event["prediction"] is not None:
        prediction = np.array(event["prediction"], dtype=np.float64).reshape(len(rows), 4)
    stage = None if event["stage"] is None else _stage(event["stage"])
    random = np.array(event["random"], dtype=bool)
    return Batch(int(event["batch"]), rows, random, prediction, float(event["level"]), stage, note=str(event["note"]))
