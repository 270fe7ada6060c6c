"""A live line on a terminal, plain lines elsewhere: how far a run is and how much is left."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

from surrogate.problem.accuracy import Thresholds

__all__ = ["Progress", "evaluations_left", "limits_of_signals"]

_SHORT = {"spread": "spread", "evidence_spread": "evidence", "batch_error": "batch", "moved": "moved"}
_WILD = 100.0  # times its limit, a signal jumps about by orders of magnitude from batch to batch
_HISTORY = 6  # rows that the pace of convergence is read from: older ones were another phase


def limits_of_signals() -> dict[str, float]:
    """Limits below which the signals of the trace must fall for convergence, by column."""
    limits = Thresholds()
    return {
        "spread": limits.spread,
        "warm_spread": limits.warm,
        "evidence_spread": limits.log_evidence,
        "batch_error": limits.batch,
        "moved": limits.moved,
    }


def evaluations_left(rows: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> int | None:
    """Estimated evaluations until the worst signal reaches its limit, from its recent exponential decrease.

    A straight line through the logs of the last few rows; a rough guess, which is all that anyone can know.

    Args:
        rows: Trace so far, oldest first.
        limits: Limit of each signal.

    Returns:
        None when it cannot be told: too few rows, no progress, or signals still far off.
    """
    points = [(_number(row, "n_evaluations"), _excess(row, limits)) for row in rows[-_HISTORY:]]
    if not points or not math.isfinite(points[-1][1]):
        return None
    n, excess = np.array([point for point in points if all(map(math.isfinite, point))]).reshape(-1, 2).T
    if len(n) < 3 or np.ptp(n) == 0:
        return None
    slope = np.polyfit(n - n[-1], excess, 1)[0]
    if excess[-1] <= 0:
        return 0
    return math.ceil(round(excess[-1] / -slope, 6)) if slope < -1e-6 else None


class Progress:
    """Shows rows of the trace as they come.

    On a terminal one line is rewritten in place; anything else, such as the log of a batch system, gets a plain line
    for each row. Signals of convergence are shown beside the limit that they must fall below. A stream that breaks
    ends the display, never the run.

    Args:
        max_evaluations: Budget, shown beside the count.
        stream: Where to write; standard error unless given.
        limits: Limit of each signal; those of the stopping rule unless given.
    """

    def __init__(
        self,
        *,
        max_evaluations: int | None = None,
        stream: IO[str] | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self._budget = max_evaluations
        self._stream: IO[str] | None = sys.stderr if stream is None else stream
        self._live = bool(getattr(self._stream, "isatty", lambda: False)())
        self._limits = limits_of_signals() if limits is None else dict(limits)
        self._rows: list[dict[str, Any]] = []
        self._start = time.monotonic()

    def update(self, row: Mapping[str, Any]) -> None:
        """Shows a row of the trace.

        Args:
            row: Values by the names of the trace. Shown are ``n_evaluations``, ``best``, the signals and, as long as
                there are none, ``reason``.
        """
        self._rows.append(dict(row))
        line = self._line()
        if self._live:
            self._write("\r\x1b[K" + line[: self._columns() - 1])
        else:
            self._write(line + "\n")

    def say(self, message: str) -> None:
        """Prints a message on its own line, immediately."""
        erase = "\r\x1b[K" if self._live and self._rows else ""
        self._write(f"{erase}{message}\n")

    def close(self, message: str = "") -> None:
        """Ends the display with a message on its own line."""
        erase = "\r\x1b[K" if self._live and self._rows else ""
        self._write(erase + (f"{message}\n" if message else ""))

    def _line(self) -> str:
        row, clock = self._rows[-1], _clock(time.monotonic() - self._start)
        return " | ".join([self._count(row), *_best(row), *self._left(), *self._signals(row), clock])

    def _count(self, row: Mapping[str, Any]) -> str:
        count = _number(row, "n_evaluations")
        done = f"{count:.0f}" if math.isfinite(count) else "?"
        return f"{done} of at most {self._budget} evaluations" if self._budget else f"{done} evaluations"

    def _signals(self, row: Mapping[str, Any]) -> list[str]:
        shown = {short: (_number(row, name), self._limits.get(name)) for name, short in _SHORT.items()}
        words = [
            f"{short} {value:.2g}/{limit:g}"
            for short, (value, limit) in shown.items()
            if math.isfinite(value) and limit
        ]
        return [", ".join(words)] if words else [str(row["reason"])] if row.get("reason") else []

    def _left(self) -> list[str]:
        left = evaluations_left(self._rows, self._limits)
        return [f"about {left} left"] if left else ["nearly done"] if left == 0 else []

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            return 80

    def _write(self, text: str) -> None:
        if self._stream is None or not text:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a closed terminal or a broken pipe; the run has more important things to do
            self._stream = None


def _best(row: Mapping[str, Any]) -> list[str]:
    best = _number(row, "best")
    return [f"best {best:.6g}"] if math.isfinite(best) else []


def _excess(row: Mapping[str, Any], limits: Mapping[str, float]) -> float:
    """Natural log of the worst signal over its limit; nan if one is not known, or so far off that it means nothing."""
    ratios = [_number(row, name) / limit for name, limit in limits.items() if limit > 0 and name in row]
    if not ratios or not all(ratio < _WILD for ratio in ratios):
        return math.nan
    return math.log(max(*ratios, 1e-9))


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        return float(row.get(name, math.nan))
    except (TypeError, ValueError):
        return math.nan


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
