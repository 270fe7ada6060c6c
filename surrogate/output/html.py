"""Parts of a self-contained HTML page: no scripts, no links, images embedded."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from surrogate.output.style import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["duration", "image", "note", "numbers", "page", "section", "table", "verdict_line"]

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


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page as HTML, made of parts in HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join([f"<h1>{escape(title)}</h1>", *parts])
        + "\n</body>\n</html>\n"
    )


def verdict_line(text: str, *, good: bool) -> str:
    """The sentence at the top of the page, in green or amber."""
    return f'<p class="verdict {"yes" if good else "no"}">{escape(text)}</p>'


def section(title: str, *parts: str) -> str:
    """A heading followed by content."""
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def numbers(pairs: Iterable[tuple[str, str]]) -> str:
    """Values side by side, each below its name."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="numbers">{cells}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 0) -> str:
    """A table whose last ``text_columns`` columns are running text."""
    first_text = len(head) - text_columns
    kinds = ["" if j < first_text else ' class="text"' for j in range(len(head))]
    lines = []
    for row, tag in ((head, "th"), *((row, "td") for row in rows)):
        cells = (f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def note(text: str) -> str:
    """A small paragraph."""
    return f'<p class="note">{escape(text)}</p>'


def image(figure: Figure, words: str) -> str:
    """A figure as a PNG embedded in the page, with ``words`` as its alternative text."""
    dpi = 130
    data = base64.b64encode(png(figure, dpi=dpi)).decode()
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'


def duration(seconds: float) -> str:
    """A duration in seconds as text, in a suitable unit.

    >>> duration(0.0123), duration(4.56), duration(5000.0)
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
