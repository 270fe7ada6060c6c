"""The posterior predictive of a simulator's outputs, as a figure for a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.arrays import Array
from surrogate.output.html import note, picture
from surrogate.output.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["predictive_figure", "predictive_section"]

_OUTER, _INNER, _LINE = "#d3e0ee", "#9dbcdb", "#2f5d8c"
_DATA = "#d1495b"
_MOST = 8  # outputs that get a panel
_SHOWN = 1000  # entries of an output that are drawn


def predictive_section(draws: Any, data: Mapping[str, tuple[Array, Array]] | None = None) -> tuple[str, str]:
    """Title and HTML of the report's section on the posterior predictive.

    Args:
        draws: Outputs at draws of the posterior, an array or a dict of arrays with a leading axis of n.
        data: Data and their standard deviations by name of the output; a single array has the empty name.
    """
    outputs = dict(draws) if isinstance(draws, Mapping) else {"": np.asarray(draws)}
    n = len(next(iter(outputs.values())))
    words = (
        f"Outputs of the simulator at {n} draws of the posterior, as predicted by the emulator with its error: "
        "median, 68 and 95 % bands. Noise of the data and nuisance terms of the comparison are not included. "
        "Compare the bands with the data to see whether the model can describe them; the posterior alone does "
        "not say."
    )
    drawn = picture(
        lambda width: predictive_figure(outputs, data or {}, width), "Posterior predictive of the simulator's outputs"
    )
    return "Posterior predictive", drawn + note(words)


def predictive_figure(
    outputs: Mapping[str, Array], data: Mapping[str, tuple[Array, Array]], width: float = 7.4
) -> Figure:
    """A figure of each output's median and bands against the index of the entry.

    Args:
        outputs: Arrays with a leading axis of draws; further axes are flattened.
        data: Data and their standard deviations by output.
        width: Width of the figure, in inches.
    """
    from matplotlib.figure import Figure

    shown = list(outputs.items())[:_MOST]
    columns = min(2 if width > 5 else 1, len(shown))
    rows = math.ceil(len(shown) / columns)
    with style():
        figure = Figure(figsize=(width, 2.6 * rows))
        panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"hspace": 0.45, "wspace": 0.25}).ravel()
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        for axes, (name, values) in zip(panels, shown, strict=False):
            flat = np.asarray(values).reshape(len(values), -1)
            step = max(1, flat.shape[1] // _SHOWN)
            levels = np.quantile(flat[:, ::step], [0.025, 0.16, 0.5, 0.84, 0.975], axis=0)
            entry = np.arange(flat.shape[1])[::step]
            if len(entry) == 1:
                axes.errorbar(entry, levels[2], [levels[2] - levels[0], levels[4] - levels[2]], fmt="o", color=_LINE)
            axes.fill_between(entry, levels[0], levels[4], color=_OUTER, lw=0, label="95 %")
            axes.fill_between(entry, levels[1], levels[3], color=_INNER, lw=0, label="68 %")
            axes.plot(entry, levels[2], color=_LINE, lw=1.0, label="median")
            if name in data:
                y, sd = (np.asarray(part).ravel()[::step] for part in data[name])
                axes.errorbar(entry, y, sd, fmt=".", ms=4, lw=0.7, color=_DATA, label="data", zorder=3)
            axes.set_xlabel("entry")
            axes.set_ylabel(name or "output", parse_math=False)
        panels[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=4, columnspacing=1.2, handlelength=1.2)
    return figure
