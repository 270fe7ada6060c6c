"""One self-contained HTML page about a run: no scripts, no links, pictures inside."""

from __future__ import annotations

import base64
import os
import platform
from collections.abc import Iterable, Sequence
from html import escape
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from surrogate._version import __version__
from surrogate.checkpoint import replacing
from surrogate.data import FAILED, INFEASIBLE, OK
from surrogate.output.tables import format_value, held_out_errors, plus_minus, summary_rows, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from surrogate.result import Result

__all__ = ["report_html", "save_report", "software_versions"]

_LIBRARIES = ("numpy", "scipy", "torch", "scikit-learn", "emcee", "getdist", "matplotlib")
_LISTED = 100  # failed evaluations that get a row of their own

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #1c2733; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; }
h1 { font-size: 1.6rem; margin: 0 0 .75rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid #d9e0e7; }
p.verdict { margin: 0 0 1.2rem; padding: .6rem .9rem; border-left: 5px solid; border-radius: 3px;
  overflow-wrap: anywhere; }
p.yes { border-color: #4d8a2f; background: #eef6e9; }
p.no { border-color: #c77700; background: #fdf3e2; }
p.note { color: #566473; font-size: .9rem; margin: .4rem 0; }
dl.numbers { display: flex; flex-wrap: wrap; gap: .6rem 2.4rem; margin: 0; }
dl.numbers div { min-width: 7rem; }
dl.numbers dt { color: #566473; font-size: .85rem; }
dl.numbers dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e7ecf1; }
th { color: #566473; font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th.text, td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 16rem; }
img { max-width: 100%; height: auto; display: block; margin: .5rem auto; }
footer { margin-top: 2.5rem; color: #566473; font-size: .85rem; }
@media print { body { max-width: none; } h2 { break-after: avoid; } img, table { break-inside: avoid; } }
"""


def save_report(result: Result, path: str | os.PathLike[str]) -> None:
    """Writes the report, in one piece.

    Raises:
        OSError: If the file cannot be written.
    """
    text = report_html(result)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(Path(path)) as file:
        file.write(text.encode())


def report_html(result: Result) -> str:
    """The page as text."""
    from surrogate.output.plots import corner_figure, evaluations_figure

    title = f"Posterior of {', '.join(result.names)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {"yes" if result.converged else "no"}">{escape(verdict(result))}</p>',
        _numbers(_headline(result)),
        _section("Parameters", _parameters(result)),
        _section("Posterior and evaluated points", _image(corner_figure(result), "Corner plot of the posterior")),
        _section("Convergence", _convergence(result)),
        _section(
            "Evaluations", _image(evaluations_figure(result), "Evaluations against the best one"), _timing(result)
        ),
        _section("Failed evaluations", _failures(result)),
        _section("Sampling of the surrogate", _sampling(result)),
        f"<footer>{escape(', '.join(f'{name} {version}' for name, version in software_versions().items()))}</footer>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def software_versions() -> dict[str, str]:
    """Names and versions of this package, of Python and of the libraries that the numbers come from."""
    found = {"surrogate": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _headline(result: Result) -> list[tuple[str, str]]:
    data = result.data
    counts = [
        f"{int((data.status == code).sum())} {word}" for code, word in ((INFEASIBLE, "at -inf"), (FAILED, "failed"))
    ]
    uncounted = ", ".join(words for words in counts if not words.startswith("0 "))
    return [
        ("log evidence", plus_minus(result.log_evidence, result.log_evidence_error).replace("+-", "±")),
        ("calls of the likelihood", f"{result.n_evaluations}" + (f" ({uncounted})" if uncounted else "")),
        ("best log-likelihood", f"{data.y_max:.6g}"),
        ("time in the likelihood", _duration(float(data.seconds.sum()))),
    ]


def _parameters(result: Result) -> str:
    head = ("parameter", "mean", "sd", "68 %", "95 %", "best fit", "error of mean", "prior")
    bounds = [f"{low:g} … {high:g}".replace("inf", "∞") for low, high in result.bounds]
    bounds += ["derived"] * len(result.derived_names)
    rows = []
    for row, prior in zip(summary_rows(result), bounds, strict=True):
        numbers = [format_value(value, row.sd) for value in (row.mean, row.sd)]
        numbers += [
            f"{format_value(low, row.sd)} … {format_value(high, row.sd)}"
            for low, high in (row.interval_68, row.interval_95)
        ]
        error = "-" if np.isnan(row.error) else f"{row.error:.3f} sd"
        rows.append([row.name, *numbers, format_value(row.best_fit, row.sd), error, prior])
    note = (
        "Intervals are equal-tailed. The best fit is the evaluated point of the highest log-posterior. The error of "
        "the mean is how far it moves over draws of the surrogate; the sampling error of the chain is not in it. "
        "The prior is shown by its support."
    )
    return _table(head, rows) + _note(note) + "".join(map(_note, held_out_errors(result)))


def _convergence(result: Result) -> str:
    from surrogate.output.plots import trace_figure

    if not result.trace:
        return _note("There was no iteration with a surrogate.")
    return _image(trace_figure(result), "Signals of convergence and log evidence")


def _timing(result: Result) -> str:
    seconds = result.data.seconds[result.data.seconds > 0]
    if len(seconds) == 0:
        return _note("No times were recorded.")
    return _numbers(
        [
            ("median call", _duration(float(np.median(seconds)))),
            ("shortest", _duration(float(seconds.min()))),
            ("longest", _duration(float(seconds.max()))),
            ("all calls", _duration(float(seconds.sum()))),
        ]
    )


def _failures(result: Result) -> str:
    data = result.data
    rows = np.flatnonzero(data.status == FAILED)
    if len(rows) == 0:
        return _note("None.")
    table = [
        [
            f"{i + 1}",
            f"{data.step[i]}",
            ", ".join(f"{value:.6g}" for value in data.x[i]),
            _duration(data.seconds[i]),
            data.reasons[i],
        ]
        for i in rows[:_LISTED]
    ]
    more = _note(f"... and {len(rows) - _LISTED} more, in evaluations.jsonl.") if len(rows) > _LISTED else ""
    return _table(("evaluation", "step", ", ".join(result.names), "time", "reason"), table, text_columns=1) + more


def _sampling(result: Result) -> str:
    words = {
        "ess": "effective sample size",
        "autocorrelation_time": "autocorrelation time / steps",
        "acceptance": "acceptance",
        "importance_ess": "effective size of importance draws",
    }
    known = [
        (words.get(name, name.replace("_", " ")), f"{value:.0f}" if value >= 1000 else f"{value:.3g}")
        for name, value in result.sampler.items()
    ]
    finite = int((result.data.status == OK).sum())
    counts = [("rows", f"{len(result.weights)}"), *known, ("finite values learned from", f"{finite}")]
    return _numbers(counts) + (_note(f"{result.reweighting}.") if result.reweighting else "")


# Pieces of HTML


def _section(title: str, *parts: str) -> str:
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def _numbers(pairs: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="numbers">{cells}</dl>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 0) -> str:
    """A table whose last ``text_columns`` columns are running text."""
    first_text = len(head) - text_columns
    kinds = ["" if j < first_text else ' class="text"' for j in range(len(head))]
    lines = []
    for row, tag in ((head, "th"), *((row, "td") for row in rows)):
        cells = (f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _image(figure: Figure, words: str) -> str:
    from surrogate.output.plots import png

    dpi = 130
    data = base64.b64encode(png(figure, dpi=dpi)).decode()
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'


def _duration(seconds: float) -> str:
    """Seconds in a unit that suits them.

    >>> _duration(0.0123), _duration(4.56), _duration(5000.0)
    ('12 ms', '4.6 s', '1 h 23 min')
    """
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
