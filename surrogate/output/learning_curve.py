"""Plots and report of a labelling run: how the error falls as labels are added, and how well intervals cover."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from surrogate.arrays import Array
from surrogate.output.html import note, numbers, page, picture, section, table, verdict_line
from surrogate.output.style import png, style
from surrogate.output.tables import plus_minus
from surrogate.storage.files import replacing
from surrogate.storage.versions import software_versions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LabelSummary", "RowDetails", "curve_figure", "label_report_html", "predictions_figure", "save_label_report"]


_BLUE, _RED, _GREY, _BAND = "#2f5d8c", "#d1495b", "#8a96a3", "#d3e0ee"


@dataclass(frozen=True)
class RowDetails:
    """Text that a report shows about individual rows.

    Attributes:
        spread: Standard deviation of the labels; NaN if there are fewer than two.
        asked: Batch, row, prediction, reason for asking and label, for each row of the last batches.
        categories: Column, category, number of rows and number of labelled rows, for each category.
        outlying: Row, label and reason, for each label that lies far from the others or from its prediction.
    """

    spread: float = math.nan
    asked: tuple[tuple[str, ...], ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    outlying: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class LabelSummary:
    """The data that a report shows.

    Attributes:
        target: Column of the labels.
        verdict: Whether the run is over, in a sentence.
        over: Whether the run is over.
        facts: Pairs of a name and a value.
        notes: Warnings, as sentences.
        stages: For each stage the number of labels, held-out RMSE, its standard error, MAE, number of held-out rows,
            and 1 if these are a random sample, with shape (k, 6).
        models: Name of the model of each stage.
        batches: For each batch the number of labels when it was requested, and the RMSE of predictions made before its
            labels were known, on its chosen rows and on its random rows; with shape (m, 3), NaN where there are none.
        seen: Label, predicted mean, both ends of the interval, and 1 if the row was drawn at random, for each row that
            was predicted before its label was known, with shape (j, 5).
        level: Probability of the intervals.
        constant: Held-out RMSE of predicting the mean label, on the rows of the last stage; NaN if not measured.
        ridge: Held-out RMSE of a ridge regression on the same rows.
        details: Tables about individual rows.
    """

    target: str
    verdict: str
    over: bool
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    stages: Array
    models: tuple[str, ...]
    batches: Array
    seen: Array
    level: float
    constant: float = math.nan
    ridge: float = math.nan
    details: RowDetails = RowDetails()


def save_label_report(summary: LabelSummary, path: str | os.PathLike[str]) -> None:
    """Writes the report, or only the learning curve if the path ends in .png, atomically.

    Raises:
        ValueError: If the path ends in neither .html nor .png.
        OSError: If the file cannot be written.
    """
    file = Path(path)
    if file.suffix not in (".html", ".png"):
        msg = f"a report is a .html or a .png file, got {file.name!r}"
        raise ValueError(msg)
    content = label_report_html(summary).encode() if file.suffix == ".html" else png(curve_figure(summary), dpi=150)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as stream:
        stream.write(content)


def label_report_html(summary: LabelSummary) -> str:
    """The report as HTML text."""
    title = f"Labels of {summary.target}"
    versions = ", ".join(f"{name} {version}" for name, version in software_versions().items())
    parts = [
        verdict_line(summary.verdict, good=summary.over),
        numbers(summary.facts),
        *map(note, summary.notes),
        *_yardsticks(summary),
        section("Learning curve", *_curve(summary)),
        section("Predicted before the label was known", *_predictions(summary)),
        *_rows(summary.details, summary.target),
        f"<footer>{escape(versions)}</footer>",
    ]
    return page(title, parts)


def _yardsticks(summary: LabelSummary) -> list[str]:
    """A table of the model's error beside the errors of simple baselines."""
    if not len(summary.stages):
        return []
    rmse, error = summary.stages[-1, 1:3].tolist()
    rows = [
        ("model", _with_error(rmse, error), summary.models[-1]),
        ("ridge regression", f"{summary.ridge:.4g}", "a plane through the labels"),
        ("constant", f"{summary.constant:.4g}", "the mean label for every row"),
        ("spread of the labels", f"{summary.details.spread:.4g}", "their standard deviation"),
    ]
    shown = [row for row in rows if row[1] != "nan"]
    words = "A model that is no better than a constant has learned nothing from the columns."
    return [
        section("Is it better than no model?", table(("", "RMSE", "what it is"), shown, text_columns=1), note(words))
    ]


def _rows(details: RowDetails, target: str) -> list[str]:
    """The sections about individual rows; empty ones are left out."""
    parts = []
    if details.outlying:
        words = "These labels need not be wrong, but check them. Correct a mistyped label with tell --correct."
        shown = table(("row", target, "stands out"), details.outlying, text_columns=1)
        parts.append(section("Labels that stand out", shown, note(words)))
    if details.categories:
        parts.append(section("Categories", table(("column", "word", "rows", "labelled"), details.categories)))
    if details.asked:
        words = f"The last {len(details.asked)} rows that were requested."
        shown = table(("batch", "row", "predicted", "reason", target), details.asked, text_columns=2)
        parts.append(section("Why each row was requested", note(words), shown))
    return parts


def _curve(summary: LabelSummary) -> list[str]:
    if not len(summary.stages):
        return [note("No model has been fitted yet.")]
    rows = [
        [f"{n:.0f}", model, _with_error(rmse, error), f"{mae:.4g}", f"{rows:.0f}{'' if random else ' (not random)'}"]
        for (n, rmse, error, mae, rows, random), model in zip(summary.stages.tolist(), summary.models, strict=True)
    ]
    words = (
        "Held-out error: cross-validation, over labelled rows that were drawn at random. Errors of a batch are "
        "those of predictions saved before its labels were known. Chosen rows are those that the model knew "
        "least about, so their errors are larger than over the whole table."
    )
    head = ("labels", "model", "held-out RMSE", "held-out MAE", "over rows")
    drawn = picture(lambda width: curve_figure(summary, width), "Error against labels")
    return [drawn, table(head, rows), note(words)]


def _with_error(value: float, error: float) -> str:
    return plus_minus(value, error).replace("+-", "±")


def _predictions(summary: LabelSummary) -> list[str]:
    if not len(summary.seen):
        return [note("No row has been predicted before its label was known yet.")]
    return [picture(lambda width: predictions_figure(summary, width), "Labels against their predictions")]


def curve_figure(summary: LabelSummary, width: float = 7.4) -> Figure:
    """Held-out RMSE against labels, with the errors of the batches."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width, 3.9))
        _draw_curve(figure.subplots(), summary)
    return figure


def _draw_curve(axes: Axes, summary: LabelSummary) -> None:
    n, rmse, error, random = summary.stages[:, [0, 1, 2, 5]].T if len(summary.stages) else np.empty((4, 0))
    for chosen, face, words in (
        (random == 1, _BLUE, "held out, random rows"),
        (random == 0, "white", "held out, rows not random"),
    ):
        if chosen.any():
            bars = axes.errorbar(
                n[chosen], rmse[chosen], error[chosen], fmt="o", ms=4.5, color=_BLUE, mfc=face, capsize=2
            )
            bars.set_label(words)
    axes.plot(n, rmse, "-", color=_BLUE, lw=1.0, zorder=1)
    for column, marker, colour, words in (
        (1, "^", _RED, "batch before its labels, chosen rows"),
        (2, "s", _GREY, "batch before its labels, random rows"),
    ):
        known = np.isfinite(summary.batches[:, column]) & (summary.batches[:, column] > 0)
        if known.any():
            at = summary.batches[known]
            axes.plot(at[:, 0], at[:, column], marker, ms=4, color=colour, label=words, alpha=0.8)
    _finish_curve(axes, summary)


def _finish_curve(axes: Axes, summary: LabelSummary) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    low, high = axes.get_ylim()
    if high / low > 8:
        axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("labels")
    axes.set_ylabel(f"RMSE of {summary.target}", parse_math=False)
    axes.grid(visible=True, which="both", color="#eceff2", lw=0.6)
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=_columns(axes), columnspacing=1.6, handlelength=1.2
        )


def predictions_figure(summary: LabelSummary, width: float = 7.4) -> Figure:
    """Labels against the predictions made before they were known, with intervals."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width, 3.9))
        axes = figure.subplots()
        _draw_predictions(axes, summary)
    return figure


_SHOWN = 1500  # rows; more would overlap


def _draw_predictions(axes: Axes, summary: LabelSummary) -> None:
    step = max(1, len(summary.seen) // _SHOWN)
    y, mean, low, high, random = summary.seen[::step].T
    ends = [min(y.min(), mean.min()), max(y.max(), mean.max())]
    axes.plot(ends, ends, "-", color="#444444", lw=0.8, zorder=1)
    for chosen, colour, words in ((random == 0, _RED, "chosen rows"), (random == 1, _BLUE, "random rows")):
        if chosen.any():
            half = np.stack([mean - low, high - mean])[:, chosen]
            label = f"{words} ({summary.level:.0%} interval)"
            lines = axes.errorbar(mean[chosen], y[chosen], xerr=half, fmt="o", ms=2.5, lw=0.5, color=colour, alpha=0.55)
            lines.set_label(label)
    margin = 0.05 * (ends[1] - ends[0] or 1.0)
    axes.set_xlim(ends[0] - 4 * margin, ends[1] + 4 * margin)
    axes.set_ylim(ends[0] - margin, ends[1] + margin)
    axes.set_xlabel(f"predicted {summary.target}", parse_math=False)
    axes.set_ylabel(f"label {summary.target}", parse_math=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=_columns(axes))


def _columns(axes: Axes) -> int:
    """Number of columns of a legend: one on a narrow figure."""
    return 2 if axes.figure.bbox.width / axes.figure.dpi > 5.0 else 1
