"""Results as HTML for notebooks. Text is escaped; labels are rendered as formulas by the notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from surrogate.output.record import Evidence, Record
from surrogate.output.tables import format_value, plus_minus, summary_rows, verdict
from surrogate.output.text_table import html_table
from surrogate.samplers.samples import Samples

__all__ = ["facts_html", "result_html"]


def result_html(samples: Samples, evidence: Evidence, record: Record) -> str:
    """A result as HTML: the verdict, a row for each parameter, and the evidence."""
    labels = dict(zip(samples.names, samples.labels, strict=True))
    rows = []
    for row in summary_rows(samples, record):
        label = labels.get(row.name, row.name)
        low, high = (format_value(end, row.sd) for end in row.interval_95)
        values = [format_value(value, row.sd) for value in (row.mean, row.sd)]
        shown = row.name if label == row.name else f"{row.name} (${label}$)"
        rows.append([shown, *values, f"{low} … {high}", format_value(row.best_fit, row.sd)])
    head = ("parameter", "mean", "sd", "95 %", "best evaluated")
    words = "log evidence" if record.converged else "log evidence (NOT CONVERGED)"
    numbers = [
        [words, plus_minus(evidence.log_evidence, evidence.error)],
        ["calls of the likelihood", f"{record.n_evaluations}"],
    ]
    warnings = [] if record.converged else [verdict(record)]
    title = verdict(record) if record.converged else ""
    return html_table(warnings, [("", head, rows), ("", ("", ""), numbers)], title)


def facts_html(title: str, facts: Iterable[Sequence[str]], warnings: Iterable[str] = ()) -> str:
    """Names and values as a table under a title."""
    return html_table(warnings, [("", ("", ""), [list(map(str, fact)) for fact in facts])], title)
