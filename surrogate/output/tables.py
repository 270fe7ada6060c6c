"""Numbers for people: weighted summaries and their tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = [
    "SummaryRow",
    "equal_tailed_interval",
    "format_value",
    "held_out_errors",
    "plus_minus",
    "self_check",
    "summary_rows",
    "summary_table",
    "verdict",
    "weighted_quantile",
]


@dataclass(frozen=True)
class SummaryRow:
    """One parameter: moments, equal-tailed intervals, the best evaluated point, the surrogate's error of the mean.

    The last is in posterior standard deviations; best fit and error are nan for derived values.
    """

    name: str
    mean: float
    sd: float
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]
    best_fit: float
    error: float


def weighted_quantile(x: ArrayLike, weights: ArrayLike, q: ArrayLike) -> Array:
    """Quantiles of each column, interpolated between draws at the middle of their weights.

    Args:
        x: Draws with shape (n, d).
        weights: Weights with shape (n,), non-negative, of any normalisation.
        q: Probabilities with shape (k,).

    Returns:
        With shape (k, d). O(d n log n).
    """
    values, w, probabilities = np.asarray(x, float), np.asarray(weights, float), np.asarray(q, float)
    order = np.argsort(values, axis=0)
    columns = []
    for j in range(values.shape[1]):
        cumulative = np.cumsum(w[order[:, j]])
        middle = (cumulative - 0.5 * w[order[:, j]]) / cumulative[-1]
        columns.append(np.interp(probabilities, middle, values[order[:, j], j]))
    return np.stack(columns, axis=1) if columns else np.empty((len(probabilities), 0))


def equal_tailed_interval(x: ArrayLike, weights: ArrayLike, level: float) -> Array:
    """Intervals with as much weight below as above, with shape (d, 2).

    Raises:
        ValueError: If ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        msg = f"level must be a probability between 0 and 1, got {level}"
        raise ValueError(msg)
    return weighted_quantile(x, weights, [(1 - level) / 2, (1 + level) / 2]).T


def summary_rows(result: Result) -> list[SummaryRow]:
    """A row per parameter, then one per derived value."""
    d = len(result.names)
    values = np.column_stack([result.unrolled, result.derived])
    mean = result.weights @ values
    sd = np.sqrt(result.weights @ (values - mean) ** 2)
    mean[:d] = result.mean
    inner, outer = (equal_tailed_interval(values, result.weights, level) for level in (0.68, 0.95))
    blank = np.full(values.shape[1] - d, np.nan)
    best = np.concatenate([result.best_fit, blank])
    moved = np.concatenate([np.asarray(result.surrogate_error.get("mean", np.full(d, np.nan)), float), blank])
    error = np.divide(moved, sd, out=np.full_like(sd, np.nan), where=sd > 0)
    return [
        SummaryRow(
            name, float(mean[j]), float(sd[j]), _pair(inner[j]), _pair(outer[j]), float(best[j]), float(error[j])
        )
        for j, name in enumerate((*result.names, *result.derived_names))
    ]


def _pair(ends: Array) -> tuple[float, float]:
    return float(ends[0]), float(ends[1])


def format_value(value: float, scale: float) -> str:
    """The value to two digits of ``scale``, such as a mean to two digits of its sd.

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
    """The value and its error with the digits that the error leaves.

    >>> plus_minus(-3.21456, 0.0312)
    '-3.215 +- 0.031'
    """
    return f"{format_value(value, error)} +- {format_value(error, error)}"


def summary_table(result: Result) -> str:
    """Parameters, log evidence, calls of the likelihood and the reason of the stop, as text."""
    head = ("", "mean", "sd", "68 %", "95 %", "best fit", "error of mean")
    table = [head, *(_cells(row) for row in summary_rows(result))]
    widths = [max(len(line[j]) for line in table) for j in range(len(head))]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in table]
    calls = f"{result.n_evaluations} call{'' if result.n_evaluations == 1 else 's'} of the likelihood"
    return "\n".join(
        [
            *lines,
            "",
            f"log evidence  {plus_minus(result.log_evidence, result.log_evidence_error)}",
            *([str(result.evidence)] if result.evidence else []),
            calls + _uncounted(result),
            verdict(result),
            *self_check(result),
            *held_out_errors(result),
        ]
    )


def self_check(result: Result) -> list[str]:
    """A line on how well the run predicted its last evaluations, if it did."""
    check = result.check
    if not check.get("points"):
        return []
    last = "the last evaluation" if check["points"] == 1 else f"each of the last {check['points']:.0f} evaluations"
    return [
        f"self-check: predicted {last} of the bulk to {format_value(check['largest_error'], check['largest_error'])} "
        f"nats beforehand; Pareto k-hat over draws of the surrogate {check['k_hat']:.2f}"
    ]


def held_out_errors(result: Result) -> list[str]:
    """A line on how well derived values are known, if they are emulated."""
    error = np.asarray(result.derived_error, float)
    if not len(error) or not (error != 0).any():
        return []
    sd = np.sqrt(result.weights @ (result.derived - result.weights @ result.derived) ** 2)
    words = [
        f"{name} {format_value(e, e)}" + (f" ({e / s:.2g} sd)" if s > 0 else "")
        for name, e, s in zip(result.derived_names, error.tolist(), sd.tolist(), strict=True)
        if e != 0
    ]
    return [f"derived values are emulated; held-out error of each: {', '.join(words)}"]


def verdict(result: Result) -> str:
    """Whether the run converged and why it stopped, in a sentence."""
    word = "converged" if result.converged else "NOT CONVERGED"
    return result.status if result.status.startswith(word) else f"{word}: {result.status}"


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


def _uncounted(result: Result) -> str:
    """Words for the evaluations that brought no value."""
    infeasible, failed = (int((result.data.status == code).sum()) for code in (1, 2))
    words = [f"{infeasible} at -inf"] * bool(infeasible) + [f"{failed} failed"] * bool(failed)
    return f" ({', '.join(words)})" if words else ""
