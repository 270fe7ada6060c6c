"""Table rows for the numbers by which a run is judged, each with its limit and its meaning."""

from __future__ import annotations

import math

from surrogate.output.progress import SIGNALS as WORDS
from surrogate.output.progress import limits_of_signals
from surrogate.output.record import Evidence, Record

__all__ = ["SIGNALS", "Row", "signal_rows", "trust_rows"]

Row = tuple[str, str, str, str, str]
"""Name, value, limit, meaning, and "good", "bad" or ""."""

SIGNALS = {
    "spread": (
        "spread",
        "Divergence between the posteriors of the surrogate's mean and of its paths (95 % quantile, nats). "
        "Large: too few evaluations in the bulk of the posterior.",
    ),
    "warm_spread": (
        "spread, wider",
        "The same at a raised temperature, beyond the evaluated region. Large: part of the posterior may be missing.",
    ),
    "evidence_spread": ("evidence", "Standard deviation of the log evidence over paths of the surrogate."),
    "batch_error": (
        "batch",
        "Largest error of the predictions of the last batch, in units of 0.25 nats plus a tenth of the depth. "
        "Large: a kink, a jump, noise, or an unexplored part of the posterior.",
    ),
    "moved": ("moved", "How far the last batch moved the posterior (nats). Large: the surrogate is still changing."),
}
"""Short name and meaning of each signal, by its column in the trace."""

GOOD_K_HAT = 0.7  # Vehtari et al. (2024), arXiv:1507.02646
_GOOD_ERROR = 0.3  # nats: an error of this size in a log-weight is less than the noise of about ten draws
_GOOD_MOVE = 0.1  # sds
_GOOD_HIDDEN = 0.1


def signal_rows(record: Record) -> list[Row]:
    """Table rows of the convergence signals after the last batch."""
    last, rows = record.trace[-1], []
    for name, limit in limits_of_signals().items():
        value = float(last.get(name, math.nan))
        short, meaning = SIGNALS[name]
        meaning = f"{meaning} In the progress line: {WORDS[name]}."
        rows.append((short, _number(value), f"{limit:g}", meaning, _mark(value < limit, value)))
    return rows


def trust_rows(evidence: Evidence, record: Record) -> list[Row]:
    """Table rows of numbers that say how reliable the final surrogate is."""
    check = record.check
    error, k_hat = check.get("largest_error", math.nan), check.get("k_hat", math.nan)
    hidden = check.get("hidden_mode", math.nan)
    points = int(check.get("points", 0))
    moves = [float(value) for value in record.surrogate_error.get("mean", ())]
    rows: list[Row] = []
    if points:
        meaning = f"Self-check: largest prediction error over the last {points} evaluations in the bulk."
        rows.append(
            ("error of predictions", f"{error:.2g} nats", f"< {_GOOD_ERROR}", meaning, _mark(error < _GOOD_ERROR))
        )
        meaning = (
            "Pareto shape of the importance weights from the surrogate's mean to its paths. Above 0.7 the tails "
            "are uncertain: re-weight with true calls."
        )
        rows.append(("k-hat", f"{k_hat:.2f}", f"< {GOOD_K_HAT}", meaning, _mark(k_hat < GOOD_K_HAT)))
    else:
        rows.append(("self-check", "none", "", "No evaluation in the bulk was predicted before it was made.", ""))
    if math.isfinite(hidden):
        meaning = "Probability that a further mode with more than 5 % of the mass hides between the evaluations."
        rows.append(("hidden mode", f"{hidden:.1%}", f"< {_GOOD_HIDDEN:.0%}", meaning, _mark(hidden < _GOOD_HIDDEN)))
    if evidence.check is not None:
        check_words = str(evidence.check).removeprefix("log evidence ")
        value = f"{evidence.check.difference:+.1f} errors"
        rows.append(("second evidence", value, "within 3", f"{check_words}.", _mark(evidence.check.agrees)))
    if record.reweighting is not None:
        again = record.reweighting
        rows.append(("k-hat, true calls", f"{again.k_hat:.2f}", f"< {GOOD_K_HAT}", f"{again}.", _mark(again.reliable)))
    if moves and not all(map(math.isnan, moves)):
        meaning = "In the table of parameters: how far each mean moves over paths of the surrogate."
        rows.append(("error of mean", "see above", f"< {_GOOD_MOVE} sd", meaning, ""))
    return rows


def _number(value: float) -> str:
    return "not measured" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.2g}"


def _mark(good: bool, value: float = 0.0) -> str:  # noqa: FBT001
    return "" if math.isnan(value) else "good" if good else "bad"
