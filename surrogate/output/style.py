"""The style of all figures, independent of the caller's matplotlib settings."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["png", "style"]

_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#444444",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "axes.labelcolor": "#111111",
    "xtick.direction": "in",
    "ytick.direction": "in",
    "mathtext.fontset": "cm",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Context in which figures have this package's style; the caller's style is restored on exit."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def png(figure: Figure, *, dpi: int = 130, transparent: bool = False) -> bytes:
    """The figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.1, transparent=transparent)
    return buffer.getvalue()
