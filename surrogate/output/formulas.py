"""LaTeX labels as inline SVG: outlines of the letters, drawn in the colour of the surrounding text."""

from __future__ import annotations

from html import escape

from surrogate.output.html import Html
from surrogate.output.style import style

__all__ = ["formula", "label_of"]

_SIZE = 10.0  # points; drawn as one em of the page
_COMMANDS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}  # of matplotlib's paths, in SVG
_POINTS = {1: 1, 2: 1, 3: 2, 4: 3, 79: 1}  # vertices of each


def label_of(label: str, name: str) -> Html:
    """The label as a formula beside the name, or the name alone if the label adds nothing or cannot be rendered."""
    plain = {name, rf"\mathrm{{{name}}}".replace("_", r"\_")}
    drawn = "" if label in plain else formula(label)
    return Html(f'{drawn} <span class="name">{escape(name)}</span>' if drawn else escape(name))


def formula(label: str) -> Html:
    """LaTeX without dollars as an inline SVG; empty if matplotlib cannot render it."""
    from matplotlib.textpath import TextPath

    with style():
        try:
            path = TextPath((0.0, 0.0), f"${label}$", size=_SIZE)
        except (ValueError, RuntimeError):
            return Html("")
    if not len(path.vertices):
        return Html("")
    (left, low), (right, high) = path.vertices.min(axis=0), path.vertices.max(axis=0)
    low, high = min(float(low), 0.0) - 0.3, float(high) + 0.3
    width, height = float(right - left) + 0.6, high - low
    box = f"{left - 0.3:.2f} {-high:.2f} {width:.2f} {height:.2f}"
    size = f"width:{width / _SIZE:.3f}em;height:{height / _SIZE:.3f}em;vertical-align:{low / _SIZE:.3f}em"
    return Html(
        f'<svg class="formula" role="img" aria-label="{escape(label)}" viewBox="{box}" style="{size}">'
        f'<path d="{_outline(path)}"/></svg>'
    )


def _outline(path: object) -> str:
    """The path as SVG path data, with y pointing down."""
    words, index = [], 0
    vertices, codes = path.vertices, path.codes  # type: ignore[attr-defined]
    while index < len(codes):
        code = int(codes[index])
        points = vertices[index : index + _POINTS[code]]
        index += _POINTS[code]
        numbers = "" if code == 79 else " ".join(f"{x:.2f} {-y:.2f}" for x, y in points)
        words.append(_COMMANDS[code] + numbers)
    return "".join(words)
