"""The plot of a profile: how far the log-likelihood falls below its maximum along one parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from surrogate.arrays import Array
from surrogate.output.plots import usable_label
from surrogate.output.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["profile_figure"]


class Interval(Protocol):
    """A confidence interval of a profile."""

    @property
    def level(self) -> float:
        """Confidence level."""
        ...

    @property
    def low(self) -> float:
        """Lower end."""
        ...

    @property
    def high(self) -> float:
        """Upper end."""
        ...


_SHADES = ("#9dbcdb", "#d3e0ee")  # as in corner plots: first the inner interval, then the outer ones


def profile_figure(
    fine: Array, curve: Array, values: Array, heights: Array, intervals: Sequence[Interval], label: str, name: str
) -> Figure:
    """A figure of the profile with its computed values and intervals.

    Args:
        fine: Values of the parameter on a fine grid, with shape (m,).
        curve: The interpolated profile minus its maximum, on that grid, with shape (m,), at most 0.
        values: The values at which it was computed, with shape (k,).
        heights: The profile there, with shape (k,).
        intervals: Confidence intervals.
        label: LaTeX of the parameter, without dollars.
        name: Name of the parameter, shown if the label cannot be rendered.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(5.0, 3.4))
        axes = figure.subplots()
        for i, interval in reversed(list(enumerate(intervals))):
            words = f"{100 * interval.level:g} %"
            axes.axvspan(interval.low, interval.high, color=_SHADES[min(i, 1)], lw=0, label=words, zorder=0)
        axes.plot(fine, curve, color="#2f5d8c", lw=1.3)
        axes.plot(values, heights, "o", ms=4.5, color="#2f5d8c")
        axes.set_xlabel(f"${usable_label(label, name)}$", fontsize=12)
        axes.set_ylabel("profile below its maximum")
        axes.set_xlim(fine[0], fine[-1])
        axes.legend(loc="lower center")
        figure.tight_layout()
    return figure
