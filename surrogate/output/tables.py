"""Summaries of a run as text: weighted statistics and their tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array
from surrogate.output.record import Evidence, Record
from surrogate.problem.dataset import FAILED, INFEASIBLE
from surrogate.samplers.samples import Samples, equal_tailed_interval

__all__ = [
    "SummaryRow",
    "format_value",
    "held_out_errors",
    "left_out",
    "plus_minus",
    "probability_lines",
    "probability_text",
    "self_check",
    "summary_rows",
    "summary_table",
    "verdict",
]


@dataclass(frozen=True)
class SummaryRow:
    """Summary of one parameter: moments, equal-tailed intervals, best evaluated point, surrogate's error of the mean.

    The error is in posterior standard deviations. Best fit and error are nan for derived values.
    """

    name: str
    mean: float
    sd: float
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]
    best_fit: float
    error: float


def summary_rows(samples: Samples, record: Record) -> list[SummaryRow]:
    """A summary row for each continuous parameter, then for each derived value."""
    if samples.levels is not None:
        columns = samples.continuous
        best, error = record.best_fit[columns], {name: part[columns] for name, part in record.surrogate_error.items()}
        return _rows(samples.without_levels, best, error)
    return _rows(samples, record.best_fit, record.surrogate_error)


def _rows(samples: Samples, best_fit: Array, surrogate_error: Mapping[str, Array]) -> list[SummaryRow]:
    d = len(samples.names)
    values = np.column_stack([samples.unrolled, samples.derived])
    mean = samples.weights @ values
    sd = np.sqrt(samples.weights @ (values - mean) ** 2)
    mean[:d] = samples.mean
    inner, outer = (equal_tailed_interval(values, samples.weights, level) for level in (0.68, 0.95))
    blank = np.full(values.shape[1] - d, np.nan)
    best = np.concatenate([best_fit, blank])
    moved = np.concatenate([np.asarray(surrogate_error.get("mean", np.full(d, np.nan)), float), blank])
    error = np.divide(moved, sd, out=np.full_like(sd, np.nan), where=sd > 0)
    return [
        SummaryRow(
            name, float(mean[j]), float(sd[j]), _pair(inner[j]), _pair(outer[j]), float(best[j]), float(error[j])
        )
        for j, name in enumerate((*samples.names, *samples.derived_names))
    ]


def _pair(ends: Array) -> tuple[float, float]:
    return float(ends[0]), float(ends[1])


def format_value(value: float, scale: float) -> str:
    """The value as text, rounded to two digits of ``scale``: a mean, for example, to two digits of its sd.

    >>> format_value(0.123456, 0.034), format_value(67361.2, 540.0), format_value(3.21e-9, 4.5e-11)
    ('0.123', '67360', '3.210e-09')
    """
    if not math.isfinite(value):
        return "-" if math.isnan(value) else f"{value}"
    if not (math.isfinite(scale) and scale > 0):
        return f"{value:.6g}"
    decimals = 1 - math.floor(math.log10(scale))
    if decimals > 6 or decimals < -3 or abs(value) >= 1e9:
        leading = math.floor(math.log10(max(abs(value), scale)))
        return f"{value:.{min(max(leading + decimals, 1), 15)}e}"
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def plus_minus(value: float, error: float) -> str:
    """The value and its error as text, both rounded to two digits of the error.

    >>> plus_minus(-3.21456, 0.0312)
    '-3.215 +- 0.031'
    """
    return f"{format_value(value, error)} +- {format_value(error, error)}"


def summary_table(samples: Samples, evidence: Evidence, record: Record) -> str:
    """The summary of a run as text: parameters, log evidence, number of calls and why it stopped."""
    head = ("", "mean", "sd", "68 %", "95 %", "best fit", "error of mean")
    table = [head, *(_cells(row) for row in summary_rows(samples, record))]
    widths = [max(len(line[j]) for line in table) for j in range(len(head))]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in table]
    calls = f"{record.n_evaluations} call{'' if record.n_evaluations == 1 else 's'} of the likelihood"
    return "\n".join(
        [
            *lines,
            "",
            *probability_lines(evidence),
            f"log evidence  {plus_minus(evidence.log_evidence, evidence.error)}{_doubt(record)}",
            *([str(evidence.check)] if evidence.check else []),
            calls + _failure_counts(record),
            verdict(record),
            *self_check(record),
            *held_out_errors(samples),
            *left_out(samples),
        ]
    )


def probability_lines(evidence: Evidence) -> list[str]:
    """For each categorical and integer parameter a line with the posterior probabilities of its values."""
    if evidence.probabilities is None:
        return []
    names = evidence.probabilities.levels.names
    lines = []
    for name in names:
        found = evidence.probabilities.marginal(name)
        words = [f"{value} {probability_text(*pair)}" for value, pair in found.items()]
        lines.append(f"{name.ljust(max(map(len, names)))}  {', '.join(words)}")
    return [*lines, ""]


def probability_text(value: float, error: float) -> str:
    """A probability and its error with three decimals.

    >>> probability_text(0.61234, 0.0123), probability_text(0.00001, 0.00002)
    ('0.612 +- 0.012', '< 0.001')
    """
    return f"{value:.3f} +- {error:.3f}" if value + error >= 0.001 else "< 0.001"


def _doubt(record: Record) -> str:
    """Warning appended to the evidence of a run that has not converged."""
    return "" if record.converged else "  (NOT CONVERGED: not to be used)"


def self_check(record: Record) -> list[str]:
    """Lines on how well the run predicted its last evaluations; empty if it predicted none."""
    check = record.check
    if not check.get("points"):
        return []
    last = "the last evaluation" if check["points"] == 1 else f"each of the last {check['points']:.0f} evaluations"
    return [
        f"self-check: predicted {last} in the bulk to {format_value(check['largest_error'], check['largest_error'])} "
        f"nats before the call; Pareto k-hat over paths of the surrogate {check['k_hat']:.2f}"
    ]


def held_out_errors(samples: Samples) -> list[str]:
    """Lines on the held-out errors of derived values; empty if they are not emulated."""
    error = np.asarray(samples.derived_error, float)
    if not len(error) or not (error != 0).any():
        return []
    sd = np.sqrt(samples.weights @ (samples.derived - samples.weights @ samples.derived) ** 2)
    words = [
        f"{name} {format_value(e, e)}" + (f" ({e / s:.2g} sd)" if s > 0 else "")
        for name, e, s in zip(samples.derived_names, error.tolist(), sd.tolist(), strict=True)
        if e != 0
    ]
    return [f"derived values are emulated; held-out error of each: {', '.join(words)}"]


def left_out(samples: Samples) -> list[str]:
    """Lines on derived values left out of GetDist's plots; empty if there are none."""
    words = []
    for name, column in zip(samples.derived_names, samples.derived.T, strict=True):
        if not np.isfinite(column).all():
            words.append(f"{name} (not finite for {int((~np.isfinite(column)).sum())} of {len(column)} draws)")
        elif len(column) and np.ptp(column) == 0:
            words.append(f"{name} (always {column[0]:.6g})")
    return [f"derived values left out of GetDist's plots: {', '.join(words)}"] if words else []


def verdict(record: Record) -> str:
    """A sentence that says whether the run converged and why it stopped."""
    word = "converged" if record.converged else "NOT CONVERGED"
    return record.status if record.status.startswith(word) else f"{word}: {record.status}"


def _cells(row: SummaryRow) -> tuple[str, ...]:
    def number(value: float) -> str:
        return format_value(value, row.sd)

    def interval(pair: tuple[float, float]) -> str:
        return f"[{number(pair[0])}, {number(pair[1])}]"

    error = "-" if math.isnan(row.error) else f"{row.error:.3f} sd"
    return (
        row.name,
        number(row.mean),
        number(row.sd),
        interval(row.interval_68),
        interval(row.interval_95),
        number(row.best_fit),
        error,
    )


def _failure_counts(record: Record) -> str:
    """Text that counts infeasible and failed evaluations; empty if there are none."""
    infeasible, failed = (int((record.data.status == code).sum()) for code in (INFEASIBLE, FAILED))
    words = [f"{infeasible} at -inf"] * bool(infeasible) + [f"{failed} failed"] * bool(failed)
    return f" ({', '.join(words)})" if words else ""
