"""Report of a run as one self-contained HTML page: no scripts, no links, images embedded."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

import numpy as np

from surrogate.output.html import duration, image, note, numbers, page, section, table, verdict_line
from surrogate.output.record import Evidence, Record
from surrogate.output.tables import format_value, held_out_errors, left_out, plus_minus, summary_rows, verdict
from surrogate.problem.dataset import FAILED, INFEASIBLE, OK
from surrogate.samplers.samples import Samples
from surrogate.storage.files import replacing
from surrogate.storage.versions import software_versions

__all__ = ["report_html", "save_report"]

_LISTED = 100  # failed evaluations that get a row of their own


def save_report(samples: Samples, evidence: Evidence, record: Record, path: str | os.PathLike[str]) -> None:
    """Writes the report to a file atomically.

    Raises:
        OSError: If the file cannot be written.
    """
    text = report_html(samples, evidence, record)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(Path(path)) as file:
        file.write(text.encode())


def report_html(samples: Samples, evidence: Evidence, record: Record) -> str:
    """The report as HTML text."""
    from surrogate.output.plots import corner_figure, evaluations_figure

    title = f"Posterior of {', '.join(samples.names)}"
    parts = [
        verdict_line(verdict(record), good=record.converged),
        numbers(_headline(evidence, record)),
        section("Parameters", _parameters(samples, record)),
        section(
            "Posterior and evaluated points", image(corner_figure(samples, record), "Corner plot of the posterior")
        ),
        section("Convergence", _convergence(evidence, record)),
        section("Evaluations", image(evaluations_figure(record), "Evaluations against the best one"), _timing(record)),
        section("Failed evaluations", _failures(samples.names, record)),
        section("Sampling of the surrogate", _sampling(len(samples.weights), record)),
        f"<footer>{escape(', '.join(f'{name} {version}' for name, version in software_versions().items()))}</footer>",
    ]
    return page(title, parts)


def _headline(evidence: Evidence, record: Record) -> list[tuple[str, str]]:
    data = record.data
    counts = [
        f"{int((data.status == code).sum())} {word}" for code, word in ((INFEASIBLE, "at -inf"), (FAILED, "failed"))
    ]
    uncounted = ", ".join(words for words in counts if not words.startswith("0 "))
    return [
        (
            "log evidence" if record.converged else "log evidence (not converged)",
            plus_minus(evidence.log_evidence, evidence.error).replace("+-", "±"),
        ),
        *([("second estimate", str(evidence.check).removeprefix("log evidence "))] if evidence.check else []),
        ("calls of the likelihood", f"{record.n_evaluations}" + (f" ({uncounted})" if uncounted else "")),
        ("best log-likelihood", f"{data.y_max:.6g}"),
        ("time in the likelihood", duration(float(data.seconds.sum()))),
    ]


def _parameters(samples: Samples, record: Record) -> str:
    head = ("parameter", "mean", "sd", "68 %", "95 %", "best fit", "error of mean", "prior")
    bounds = [f"{low:g} … {high:g}".replace("inf", "∞") for low, high in samples.bounds]
    bounds += ["derived"] * len(samples.derived_names)
    rows = []
    for row, prior in zip(summary_rows(samples, record), bounds, strict=True):
        numbers = [format_value(value, row.sd) for value in (row.mean, row.sd)]
        numbers += [
            f"{format_value(low, row.sd)} … {format_value(high, row.sd)}"
            for low, high in (row.interval_68, row.interval_95)
        ]
        error = "-" if np.isnan(row.error) else f"{row.error:.3f} sd"
        rows.append([row.name, *numbers, format_value(row.best_fit, row.sd), error, prior])
    words = (
        "Intervals are equal-tailed. The best fit is the evaluated point of the highest log-posterior. The error of "
        "the mean is how far it moves over draws of the surrogate; the sampling error of the chain is not in it. "
        "The prior is shown by its support."
    )
    return table(head, rows) + note(words) + "".join(map(note, [*held_out_errors(samples), *left_out(samples)]))


def _convergence(evidence: Evidence, record: Record) -> str:
    from surrogate.output.plots import trace_figure

    if not record.trace:
        return note("There was no iteration with a surrogate.")
    return image(trace_figure(evidence, record), "Signals of convergence and log evidence")


def _timing(record: Record) -> str:
    seconds = record.data.seconds[record.data.seconds > 0]
    if len(seconds) == 0:
        return note("No times were recorded.")
    return numbers(
        [
            ("median call", duration(float(np.median(seconds)))),
            ("shortest", duration(float(seconds.min()))),
            ("longest", duration(float(seconds.max()))),
            ("all calls", duration(float(seconds.sum()))),
        ]
    )


def _failures(names: tuple[str, ...], record: Record) -> str:
    data = record.data
    rows = np.flatnonzero(data.status == FAILED)
    if len(rows) == 0:
        return note("None.")
    entries = [
        [
            f"{i + 1}",
            f"{data.step[i]}",
            ", ".join(f"{value:.6g}" for value in data.x[i]),
            duration(data.seconds[i]),
            data.reasons[i],
        ]
        for i in rows[:_LISTED]
    ]
    more = note(f"... and {len(rows) - _LISTED} more, in evaluations.jsonl.") if len(rows) > _LISTED else ""
    return table(("evaluation", "step", ", ".join(names), "time", "reason"), entries, text_columns=1) + more


def _sampling(n: int, record: Record) -> str:
    words = {
        "ess": "effective sample size",
        "autocorrelation_time": "autocorrelation time / steps",
        "acceptance": "acceptance",
        "importance_ess": "effective size of importance draws",
    }
    known = [
        (words.get(name, name.replace("_", " ")), f"{value:.0f}" if value >= 1000 else f"{value:.3g}")
        for name, value in record.sampler.items()
    ]
    finite = int((record.data.status == OK).sum())
    counts = [("rows", f"{n}"), *known, ("finite values learned from", f"{finite}")]
    return numbers(counts) + (note(f"{record.reweighting}.") if record.reweighting else "")
