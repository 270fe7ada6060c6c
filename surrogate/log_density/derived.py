"""Regressions of derived quantities: smooth functions of the parameters recorded at each evaluation.

Derived quantities are much smoother than posteriors: a quadratic trend and a stationary residual, fitted to the
relevant points, predict them to a small fraction of their posterior width. The error is measured by leave-one-out
prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from surrogate.arrays import Array, Flags, Indices
from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.gp.trended import Hyperparameters, Trended
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.parameters import relevant_depth, trend_size

__all__ = ["DerivedModel", "fit_derived"]


@dataclass(frozen=True, eq=False)
class _Column:
    """The regression of one quantity: a constant, or a process of (value - centre) / scale."""

    centre: float
    scale: float
    gp: CholeskyPosterior | None

    def predict(self, u: Array) -> Array:
        if self.gp is None:
            return np.full(len(u), self.centre)
        return self.centre + self.scale * self.gp.mean(u)


@dataclass(frozen=True, eq=False)
class _Line:
    """A quantity equal to intercept + slope * log-likelihood, such as the chi2 of the only data set."""

    intercept: float
    slope: float


@dataclass(frozen=True, eq=False)
class DerivedModel:
    """Regressions of k quantities.

    Attributes:
        names: Names of the k quantities.
        error: Root mean square leave-one-out errors over the evaluated points in the bulk, with shape (k,). NaN if
            there are too few points.
        whitening: Map to the coordinates of the regressions.
        columns: The regressions.
    """

    names: tuple[str, ...]
    error: Array
    whitening: Whitening
    columns: tuple[_Column | _Line, ...]

    def predict(self, x: Array, log_likelihood: Array | None = None) -> Array:
        """Values at x, with shape (m, k); O(m n k d).

        Args:
            x: Points, with shape (m, d).
            log_likelihood: Log-likelihood at x, with shape (m,); needed if the model was fitted with it.
        """
        u = self.whitening.whiten(x)
        values = np.empty((len(x), len(self.columns)))
        for j, column in enumerate(self.columns):
            if isinstance(column, _Column):
                values[:, j] = column.predict(u)
            elif log_likelihood is not None:
                values[:, j] = column.intercept + column.slope * log_likelihood
            else:
                msg = f"{self.names[j]!r} is computed from the log-likelihood, which was not given"
                raise ValueError(msg)
        return values

    @property
    def regressed(self) -> tuple[str, ...]:
        """Names of the quantities that regressions predict, as opposed to those that are linear in the likelihood."""
        return tuple(name for name, column in zip(self.names, self.columns, strict=True) if isinstance(column, _Column))

    def replaced(self, other: DerivedModel, error: Array) -> DerivedModel:
        """The model with the quantities of another one, which has the same whitening, and their errors."""
        columns, errors = list(self.columns), self.error.copy()
        for name, column, value in zip(other.names, other.columns, error, strict=True):
            place = self.names.index(name)
            columns[place], errors[place] = column, value
        return replace(self, columns=tuple(columns), error=errors)


def fit_derived(
    x: Array,
    height: Array,
    values: Array,
    names: tuple[str, ...],
    draws: Array,
    *,
    log_likelihood: Array | None = None,
    max_points: int = 300,
) -> DerivedModel:
    """Regressions of derived quantities on the evaluated points near the posterior.

    Args:
        x: Evaluated points with a finite log-posterior, with shape (n, d), in any affine coordinates.
        height: Log-posterior at these points, with shape (n,).
        values: Derived values, with shape (n, k); rows that are not finite are ignored.
        names: Names of the k quantities.
        draws: Draws of the posterior in the same coordinates, with shape (m, d), which set the scales.
        log_likelihood: Log-likelihood at the points, with shape (n,). A quantity that is linear in it follows from the
            surrogate without a regression.
        max_points: Largest number of points in a regression; the highest are used.

    Returns:
        The regressions, after one fit of hyperparameters, O(n^3), for each quantity.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    n = len(height)
    if len(x) != n or values.shape != (n, len(names)) or draws.shape[1:] != x.shape[1:]:
        msg = (
            f"expected x (n, d), height (n,), values (n, {len(names)}) and draws (m, d), "
            f"got {x.shape}, {height.shape}, {values.shape} and {draws.shape}"
        )
        raise ValueError(msg)
    whitening = Whitening.of(draws)
    u, depth = whitening.whiten(x), height.max(initial=-np.inf) - height
    fitted: list[tuple[_Column | _Line, float]] = []
    for column in values.T:
        line = None if log_likelihood is None else _line(log_likelihood, column)
        fitted.append(_fit_column(u, depth, column, max_points) if line is None else (line, 0.0))
    error = np.array([e for _, e in fitted])
    return DerivedModel(tuple(names), error, whitening, tuple(column for column, _ in fitted))


_ROUNDING = 1e-10  # relative tolerance; sums of a few terms are exact to 1e-14
_ENOUGH = 5  # points, because any two lie on a line


def _line(log_likelihood: Array, values: Array) -> _Line | None:
    """The straight line on which the values lie up to rounding; None if there is none or they are constant."""
    usable = np.isfinite(values) & np.isfinite(log_likelihood)
    y, v = log_likelihood[usable], values[usable]
    if len(v) < _ENOUGH or not min(np.ptp(y), np.ptp(v)) > 0.0:
        return None
    low, high = int(y.argmin()), int(y.argmax())
    slope = float((v[high] - v[low]) / (y[high] - y[low]))
    intercept = float(v[high] - slope * y[high])
    misfit = np.abs(v - intercept - slope * y)
    return _Line(intercept, slope) if bool((misfit <= _ROUNDING * np.abs(v).max()).all()) else None


def _fit_column(u: Array, depth: Array, values: Array, max_points: int) -> tuple[_Column, float]:
    d = u.shape[1]
    rows = _rows(depth, np.isfinite(values), d, max_points)
    if len(rows) < d + 2:
        return _Column(np.nan, 1.0, None), np.nan
    v, excess = values[rows], np.maximum(0.0, depth[rows] - 0.25 * relevant_depth(d))
    centre, scale = float(v.mean()), float(v.std())
    if scale <= 1e-12 * abs(centre):
        return _Column(centre, 1.0, None), 0.0
    data, family = Data.of(u[rows], (v - centre) / scale, depth=excess), Trended("rbf", Polynomial("quadratic"))
    hyper, _ = family.fit(data, [Hyperparameters.default(d)], max_evaluations=40)
    gp = family.condition(data, hyper)
    residual = scale * gp.leave_one_out()[_bulk(depth[rows], d)]
    return _Column(centre, scale, gp), float(np.sqrt(np.mean(residual**2)))


def _rows(depth: Array, usable: Flags, d: int, max_points: int) -> Indices:
    """Mask of the highest points: those down to half the relevant depth, and at least enough for a quadratic."""
    order = np.argsort(np.where(usable, depth, np.inf), kind="stable")[: int(usable.sum())]
    near = int((depth[order] < 0.5 * relevant_depth(d)).sum())
    return order[: min(max_points, max(near, trend_size(d) + d + 2))]


def _bulk(depth: Array, d: int) -> Indices:
    """Mask of points in the 99 % region of a normal posterior, or of the highest 2 d + 1."""
    order = np.argsort(depth, kind="stable")
    inside = int((depth < 0.5 * stats.chi2.ppf(0.99, d)).sum())
    return order[: max(inside, 2 * d + 1)]
