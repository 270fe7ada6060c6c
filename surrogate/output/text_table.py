"""Tables of text cells, for terminals and for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_table", "text_table"]

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in aligned columns under their heads; the last column may be long."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[j]) for line in lines) for j in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def html_table(warnings: Iterable[str], tables: Iterable[Table], title: str = "") -> str:
    """Tables with titles and heads as HTML, with all text escaped."""
    parts = [f"<p><b>{escape(title)}</b></p>"] if title else []
    parts += [f"<p><b>Warning:</b> {escape(words)}</p>" for words in warnings]
    for caption, head, rows in tables:
        cells = "".join(f"<th style='text-align:left'>{escape(cell)}</th>" for cell in head)
        body = "".join(f"<tr>{''.join(f'<td>{_breakable(cell)}</td>' for cell in row)}</tr>" for row in rows)
        words = f"<caption style='text-align:left'>{escape(caption)}</caption>" if caption else ""
        parts.append(f"<table>{words}<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>")
    return "<div>" + "".join(parts) + "</div>"


def _breakable(cell: str) -> str:
    return escape(cell).replace("+-", "&plusmn;")
