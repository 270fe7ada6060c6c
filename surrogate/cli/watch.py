"""``surrogate watch``: the progress of a run in the terminal, read from its files."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from surrogate.output.outcome import read_outcome
from surrogate.output.progress import SIGNALS, evaluations_left, in_words, limits_of_signals, steady
from surrogate.storage.arrays import load_arrays
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Entry, parse_lines

__all__ = ["RunFiles", "add_watch", "lines_of", "parameter_names"]

_EPILOG = """Only reads the run's files: it takes no lock, writes nothing, and works wherever the folder is visible.
On a terminal the lines are rewritten in place; elsewhere they are printed when something has changed.
"""
_PHASES = {
    "design": "initial design",
    "tempered": "looking for the posterior",
    "learn": "learning the posterior",
    "armed": "one more batch to confirm it",
    "explore": "looking for further modes",
    "done": "over",
    "gave up": "given up",
}
_OVER = ("done", "gave up")  # phases in which the run is over
_WIDTH = 79  # columns of a line
_BAR = 20  # characters of a bar; a signal at its limit fills half of it
_RECENT = 20  # last calls over which the pace is averaged


@dataclass(frozen=True)
class RunFiles:
    """The state of a run as read from its files.

    Attributes:
        folder: The folder.
        entries: Evaluations read so far.
        offset: Bytes of the journal read so far.
        rows: The trace.
        words: Names of the parameters, phase and verdict, from the state.
        outcome: The outcome of the run; empty before its end.
        stamps: Modification times of the files that are read whole, by name.
    """

    folder: RunFolder
    entries: tuple[Entry, ...] = ()
    offset: int = 0
    rows: tuple[Mapping[str, Any], ...] = ()
    words: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    stamps: Mapping[str, int] = field(default_factory=dict)

    def again(self) -> RunFiles:
        """An updated copy; only new lines of the journal and changed files are read."""
        offset, fresh = parse_lines(self.folder.journal.path, self.offset)
        restarted = offset < self.offset or not self.offset
        entries = tuple(fresh) if restarted else (*self.entries, *fresh)
        found = replace(self, entries=entries, offset=offset)
        stamp = _stamp(self.folder.trace_path)
        if stamp and stamp != self.stamps.get("trace"):
            found = replace(found, rows=_trace(self.folder.trace_path), stamps={**found.stamps, "trace": stamp})
        stamp = _stamp(self.folder.state_path)
        if stamp and stamp != self.stamps.get("state"):
            found = replace(found, words=_state(self.folder.state_path), stamps={**found.stamps, "state": stamp})
        return replace(found, outcome=read_outcome(self.folder.outcome_path))

    @property
    def over(self) -> bool:
        """Whether the run has reached its verdict, or has written the outcome of its last iteration."""
        return self.words.get("phase") in _OVER or self.concluded

    @property
    def concluded(self) -> bool:
        """Whether the outcome on file is that of the last iteration; it is older if the run was continued."""
        step = _number(self.rows[-1], "step") if self.rows else math.nan
        return bool(self.outcome) and _number(self.outcome, "iteration") == step


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _trace(path: Path) -> tuple[Mapping[str, Any], ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def _state(path: Path) -> Mapping[str, Any]:
    """Names, phase and verdict in a file of the state, without its arrays."""
    arrays = load_arrays(path)
    return {
        "names": parameter_names(arrays),
        "phase": str(arrays.get("verdict/phase", "")),
        "verdict": str(arrays.get("verdict/reason", "")),
    }


def parameter_names(state: Mapping[str, Any]) -> list[str]:
    """Names of the parameters in the arrays of a run's state, without loading scipy; empty if there is no state.

    Raises:
        ValueError: If the names cannot be read.
    """
    if not state:
        return []
    try:
        return [str(entry["name"]) for entry in json.loads(str(state["prior"]))]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        msg = f"the prior in state.npz cannot be read ({type(error).__name__}: {error}); restore the file from a copy"
        raise ValueError(msg) from error


def lines_of(files: RunFiles, now: float) -> list[str]:
    """The state of a run in lines of at most 79 characters.

    Args:
        files: The state of the run.
        now: The current time in seconds since 1970.
    """
    evaluations = [entry.evaluation for entry in files.entries]
    failed = [e for e in evaluations if e.status == "failed"]
    lines = [
        f"run       {_end_of(str(files.folder.path))}",
        f"phase     {_PHASES.get(str(files.words.get('phase') or 'design'), '')}",
        *_calls(files, now),
        *_best(files),
        *_pace(evaluations[-_RECENT:]),
        *_signals(files.rows),
        *_remaining(files),
        *_evidence(files),
    ]
    lines += [f"failed    {failed[-1].reason}"] if failed else []
    lines += [f"verdict   {files.words['verdict']}"] if files.words.get("verdict") else []
    return [_cut(_printable(line)) for line in lines]


def _calls(files: RunFiles, now: float) -> list[str]:
    """The number of calls, their outcomes, and the time of the last one."""
    statuses = [entry.evaluation.status for entry in files.entries]
    counts = ((statuses.count("infeasible"), "at -inf"), (statuses.count("failed"), "failed"))
    extra = ", ".join(f"{count} {words}" for count, words in counts if count)
    line = f"calls     {len(statuses)} calls" + (f" ({extra})" if extra else "")
    stamp = _stamp(files.folder.journal.path)
    return [f"{line}, the last {in_words(max(now - stamp * 1e-9, 0.0))} ago" if stamp else line]


def _best(files: RunFiles) -> list[str]:
    """The best evaluation and where it is."""
    finite = [entry for entry in files.entries if entry.evaluation.status == "ok"]
    if not finite:
        return []
    best = max(finite, key=lambda entry: entry.evaluation.y)
    names = files.words.get("names") or [f"x{j}" for j in range(len(best.x))]
    point = ", ".join(f"{name} = {value:.4g}" for name, value in zip(names, best.x, strict=False))
    return [f"best      {best.evaluation.y:.6g} at {point}"]


def _pace(recent: Sequence[Any]) -> list[str]:
    """How long a call takes, and on how many workers."""
    if not recent:
        return []
    return [f"pace      {in_words(sum(e.seconds for e in recent) / len(recent))} a call, {_workers(recent)}"]


def _remaining(files: RunFiles) -> list[str]:
    """About how many calls a run that is not over still needs."""
    left = None if files.over else _left(files.rows)
    return [] if left is None else [f"left      about {left} calls" if left else "left      nearly done"]


def _evidence(files: RunFiles) -> list[str]:
    """The log evidence, and a remark if it is not to be used."""
    row, mark, doubt = (files.rows[-1] if files.rows else {}), "", "so far, NOT CONVERGED"
    if files.concluded:
        row, good = files.outcome, bool(files.outcome.get("converged"))
        mark, doubt = ("", "log") if good else ("unconverged_", "NOT CONVERGED")
    value, error = (_number(row, f"{mark}log_evidence{end}") for end in ("", "_error"))
    return [f"evidence  {value:.3f} +- {error:.2g} ({doubt})"] if math.isfinite(value) else []


def _signals(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A bar for each signal: the limit is in the middle, and a decade takes a quarter of the bar."""
    out: list[str] = []
    for name, limit in limits_of_signals().items():
        value = _number(rows[-1], name) if rows else math.nan
        if math.isnan(value):
            continue
        ratio = value / limit
        length = _BAR if ratio == math.inf else round(_BAR * (0.5 + 0.25 * math.log10(max(ratio, 1e-9))))
        bar = "#" * min(max(length, 1), _BAR)
        shown = "ok" if ratio <= 1 else "beyond measure" if ratio >= 100 else f"{ratio:.2g} x its limit"
        out.append(f"{'signals' if not out else '':<10}{SIGNALS[name]:<17}[{bar:<{_BAR}}] {shown}")
    return out


def _left(rows: Sequence[Mapping[str, Any]]) -> int | None:
    limits = limits_of_signals()
    return steady([evaluations_left(rows[: len(rows) - i], limits) for i in (2, 1, 0) if len(rows) > i])


def _workers(evaluations: Sequence[Any]) -> str:
    n = len({e.worker for e in evaluations})
    return f"{n} worker{'s' * (n != 1)}"


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        value = row.get(name)
        return math.nan if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return math.nan


def _printable(line: str) -> str:
    """The line without control characters."""
    return "".join(c if c.isprintable() else " " for c in line)


def _end_of(path: str) -> str:
    """A path, or as much of its end as fits on a line."""
    room = _WIDTH - 10
    return path if len(path) <= room else "..." + path[3 - room :]


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def add_watch(commands: Any) -> None:
    """Adds the command to a parser."""
    parser = commands.add_parser(
        "watch",
        help="follow a run in the terminal",
        description="Follows a run until it is over. The run may be on another machine that shares the folder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=_watch)
    parser.add_argument("folder", metavar="DIR", help="folder of the run; it need not exist yet")
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between updates (default 2)")
    parser.add_argument("--once", action="store_true", help="print the progress once and exit")


def _watch(options: argparse.Namespace) -> int:
    if not 0.1 <= options.interval < math.inf:
        msg = f"--interval must be at least 0.1 seconds, got {options.interval}"
        raise ValueError(msg)
    folder = RunFolder(Path(options.folder))
    if options.once and not folder.holds_run:
        msg = f"{options.folder} holds no run: it has neither evaluations.jsonl nor state.npz"
        raise ValueError(msg)
    try:
        for _ in follow(folder, sys.stdout, once=options.once):
            time.sleep(options.interval)
    except KeyboardInterrupt:  # Ctrl-C is the usual way to end the command
        print(file=sys.stdout)
    return 0


def follow(
    folder: RunFolder, stream: IO[str], *, once: bool = False, clock: Callable[[], float] = time.time
) -> Iterator[None]:
    """An iterator that shows the run again at each step, and ends when the run is over."""
    files, shown, before = RunFiles(folder), 0, [""]
    live = stream.isatty() and os.environ.get("TERM") != "dumb" and not once
    while True:
        try:
            files = files.again()
            lines = lines_of(files, clock()) if folder.holds_run else [f"{folder.path}: no run yet"]
        except (ValueError, OSError) as error:  # a file is being replaced; the next update will read it
            lines = [_cut(f"{folder.path}: {' '.join(str(error).split())}")]
        up = f"\x1b[{shown}F\x1b[J" if live and shown else ""
        if live or once or _has_changed(before, lines):
            stream.write(up + "\n".join(lines) + "\n")
            stream.flush()
        shown, before = len(lines), lines
        if once or files.over:
            return
        yield


def _has_changed(before: list[str], lines: list[str]) -> bool:
    """Whether anything other than the age of the last call has changed."""
    return [line.partition(", the last")[0] for line in before] != [line.partition(", the last")[0] for line in lines]
