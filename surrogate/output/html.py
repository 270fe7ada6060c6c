"""Parts of a self-contained HTML page: no scripts, no links, images embedded."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from surrogate.output.style import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Html",
    "duration",
    "facts",
    "image",
    "note",
    "numbers",
    "page",
    "picture",
    "section",
    "table",
    "verdict_line",
]

_CSS = """
:root { color-scheme: light dark; --ink: #1c2733; --grey: #566473; --paper: #fff; --line: #d9e0e7; --faint: #e7ecf1;
  --good: #4d8a2f; --good-paper: #eef6e9; --bad: #c77700; --bad-paper: #fdf3e2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe6ee; --grey: #9fb0c0; --paper: #14191f; --line: #33404d; --faint: #26313c;
    --good: #7cc15a; --good-paper: #1b2a17; --bad: #e7a13d; --bad-paper: #33260f; }
  img { filter: invert(0.93) hue-rotate(180deg); }
  div.scroll img { filter: none; background: #fff; border-radius: 4px; }
}
body { font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 62rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; }
h1 { font-size: 1.6rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
p { max-width: 46rem; }
p.verdict { margin: 0 0 1.2rem; padding: .6rem .9rem; border-left: 5px solid; border-radius: 3px;
  overflow-wrap: anywhere; max-width: none; }
p.yes { border-color: var(--good); background: var(--good-paper); }
p.no { border-color: var(--bad); background: var(--bad-paper); }
p.note { color: var(--grey); font-size: .9rem; margin: .4rem 0; overflow-wrap: anywhere; }
dl.numbers { display: flex; flex-wrap: wrap; gap: .6rem 2.4rem; margin: 0; }
dl.numbers div { min-width: 7rem; }
dl.numbers dt { color: var(--grey); font-size: .85rem; }
dl.numbers dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: 0; font-size: .93rem; }
dl.facts dt { color: var(--grey); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; margin: .4rem 0; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--faint); vertical-align: top; }
td { white-space: nowrap; }
th { color: var(--grey); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th.text, td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tr.good td:nth-child(2) { color: var(--good); } tr.bad td:nth-child(2) { color: var(--bad); font-weight: 600; }
span.name { color: var(--grey); font-size: .88em; }
svg.formula { fill: currentColor; overflow: visible; }
img { max-width: 100%; height: auto; display: block; margin: .5rem auto; }
div.scroll { overflow-x: auto; } div.scroll img { max-width: none; width: 100%; }
footer { margin-top: 2.5rem; color: var(--grey); font-size: .85rem; }
@media (max-width: 44rem) {
  body { padding: 1rem .8rem 2rem; }
  dl.facts { grid-template-columns: 1fr; } dl.facts dd { margin-bottom: .4rem; }
  table, tbody, tr, td { display: block; } tr.head { display: none; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  td, td.text { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .08rem 0;
    white-space: normal; text-align: right; overflow-wrap: anywhere; }
  td::before { content: attr(data-head); color: var(--grey); text-align: left; flex: 0 0 auto; max-width: 45%; }
  td.text { display: block; text-align: left; } td.text::before { display: block; max-width: none; }
  td:first-child { font-weight: 600; } td:first-child::before { font-weight: 400; }
}
@media print { body { max-width: none; } h2 { break-after: avoid; } img, table { break-inside: avoid; } }
"""


class Html(str):
    """Text that is already HTML and must not be escaped again."""

    __slots__ = ()


def _text(words: str) -> str:
    return words if isinstance(words, Html) else escape(words)


def page(title: str, parts: Iterable[str]) -> str:
    """A complete HTML page made of HTML parts."""
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
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="numbers">{cells}</dl>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and words in two columns."""
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{_text(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{cells}</dl>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 0, marks: Sequence[str] = ()
) -> str:
    """A table whose last ``text_columns`` columns are running text; on a narrow screen each row becomes a block.

    Args:
        head: Names of the columns.
        rows: Cells, one for each column.
        text_columns: How many columns at the end are running text.
        marks: "good", "bad" or "" for each row, which sets the colour of its second cell; None for no colours.
    """
    first_text = len(head) - text_columns
    kinds = ["" if j < first_text else ' class="text"' for j in range(len(head))]
    lines = [f'<tr class="head">{"".join(f"<th{k}>{_text(c)}</th>" for k, c in zip(kinds, head, strict=True))}</tr>']
    for i, row in enumerate(rows):
        cells = (
            f'<td{kind} data-head="{escape(name)}"><span>{_text(cell)}</span></td>'
            for kind, name, cell in zip(kinds, head, row, strict=True)
        )
        mark = f' class="{marks[i]}"' if marks and marks[i] else ""
        lines.append(f"<tr{mark}>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def note(text: str) -> str:
    """A paragraph in small type."""
    return f'<p class="note">{_text(text)}</p>'


_WIDE, _NARROW = 7.4, 3.7  # width in inches of figures for wide screens and for phones
_BREAK = "44rem"  # page width below which the narrow figure is shown


def picture(draw: Callable[[float], Figure], words: str) -> str:
    """A figure embedded in the page, drawn for wide and for narrow screens; ``draw`` takes its width in inches."""
    narrow = f'<source media="(max-width: {_BREAK})" srcset="{_encode(draw(_NARROW), dpi=200)}">'
    return f'<picture>{narrow}<img alt="{escape(words)}" src="{_encode(draw(_WIDE), dpi=130)}"></picture>'


def image(figure: Figure, words: str, *, width: float = 0.0) -> str:
    """A figure embedded in the page, with ``words`` as its alternative text.

    Args:
        figure: The figure.
        words: The alternative text.
        width: Minimum width on the screen, in rem; narrower screens scroll.
    """
    source = f'<img alt="{escape(words)}" src="{_encode(figure, dpi=130)}"'
    if not width:
        return f"{source}>"
    return f'<div class="scroll">{source} style="min-width:{width:g}rem"></div>'


def _encode(figure: Figure, *, dpi: int) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(figure, dpi=dpi, transparent=True)).decode()}"


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
