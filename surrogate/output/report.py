"""Report of a run as one self-contained HTML page: no scripts, no links, images embedded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path

import numpy as np

from surrogate.output.formulas import label_of
from surrogate.output.html import (
    Html,
    duration,
    facts,
    image,
    note,
    numbers,
    page,
    picture,
    section,
    table,
    verdict_line,
)
from surrogate.output.meanings import signal_rows, trust_rows
from surrogate.output.record import Evidence, Record
from surrogate.output.tables import (
    format_value,
    held_out_errors,
    left_out,
    plus_minus,
    probability_text,
    summary_rows,
    verdict,
)
from surrogate.output.trust import Predicting, has_predictions, predictions_figure, slices_figure
from surrogate.problem.dataset import FAILED, INFEASIBLE, OK
from surrogate.samplers.samples import Samples
from surrogate.storage.files import replacing
from surrogate.storage.versions import software_versions

__all__ = ["report_html", "save_report"]

_LISTED = 100  # failed evaluations that are listed individually
_PANEL = 6.0  # rem that a panel of the corner plot needs to be legible

Part = tuple[str, str]  # title and HTML of a section


def save_report(
    samples: Samples,
    evidence: Evidence,
    record: Record,
    path: str | os.PathLike[str],
    *,
    emulator: Predicting | None = None,
    reference: Samples | None = None,
    further: Sequence[Part] = (),
) -> None:
    """Writes the report to a file atomically; takes the arguments of `report_html`.

    Raises:
        OSError: If the file cannot be written.
    """
    text = report_html(samples, evidence, record, emulator=emulator, reference=reference, further=further)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(Path(path)) as file:
        file.write(text.encode())


def report_html(
    samples: Samples,
    evidence: Evidence,
    record: Record,
    *,
    emulator: Predicting | None = None,
    reference: Samples | None = None,
    further: Sequence[Part] = (),
) -> str:
    """The report as HTML text.

    Args:
        samples: Draws of the posterior.
        evidence: The log evidence.
        record: Record of the run.
        emulator: The surrogate, for slices; without it there are none.
        reference: Draws of the same posterior from another method, shown in the corner plot.
        further: Title and HTML of further sections, such as a posterior predictive, which follow that on convergence.
    """
    from surrogate.output.plots import corner_figure, evaluations_figure

    title = f"Posterior of {', '.join(samples.names)}"
    corner = corner_figure(samples, record, reference)
    parts = [
        verdict_line(verdict(record), good=record.converged),
        numbers(_headline(evidence, record)),
        section("The run", facts(_origin(record))),
        section("Parameters", _parameters(samples, record)),
        *_probabilities(evidence),
        section(
            "Posterior and evaluated points",
            image(corner, "Corner plot of the posterior", width=_PANEL * max(len(samples.names), 2)),
        ),
        section("How far to trust it", _trust(evidence, record)),
        *([section("Slices of the surrogate", _slices(samples, record, emulator))] if emulator is not None else []),
        section("Convergence", _convergence(evidence, record)),
        *(section(name, content) for name, content in further),
        section(
            "Evaluations",
            picture(lambda width: evaluations_figure(record, width), "Evaluations against the best one"),
            _timing(record),
        ),
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
        ("calls of the likelihood", f"{record.n_evaluations}" + (f" ({uncounted})" if uncounted else "")),
        ("best log-likelihood", f"{data.y_max:.6g}"),
        ("time in the likelihood", duration(float(data.seconds.sum()))),
    ]


def _origin(record: Record) -> list[tuple[str, str]]:
    """Names and values for the section that says how to repeat the run."""
    origin, unknown = record.origin, "not recorded"
    started = datetime.fromtimestamp(origin.started, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return [
        ("log-likelihood", origin.likelihood or unknown),
        ("command", Html(f"<code>{escape(origin.command)}</code>") if origin.command else "an interactive session"),
        ("folder", origin.folder or "none"),
        ("seed", unknown if origin.seed is None else f"{origin.seed}"),
        ("started", started if origin.started else unknown),
        ("host", origin.host or unknown),
        ("wall time", duration(origin.seconds) if origin.seconds else unknown),
    ]


def _parameters(samples: Samples, record: Record) -> str:
    head = ("parameter", "mean", "sd", "68 %", "95 %", "best fit", "error of mean", "prior")
    columns = samples.continuous
    bounds = [f"{low:g} … {high:g}".replace("inf", "∞") for low, high in samples.bounds]
    words_of_priors = record.priors or bounds
    priors = [*(words_of_priors[j] for j in columns), *["derived"] * len(samples.derived_names)]
    labels = [*(samples.labels[j] for j in columns), *samples.derived_names]
    rows = []
    for row, prior, label in zip(summary_rows(samples, record), priors, labels, strict=True):
        numbers = [format_value(value, row.sd) for value in (row.mean, row.sd)]
        numbers += [
            f"{format_value(low, row.sd)} … {format_value(high, row.sd)}"
            for low, high in (row.interval_68, row.interval_95)
        ]
        error = "-" if np.isnan(row.error) else f"{row.error:.3f} sd"
        name = label_of(label, row.name)
        rows.append([name, *numbers, format_value(row.best_fit, row.sd), error, prior])
    words = (
        "Intervals are equal-tailed. The best fit is the evaluated point of the highest log-posterior. The error "
        "of the mean is how far it moves over paths of the surrogate; the sampling error of the chain is not "
        "included."
    )
    if not record.priors:
        words += " The prior is shown by its support."
    notes = "".join(map(note, [*held_out_errors(samples), *left_out(samples)]))
    return table(head, rows, text_columns=1) + note(words) + notes


def _trust(evidence: Evidence, record: Record) -> str:
    rows = trust_rows(evidence, record)
    head = ("", "here", "good", "meaning")
    parts = [table(head, [row[:4] for row in rows], text_columns=1, marks=[row[4] for row in rows])]
    if not has_predictions(record):
        return parts[0] + note("No evaluation was predicted before it was made.")
    words = (
        "Each evaluation against the prediction of the surrogate before the call, with two standard deviations. "
        "Early predictions were far off because the run evaluates where it knows least; the last ones show how "
        "good the surrogate is."
    )
    parts.append(picture(lambda width: predictions_figure(record, width), "Predicted against true values"))
    return "".join([*parts, note(words)])


def _slices(samples: Samples, record: Record, emulator: Predicting) -> str:
    if not record.data.finite.any():
        return note("No value was finite.")
    words = (
        "The log-posterior of the surrogate along each parameter through the best evaluated point (star), with a band "
        "of two standard deviations. Dots are evaluations; they differ in the other parameters and so lie mostly "
        "below the curve. A band that is wide where the curve is high, or a curve that wiggles between dots, "
        "shows that the surrogate is still uncertain."
    )
    drawn = picture(lambda width: slices_figure(samples, record, emulator, width), "Slices of the surrogate")
    return drawn + note(words)


def _probabilities(evidence: Evidence) -> list[str]:
    """The section on probabilities of categories and integers, in a list; empty if there are no such parameters."""
    found = evidence.probabilities
    if found is None:
        return []
    rows = []
    for name, parameter in zip(found.levels.names, found.levels.parameters, strict=True):
        known, given = found.marginal(name), found.log_evidence_by(name)
        for value, prior in zip(parameter.values, parameter.weights, strict=True):
            probability = probability_text(*known[value]).replace("+-", "±")
            log_evidence = plus_minus(*given[value]).replace("+-", "±") if np.isfinite(given[value][0]) else "-"
            rows.append([name, str(value), probability, f"{prior:.3g}", log_evidence])
    head = ("parameter", "value", "probability", "prior probability", "log evidence given it")
    words = (
        "Errors are those of the surrogate and of sampling. Evidences given a value are averages over all other "
        "parameters; their differences are log Bayes factors."
    )
    return [section("Categories and integers", table(head, rows) + note(words))]


def _convergence(evidence: Evidence, record: Record) -> str:
    from surrogate.output.plots import trace_figure

    if not record.trace:
        return note("There was no iteration with a surrogate.")
    drawn = picture(
        lambda width: trace_figure(evidence, record, width),
        "Signals of convergence over their limits, and log evidence",
    )
    rows = signal_rows(record)
    head = ("signal", "last", "limit", "meaning")
    marks = [row[4] for row in rows]
    return drawn + table(head, [row[:4] for row in rows], text_columns=1, marks=marks)


def _timing(record: Record) -> str:
    seconds = record.data.seconds[record.data.seconds > 0]
    if len(seconds) == 0:
        return note("No times were recorded.")
    total, origin = float(seconds.sum()), record.origin
    pairs = [
        ("median call", duration(float(np.median(seconds)))),
        ("shortest", duration(float(seconds.min()))),
        ("longest", duration(float(seconds.max()))),
        ("all calls", duration(total)),
    ]
    if origin.seconds <= 0:
        return numbers(pairs)
    pairs += [("workers", f"{origin.workers}"), ("busy", f"{min(total / (origin.seconds * origin.workers), 1.0):.0%}")]
    words = (
        "Busy is the time in calls divided by the wall time of all workers; the rest is the method's own work "
        "and workers waiting for a batch."
    )
    return numbers(pairs) + note(words)


def _failures(names: tuple[str, ...], record: Record) -> str:
    data = record.data
    rows = np.flatnonzero(data.status == FAILED)
    if len(rows) == 0:
        return note("None.")
    counts = Counter(data.reasons[i] for i in rows).most_common()
    entries = [
        [
            f"{i + 1}",
            f"{data.step[i]}",
            duration(data.seconds[i]),
            ", ".join(f"{name} {value:.6g}" for name, value in zip(names, data.x[i], strict=True)),
            data.reasons[i],
        ]
        for i in rows[:_LISTED]
    ]
    share = f"{len(rows)} of {len(data)} evaluations failed, for {len(counts)} reason{'s' if len(counts) > 1 else ''}."
    summary = table(("count", "reason"), [[f"{n}", why] for why, n in counts[:10]], text_columns=1)
    places = "They are listed here and shown as crosses in the corner plot."
    more = note(f"... and {len(rows) - _LISTED} more, in evaluations.jsonl.") if len(rows) > _LISTED else ""
    listed = table(("evaluation", "step", "time", "place", "reason"), entries, text_columns=2)
    return note(share) + summary + note(places) + listed + more


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
