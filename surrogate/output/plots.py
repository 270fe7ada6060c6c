"""Plots of a run: the posterior with the evaluated points, convergence, evaluations.

Figures are created without pyplot, so the caller's backend, style and figures are left alone. GetDist computes the
densities.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from surrogate.arrays import Array, Indices
from surrogate.output.getdist import to_mcsamples
from surrogate.output.progress import limits_of_signals
from surrogate.output.record import Evidence, Record
from surrogate.output.style import png, style
from surrogate.output.tables import format_value
from surrogate.problem.dataset import FAILED, INFEASIBLE, Dataset
from surrogate.samplers.samples import Samples, equal_tailed_interval

if TYPE_CHECKING:
    from getdist import MCSamples
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Axis",
    "corner_figure",
    "evaluations_figure",
    "png",
    "save_corner",
    "save_figure",
    "trace_figure",
    "usable_label",
]


_OUTER, _INNER, _EDGE = "#d3e0ee", "#9dbcdb", "#2f5d8c"
_REFERENCE = "#b5561b"
_FAR, _INFEASIBLE, _FAILED = "#a0a0a0", "#c2703d", "#b00020"
_MAP = "plasma"
_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#8d6a9f", "#edae49")
_WILD = 1e4  # times its limit: beyond this the size of a signal carries no information
_SIGNALS = {
    "spread": "spread of surrogate draws",
    "warm_spread": "spread, wider",
    "evidence_spread": "sd of log evidence",
    "batch_error": "error of last batch",
    "moved": "movement of posterior",
}


def save_corner(
    samples: Samples, record: Record, path: str | os.PathLike[str], reference: Samples | None = None
) -> None:
    """Writes the corner plot to a png, pdf or svg file, with the outlines of a reference posterior if there is one.

    Raises:
        ValueError: If matplotlib does not know the ending.
        OSError: If the file cannot be written.
    """
    save_figure(corner_figure(samples, record, reference), path)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure to a png, pdf or svg file."""
    with style():
        figure.savefig(path, dpi=200, bbox_inches="tight", pad_inches=0.1)


# The posterior


def corner_figure(samples: Samples, record: Record, reference: Samples | None = None) -> Figure:
    """The corner plot: marginal densities of all parameters and pairs, with the evaluated points on the pairs.

    Points in the bulk of the posterior are coloured by their log-posterior; the others are faint. Categories and
    integers are left out. The contours of ``reference``, draws of the same parameters from another method, are drawn on
    top.
    """
    from matplotlib.figure import Figure

    columns, samples = samples.continuous, samples.without_levels
    d = len(samples.names)
    cell = {1: 3.2, 2: 3.0, 3: 2.5}.get(d, min(2.2, 15.0 / d))
    with style():
        figure = Figure(figsize=(cell * d, cell * d))
        axes = figure.subplots(d, d, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.06})
        units = [Axis.of(samples, j) for j in range(d)]
        draws, points = to_mcsamples(samples), _Points.of(record).of_columns(columns)
        others = None if reference is None else to_mcsamples(reference.without_levels)
        for i in range(d):
            for j in range(d):
                _draw_cell(axes[i, j], draws, points, units, i, j)
                if others is not None and j <= i:
                    _draw_reference(axes[i, j], others, units, i, j)
        _label_edges(axes, units)
        _add_legend(figure, axes[0, -1], points, with_reference=others is not None)
    return figure


@dataclass(frozen=True)
class Axis:
    """The scale of a parameter's axis.

    Attributes:
        name: Name of the parameter.
        label: LaTeX with dollars, the power of ten included.
        scale: Power of ten that values are divided by.
        low: Lower end, divided by the scale.
        high: Upper end.
    """

    name: str
    label: str
    scale: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Samples, j: int) -> Axis:
        """The axis of parameter j: 99.8 % of the posterior and a margin, within the prior's support."""
        x = samples.x[:, j]
        low, high = equal_tailed_interval(x[:, None], samples.weights, 0.998)[0]
        margin = 0.12 * (high - low)
        low, high = max(low - margin, samples.bounds[j, 0]), min(high + margin, samples.bounds[j, 1])
        size = max(abs(low), abs(high))
        power = math.floor(math.log10(size)) if size > 0 else 0
        power = 0 if -3 < power < 5 else power
        label = usable_label(samples.labels[j], samples.names[j])
        if power:
            label += rf" \;/\; 10^{{{power}}}"
        scale = 10.0**power
        return cls(samples.names[j], f"${label}$", scale, float(low) / scale, float(high) / scale)


@dataclass(frozen=True, eq=False)
class _Points:
    """Evaluated points by kind; near ones are at most ``depth`` below the best, and ``gap`` is the depth of each."""

    near: Array
    gap: Array
    far: Array
    infeasible: Array
    failed: Array
    best: Array
    depth: float

    @classmethod
    def of(cls, record: Record) -> _Points:
        """The points of a run; near points are those above the lowest of 1000 draws from a normal posterior."""
        data, d = record.data, record.data.d
        x = data.x[data.finite]
        height = record.log_posterior
        depth = float(math.ceil(chi2.isf(1e-3, d) / 2))  # a normal posterior has one draw in 1000 below this
        gap = height.max(initial=-np.inf) - height
        near, order = gap < depth, np.argsort(-gap)
        order = order[near[order]]  # the best on top
        return cls(
            near=x[order],
            gap=gap[order],
            far=x[~near],
            infeasible=data.x[data.status == INFEASIBLE],
            failed=data.x[data.status == FAILED],
            best=record.best_fit,
            depth=depth,
        )

    def of_columns(self, columns: Indices) -> _Points:
        """The points with only some of their parameters."""
        parts = {name: getattr(self, name)[..., columns] for name in ("near", "far", "infeasible", "failed", "best")}
        return replace(self, **parts)


def _draw_cell(axes: Axes, samples: MCSamples, points: _Points, units: list[Axis], i: int, j: int) -> None:
    if j > i:
        axes.set_axis_off()
        return
    axes.set_xlim(units[j].low, units[j].high)
    axes.tick_params(top=True, right=True, length=2.5, labelbottom=False, labelleft=False)
    if i == j:
        _draw_marginal(axes, samples, units[j])
        if len(units) == 1:
            _draw_rug(axes, points, units[0])
    else:
        axes.set_ylim(units[i].low, units[i].high)
        _draw_pair(axes, samples, units[j], units[i])
        _draw_points(axes, points, (j, units[j]), (i, units[i]))


def _draw_marginal(axes: Axes, samples: MCSamples, unit: Axis) -> None:
    density = samples.get1DDensity(unit.name)
    x, p = density.x / unit.scale, density.P / density.P.max()
    column = samples.samples[:, samples.index[unit.name]]
    for level, colour in ((0.95, _OUTER), (0.68, _INNER)):
        low, high = equal_tailed_interval(column[:, None], samples.weights, level)[0] / unit.scale
        inside = np.concatenate([[low], x[(x > low) & (x < high)], [high]])
        axes.fill_between(inside, np.interp(inside, x, p), color=colour, lw=0)
    axes.plot(x, p, color=_EDGE, lw=1.3)
    axes.set_ylim(0, 1.12)
    axes.tick_params(left=False, right=False)
    axes.set_yticks([])
    mean = np.average(column, weights=samples.weights)
    sd = math.sqrt(np.average((column - mean) ** 2, weights=samples.weights))
    words = " ± ".join(format_value(value / unit.scale, sd / unit.scale) for value in (mean, sd))
    axes.set_title(words.replace("-", "−"), fontsize=9, pad=4)


def _draw_reference(axes: Axes, samples: MCSamples, units: list[Axis], i: int, j: int) -> None:
    """Draws the outlines of another posterior of the same parameters."""
    across, up = units[j], units[i]
    if i == j:
        density = samples.get1DDensity(across.name)
        axes.plot(density.x / across.scale, density.P / density.P.max(), "--", color=_REFERENCE, lw=1.1)
        return
    density = samples.get2DDensity(across.name, up.name)
    if density is not None:
        levels = sorted(density.getContourLevels([0.68, 0.95]))
        if 0 < levels[0] < levels[1]:
            x, y = density.x / across.scale, density.y / up.scale
            axes.contour(x, y, density.P, levels, colors=_REFERENCE, linewidths=0.9, linestyles="--", zorder=2)


def _draw_rug(axes: Axes, points: _Points, unit: Axis) -> None:
    """Draws the points of a run with one parameter as ticks along the axis."""
    x = points.near[:, 0] / unit.scale
    near: dict[str, Any] = {"c": -points.gap, "cmap": _MAP, "vmin": -points.depth, "vmax": 0, "ec": "white", "lw": 0.4}
    axes.scatter(x, np.full(len(x), 0.04), s=18, zorder=3, **near)
    axes.scatter(points.best / unit.scale, 0.04, marker="*", s=70, c="black", ec="white", lw=0.6, zorder=4)


def _draw_pair(axes: Axes, samples: MCSamples, horizontal: Axis, vertical: Axis) -> None:
    density = samples.get2DDensity(horizontal.name, vertical.name)
    if density is None:  # GetDist returns None when a parameter does not vary
        return
    levels = sorted(density.getContourLevels([0.68, 0.95]))
    if not 0 < levels[0] < levels[1] < density.P.max():  # flat, or too few draws
        return
    x, y = density.x / horizontal.scale, density.y / vertical.scale
    axes.contourf(x, y, density.P, [*levels, density.P.max() * 1.01], colors=[_OUTER, _INNER], zorder=1)
    axes.contour(x, y, density.P, levels, colors=_EDGE, linewidths=0.7, zorder=2)


def _draw_points(axes: Axes, points: _Points, horizontal: tuple[int, Axis], vertical: tuple[int, Axis]) -> None:
    """Draws the evaluated points in the panel of two parameters, each given by its index and its axis scale."""
    (j, across), (i, up) = horizontal, vertical
    area = min(1.0, axes.bbox.width / axes.figure.dpi / 2.0)  # smaller where panels are small

    def draw(x: Array, size: float, **style: Any) -> None:
        axes.scatter(x[:, j] / across.scale, x[:, i] / up.scale, s=size * area, **style)

    draw(points.infeasible, 12, marker="x", c=_INFEASIBLE, lw=0.7, alpha=0.7, zorder=3)
    draw(points.failed, 22, marker="+", c=_FAILED, lw=1.0, zorder=3)
    draw(points.far, 5, c=_FAR, alpha=0.6, lw=0, zorder=3)
    draw(points.near, 14, c=-points.gap, cmap=_MAP, vmin=-points.depth, vmax=0, ec="white", lw=0.35 * area, zorder=4)
    draw(points.best[None], 70, marker="*", c="black", ec="white", lw=0.6, zorder=5)


def _label_edges(axes: NDArray[Any], units: list[Axis]) -> None:
    """Sets ticks on all panels, equal along a column or row, and labels at the left and the bottom."""
    d = len(units)
    for k, unit in enumerate(units):
        ticks = _ticks(unit)
        for row in range(k, d):
            axes[row, k].set_xticks(ticks)
            axes[row, k].xaxis.set_major_formatter(_plain_numbers())
        for column in range(k):
            axes[k, column].set_yticks(ticks)
            axes[k, column].yaxis.set_major_formatter(_plain_numbers())
        axes[d - 1, k].tick_params(axis="x", labelbottom=True, labelrotation=45)
        axes[d - 1, k].set_xlabel(unit.label, fontsize=12)
        if k:
            axes[k, 0].tick_params(axis="y", labelleft=True)
            axes[k, 0].set_ylabel(unit.label, fontsize=12)
    axes[0, 0].figure.align_labels([*axes[d - 1], *axes[1:, 0]])


def _ticks(unit: Axis) -> Array:
    """Round numbers as ticks, far enough from the ends that labels of neighbouring panels do not meet."""
    from matplotlib.ticker import MaxNLocator

    values = np.asarray(MaxNLocator(4).tick_values(unit.low, unit.high))
    margin = 0.08 * (unit.high - unit.low)
    return values[(values > unit.low + margin) & (values < unit.high - margin)]


def _plain_numbers() -> Any:
    from matplotlib.ticker import ScalarFormatter

    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    return formatter


def _add_legend(figure: Figure, corner: Axes, points: _Points, *, with_reference: bool = False) -> None:
    """Draws the legend and the colour scale in the empty upper right, or beside a single panel."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    def dot(marker: str, colour: str, size: float, label: str, edge: str = "none") -> Line2D:
        return Line2D([], [], ls="", marker=marker, color=colour, ms=size, markeredgecolor=edge, label=label)

    handles: list[Any] = [
        Patch(facecolor=_INNER, edgecolor=_EDGE, lw=0.7, label="68 % of the posterior"),
        Patch(facecolor=_OUTER, edgecolor=_EDGE, lw=0.7, label="95 %"),
        dot("*", "black", 9, "best evaluated point"),
        dot("o", "#cc4778", 4.5, f"evaluated, at most {points.depth:.0f} below ({len(points.near)})", "white"),
    ]
    if with_reference:
        handles.insert(2, Line2D([], [], ls="--", lw=1.1, color=_REFERENCE, label="reference, 68 and 95 %"))
    if len(points.far):
        handles.append(dot("o", _FAR, 3, f"evaluated, further below ({len(points.far)})"))
    if len(points.infeasible):
        handles.append(dot("x", _INFEASIBLE, 4.5, rf"evaluated, $-\infty$ ({len(points.infeasible)})", _INFEASIBLE))
    if len(points.failed):
        handles.append(dot("+", _FAILED, 6, f"failed ({len(points.failed)})", _FAILED))
    width, height = figure.get_size_inches()
    place = corner.get_position()
    right = place.x1 if len(figure.axes) > 1 else place.x1 + 2.6 / width
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(right - 2.4 / width, place.y1), borderaxespad=0.0)
    bottom = place.y1 - (0.195 * len(handles) + 0.3) / height
    scale = figure.add_axes((right - 2.25 / width, bottom, 2.0 / width, 0.1 / height))
    bar = figure.colorbar(ScalarMappable(Normalize(-points.depth, 0), _MAP), cax=scale, orientation="horizontal")
    bar.set_label("log-posterior minus that of the best", fontsize=8.5)
    bar.ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_linewidth(0.5)


# Convergence and evaluations


def trace_figure(evidence: Evidence, record: Record, width: float = 7.4) -> Figure:
    """Signals of convergence over their limits, and the log evidence, against the number of evaluations."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with style():
        figure = Figure(figsize=(width, 5.2))
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.1, "height_ratios": [3, 2]})
        n = _column(record, "n_evaluations")
        _draw_signals(upper, record, n)
        _draw_evidence(lower, evidence, record, n)
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        lower.set_xlabel("evaluations of the likelihood")
        figure.align_ylabels()
    return figure


def evaluations_figure(record: Record, width: float = 7.4) -> Figure:
    """The depth of each evaluation below the best one, and the best value so far."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width, 3.4))
        axes = figure.subplots()
        _draw_evaluations(axes, record.data)
    return figure


def _draw_signals(axes: Axes, record: Record, n: Array) -> None:
    limits = limits_of_signals()
    axes.axhspan(1e-300, 1.0, color="#eef4ea", lw=0, zorder=0)
    drawn = []
    for (name, words), colour in zip(_SIGNALS.items(), _COLOURS, strict=True):
        ratio = _column(record, name) / limits[name]
        if np.isfinite(ratio).any():
            shown = np.where(np.isfinite(ratio) & (ratio > 0), np.clip(ratio, 1e-4, _WILD), np.nan)
            axes.plot(n, shown, "o-", color=colour, ms=3, lw=1.2, label=words)
            drawn.append(shown)
    axes.set_yscale("log")
    top = np.nanmax(np.concatenate(drawn)) if drawn else 10.0
    bottom = np.nanmin(np.concatenate(drawn)) if drawn else 0.1
    axes.set_ylim(min(bottom / 2, 0.2), max(top * 2, 5.0))
    axes.axhline(1.0, color="#4d7c32", lw=0.9)
    axes.annotate(
        "limit",
        (1.0, 1.0),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        color="#4d7c32",
        fontsize=8.5,
    )
    axes.set_ylabel("signal / its limit")
    if drawn:
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=_columns(axes, 3), columnspacing=1.4, handlelength=1.6
        )


def _draw_evidence(axes: Axes, evidence: Evidence, record: Record, n: Array) -> None:
    value, error = _column(record, "log_evidence"), _column(record, "log_evidence_error")
    known = np.isfinite(value) & np.isfinite(error)
    axes.errorbar(n[known], value[known], error[known], fmt="o-", ms=3, lw=1.0, capsize=2, color=_EDGE)
    low, high = evidence.log_evidence - evidence.error, evidence.log_evidence + evidence.error
    axes.axhspan(low, high, color=_OUTER, lw=0, zorder=0, label="final")
    axes.axhline(evidence.log_evidence, color=_EDGE, lw=0.7, ls=":")
    axes.set_ylim(*_recent_range(np.append(value[known], evidence.log_evidence), np.append(error[known], high - low)))
    axes.set_ylabel("log evidence")
    axes.legend(loc="best")


def _recent_range(value: Array, error: Array) -> tuple[float, float]:
    """Axis limits that show the later half of the values with their errors; early values may be cut off."""
    later = slice(len(value) // 2, None)
    low, high = float((value - error)[later].min()), float((value + error)[later].max())
    margin = 0.1 * (high - low) or 1.0
    return low - margin, high + margin


def _draw_evaluations(axes: Axes, data: Dataset) -> None:
    n = np.arange(1, len(data) + 1)
    gap = data.y_max - np.where(data.finite, data.y, np.nan)
    best = data.y_max - np.fmax.accumulate(np.where(data.finite, data.y, np.nan)) if len(data) else gap
    bottom = max(float(np.nanmax(gap, initial=1.0)), 2.0) * 1.6
    if (data.step <= 0).any():
        axes.axvspan(0.5, (data.step <= 0).sum() + 0.5, color="#f2f2f2", lw=0, zorder=0, label="initial design")
    axes.plot(n, best, drawstyle="steps-post", color="#d1495b", lw=1.2, label="best so far", zorder=2)
    axes.plot(n[data.finite], gap[data.finite], "o", ms=3.5, color=_EDGE, label="evaluation", zorder=3)
    for code, marker, colour, words in ((INFEASIBLE, "x", _INFEASIBLE, r"$-\infty$"), (FAILED, "+", _FAILED, "failed")):
        if (data.status == code).any():
            where = n[data.status == code]
            axes.plot(
                where, np.full(len(where), bottom), marker, ms=5, color=colour, label=words, clip_on=False, zorder=3
            )
    axes.set_ylim(bottom, -0.25)  # before the scale, which may look for values above its threshold
    axes.set_yscale("symlog", linthresh=1.0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(0.5, max(len(data), 1) + 0.5)
    axes.set_xlabel("evaluation")
    axes.set_ylabel("log-likelihood below the best")
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=_columns(axes, 5), columnspacing=1.4, handlelength=1.4
    )


def _columns(axes: Axes, most: int) -> int:
    """Columns of a legend: fewer on a narrow figure."""
    return most if axes.figure.bbox.width / axes.figure.dpi > 5.0 else 2


def _column(record: Record, name: str) -> Array:
    return np.array([float(row.get(name, np.nan)) for row in record.trace])


# Style


def usable_label(label: str, name: str) -> str:
    """The label if matplotlib can render it, otherwise the name in upright type."""
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(f"${label}$")
    except ValueError:
        return r"\mathrm{" + name.replace("_", r"\_") + "}"
    return label
