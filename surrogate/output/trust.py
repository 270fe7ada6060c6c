"""Plots that show how far a surrogate can be trusted: slices with error bands, and predictions against true values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array, Indices
from surrogate.output.plots import Axis
from surrogate.output.record import Record
from surrogate.output.style import style
from surrogate.problem.dataset import FAILED, INFEASIBLE
from surrogate.samplers.samples import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Predicting", "has_predictions", "predictions_figure", "slices_figure"]

_BAND, _LINE, _POINT, _LAST = "#d3e0ee", "#2f5d8c", "#8a96a3", "#d1495b"
_GRID = 81  # points of a slice
_MOST = 16  # parameters with a slice of their own
_SHOWN = 400  # nearest evaluations shown in a slice; more would overlap
_RECENT = 3  # last iterations, whose predictions are close to those of the final surrogate
_DEPTH, _DEPTH_PER_PARAMETER = 8.0, 1.0  # nats shown in slices: the bulk and a margin
_PREDICTED = 4.0  # predictions are shown up to this many times that depth


class Predicting(Protocol):
    """The methods of a surrogate that slices need."""

    def predict(self, x: ArrayLike) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood at x with shape (m, d), each with shape (m,)."""
        ...

    def log_prior(self, x: ArrayLike) -> Array:
        """Log prior density at x with shape (m, d), with shape (m,)."""
        ...


def slices_figure(samples: Samples, record: Record, emulator: Predicting, width: float = 7.4) -> Figure:
    """The log-posterior of the surrogate along each parameter through the best point, with a band of two sds.

    Evaluations are projected onto the slice: they differ in the other parameters, so most lie below it. Categories and
    integers have no slice; they are fixed at their values of the best point.
    """
    from matplotlib.figure import Figure

    parameters = samples.continuous[:_MOST].tolist()
    shown = len(parameters)
    columns = min(3 if width > 5 else 2, shown)
    rows = math.ceil(shown / columns)
    with style():
        figure = Figure(figsize=(width, 2.0 * rows * width / (2.5 * columns) + 0.3))
        axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.12, "hspace": 0.5}).ravel()
        for j, panel in enumerate(axes):
            if j >= shown:
                panel.set_axis_off()
                continue
            _draw_slice(panel, samples, record, emulator, parameters[j])
            if j % columns:
                panel.tick_params(labelleft=False)
        figure.supylabel("log-posterior below the best", fontsize=9, x=0.02)
    return figure


def _draw_slice(axes: Axes, samples: Samples, record: Record, emulator: Predicting, j: int) -> None:
    unit, best = Axis.of(samples, j), record.best_fit
    across = np.linspace(unit.low, unit.high, _GRID)
    x = np.tile(best, (_GRID, 1))
    x[:, j] = across * unit.scale
    mean, sd = emulator.predict(x)
    top = float(record.log_posterior.max())
    with np.errstate(invalid="ignore"):
        height = mean + emulator.log_prior(x) - top
    inside = np.isfinite(height)
    axes.fill_between(across[inside], (height - 2 * sd)[inside], (height + 2 * sd)[inside], color=_BAND, lw=0)
    axes.plot(across[inside], height[inside], color=_LINE, lw=1.3)
    data = record.data
    near = np.argsort(-record.log_posterior)[:_SHOWN]
    points, values = data.x[data.finite][near, j] / unit.scale, record.log_posterior[near] - top
    axes.plot(points, values, ".", ms=3.5, color=_POINT, zorder=3)
    axes.plot(best[j] / unit.scale, 0.0, "*", ms=9, color="black", mec="white", mew=0.6, zorder=4)
    depth = _DEPTH + _DEPTH_PER_PARAMETER * len(best)
    for code, marker, colour in ((INFEASIBLE, "x", "#c2703d"), (FAILED, "+", "#b00020")):
        rows = data.x[data.status == code, j] / unit.scale
        axes.plot(rows, np.full(len(rows), -0.96 * depth), marker, ms=4, color=colour, zorder=3)
    axes.set_xlim(unit.low, unit.high)
    axes.set_ylim(-depth, 0.12 * depth)
    axes.set_xlabel(unit.label, labelpad=1)
    axes.tick_params(top=True, right=True, length=2.5)


def has_predictions(record: Record) -> bool:
    """Whether any evaluation relevant to the posterior was predicted before it was made."""
    return len(_predictions(record)) > 0


def predictions_figure(record: Record, width: float = 7.4) -> Figure:
    """A figure of log-likelihoods against the surrogate's predictions before the call."""
    from matplotlib.figure import Figure

    seen = _predictions(record)
    with style():
        figure = Figure(figsize=(width, 3.6 if width > 5 else 3.3))
        _draw_predictions(figure.subplots(), record, seen)
    return figure


def _predictions(record: Record) -> Indices:
    """Row numbers of evaluations that were predicted, are finite and are relevant to the posterior."""
    data = record.data
    if len(record.predicted) != len(data):
        return np.empty(0, dtype=np.int64)
    depth = _PREDICTED * (_DEPTH + _DEPTH_PER_PARAMETER * data.d)
    known = data.finite & np.isfinite(record.predicted).all(axis=1)
    return np.flatnonzero(known & (data.y > data.y_max - depth))


def _draw_predictions(axes: Axes, record: Record, rows: Indices) -> None:
    data, predicted = record.data, record.predicted[rows]
    true, mean, sd = data.y[rows] - data.y_max, predicted[:, 0] - data.y_max, predicted[:, 1]
    last = data.step[rows] > data.step.max() - _RECENT
    low = 1.08 * min(float(true.min()), -1.0)
    kinds: list[tuple[Array, dict[str, Any]]] = [
        (~last, {"color": _POINT, "label": "earlier batches"}),
        (last, {"color": _LAST, "label": f"last {_RECENT} batches"}),
    ]
    for kind, look in kinds:
        if kind.any():
            x = np.clip(mean[kind], 1.5 * low, -0.3 * low)
            axes.errorbar(x, true[kind], xerr=2 * sd[kind], fmt="o", ms=3, lw=0.6, alpha=0.8, **look)
    axes.plot([1.5 * low, -0.3 * low], [1.5 * low, -0.3 * low], "-", color="#444444", lw=0.8, zorder=1)
    axes.set_xlim(1.25 * low, -0.15 * low)
    axes.set_ylim(low, -0.06 * low)
    axes.set_xlabel("predicted before the call, below the best (2 sd)")
    axes.set_ylabel("log-likelihood below the best")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2)
