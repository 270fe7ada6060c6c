"""Progress of a run: a live line on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

from surrogate.problem.accuracy import Thresholds

__all__ = ["SIGNALS", "Progress", "evaluations_left", "in_words", "limits_of_signals", "steady", "worst_signal"]

SIGNALS = {
    "spread": "draws disagree",
    "warm_spread": "tails disagree",
    "evidence_spread": "evidence unsure",
    "batch_error": "predictions off",
    "moved": "still moving",
}
"""Short description of the problem while a signal of the trace is above its limit."""

_BEYOND, _ALL_WELL = "beyond measure", "all signals below their limits"
_WIDTH = 79  # columns of a line: a terminal has at least 80, and the last one may wrap
_SLOW = 10.0  # seconds per call above which plain streams get a line for each call, not only for each batch
_PACE = 20  # last calls over which the time of a call is averaged, because a cluster's load changes
_WILD = 100.0  # times its limit: above this a signal jumps by orders of magnitude from batch to batch
_HISTORY = 6  # rows from which the rate of convergence is estimated: older ones were of another phase


def in_words(seconds: float) -> str:
    """A duration in at most seven characters.

    >>> in_words(0.25), in_words(75.0), in_words(600.0), in_words(9000.0), in_words(400000.0)
    ('0.25 s', '75 s', '10 min', '2.5 h', '4.6 d')
    """
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds >= 0.01 else "<0.01 s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def worst_signal(row: Mapping[str, Any], limits: Mapping[str, float]) -> str:
    """The signal furthest above its limit, in words and in units of the limit; empty if no signal is known."""
    known = {name: _number(row, name) / limit for name, limit in limits.items() if limit > 0 and name in SIGNALS}
    known = {name: ratio for name, ratio in known.items() if not math.isnan(ratio)}
    if not known:
        return ""
    name = max(known, key=lambda key: known[key])
    if known[name] <= 1.0:
        return _ALL_WELL
    return f"{SIGNALS[name]} {_times(known[name])}"


def _times(ratio: float) -> str:
    return _BEYOND if ratio >= _WILD else f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.1f}x"


def steady(estimates: Sequence[int | None], most: int | None = None) -> int | None:
    """The median of the last three estimates of the remaining evaluations, to two digits; None if two are missing.

    A single batch can change an estimate by a factor; the median of three lags one batch behind and ignores outliers.
    """
    known = sorted(e for e in estimates[-3:] if e is not None)
    if not known or len(known) < min(2, len(estimates)):
        return None
    middle = known[len(known) // 2]
    middle = middle if most is None else min(middle, most)
    return middle if middle < 20 else 5 * round(middle / 5)


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

    A straight line is fitted to the logs of the last few rows, so the estimate is rough.

    Args:
        rows: Trace so far, oldest first.
        limits: Limit of each signal.

    Returns:
        The estimate, or None if there are too few rows, no progress, or signals still far above their limits.
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
    """Shows calls and rows of the trace as they arrive.

    On a terminal or in a notebook one line is rewritten in place. Any other stream, such as the log of a batch system,
    gets plain lines: one for each row, one for each call of the initial design, and one for every call of a slow
    likelihood. A line has at most 79 characters; only the reason of the first failure may be longer, and is wrapped. A
    broken stream ends the display, never the run. May be used from several threads.

    Args:
        max_evaluations: Budget, shown beside the count.
        stream: Where to write; standard error unless given.
        limits: Limit of each signal; those of the stopping rule unless given.
        design: Number of points of the initial design, if known.
        workers: Number of calls made at the same time.
    """

    def __init__(
        self,
        *,
        max_evaluations: int | None = None,
        stream: IO[str] | None = None,
        limits: Mapping[str, float] | None = None,
        design: int | None = None,
        workers: int = 1,
    ) -> None:
        self._budget, self._design, self._workers = max_evaluations, design, max(workers, 1)
        self._stream: IO[str] | None = sys.stderr if stream is None else stream
        self._notebook = type(self._stream).__module__.startswith("ipykernel")
        terminal = bool(getattr(self._stream, "isatty", lambda: False)()) and os.environ.get("TERM") != "dumb"
        self._live = terminal or self._notebook
        self._limits = limits_of_signals() if limits is None else dict(limits)
        self._rows: list[dict[str, Any]] = []
        self._left: list[int | None] = []
        self._seconds: deque[float] = deque(maxlen=_PACE)
        self._failed, self._count, self._best, self._shown = 0, 0, -math.inf, 0
        self._start, self._lock = time.monotonic(), threading.Lock()

    def called(self, count: int, value: float, seconds: float, reason: str = "") -> None:
        """Shows a finished call.

        Args:
            count: Calls so far.
            value: Log-likelihood; -inf where impossible, NaN where the call failed.
            seconds: Wall-clock time of the call.
            reason: Why it failed.
        """
        with self._lock:
            self._seconds.append(seconds)
            self._count = max(self._count, count)
            if reason:
                self._failed += 1
                if self._failed == 1:
                    self._message(f"call {count} failed: {reason}")
            elif value > self._best:
                self._best = value
            if not self._rows or self._live or self._pace() >= _SLOW:
                self._show(self._call(value, reason) if not self._rows else self._line(self._rows[-1], value))

    def update(self, row: Mapping[str, Any]) -> None:
        """Shows a row of the trace.

        Args:
            row: Values by the names of the trace. Shown are ``n_evaluations``, ``best``, the worst signal and, as long
                as there are none, ``reason``.
        """
        with self._lock:
            self._rows.append(dict(row))
            self._left.append(evaluations_left(self._rows, self._limits))
            count, best = _number(row, "n_evaluations"), _number(row, "best")
            self._count = int(count) if math.isfinite(count) else self._count
            self._best = best if math.isfinite(best) else self._best
            self._show(self._line(self._rows[-1]))

    def say(self, message: str) -> None:
        """Prints a message on its own line, immediately."""
        with self._lock:
            self._message(message)

    def close(self, message: str = "") -> None:
        """Ends the display with a message on its own line."""
        with self._lock:
            self._write(self._erase() + (f"{message}\n" if message else ""))

    def _call(self, value: float, reason: str) -> str:
        """The line of a call of the initial design."""
        parts = [f"design {self._count}" + (f"/{max(self._design, self._count)}" if self._design else "")]
        parts += ["failed" if reason else "impossible" if value == -math.inf else f"value {value:.6g}"]
        parts += [f"best {self._best:.6g}"] if math.isfinite(self._best) and value != self._best else []
        parts += [f"{self._failed} failed"] if self._failed else []
        parts += [f"{in_words(self._pace())} a call"]
        left = (self._design or 0) - self._count
        parts += [f"{in_words(left * self._pace() / self._workers)} left"] if left > 0 else []
        return _cut_line(parts)

    def _line(self, row: Mapping[str, Any], value: float | None = None) -> str:
        """The line of a row; if it is too long, the clock and then the best value are dropped."""
        count = f"{self._count}/{self._budget} calls" if self._budget else f"{self._count} calls"
        count += f" ({self._failed} failed)" if self._failed else ""
        best = [f"best {self._best:.6g}"] if math.isfinite(self._best) else []
        last = [] if value is None or self._live or not math.isfinite(value) else [f"last {value:.6g}"]
        words, left = worst_signal(row, self._limits), self._remaining()
        if not words or _BEYOND in words or words == _ALL_WELL:
            words = str(row.get("reason") or words)
        signal = [words] if words else []
        clock = [_clock(time.monotonic() - self._start)]
        for parts in ([*last, *best, *signal, *left, *clock], [*last, *best, *signal, *left]):
            line = " | ".join([count, *parts])
            if len(line) <= _WIDTH:
                return line
        return _cut_line([count, *last, *best, *left, *signal])

    def _remaining(self) -> list[str]:
        left = steady(self._left, None if not self._budget else max(self._budget - self._count, 0))
        if left is None:
            return []
        if left == 0:
            return ["nearly done"]
        seconds = left * self._pace() / self._workers
        return [f"about {left} left" + (f", {in_words(seconds)}" if seconds >= 1 else "")]

    def _pace(self) -> float:
        """Mean time of the last calls in seconds."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else 0.0

    def _show(self, line: str) -> None:
        if self._live:
            self._write(self._erase() + line[: self._columns() - 1])
            self._shown = len(line)
        else:
            self._write(line + "\n")

    def _message(self, message: str) -> None:
        lines = textwrap.wrap(message, _WIDTH, subsequent_indent="  ") or [""]
        self._write(self._erase() + "\n".join(lines) + "\n")
        self._shown = 0

    def _erase(self) -> str:
        """Text that clears the current line: an escape sequence, or blanks in a notebook."""
        if not self._live or not (self._rows or self._shown or self._seconds):
            return ""
        return "\r" + " " * self._shown + "\r" if self._notebook else "\r\x1b[K"

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
        except (OSError, ValueError):  # a closed terminal or a broken pipe must not stop the run
            self._stream = None


def _cut_line(parts: Sequence[str]) -> str:
    """The parts joined to a line, cut at 79 characters."""
    line = " | ".join(parts)
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def _excess(row: Mapping[str, Any], limits: Mapping[str, float]) -> float:
    """Natural log of the largest ratio of a signal to its limit; nan if one is unknown or too large to use."""
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
