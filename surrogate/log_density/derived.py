"""Regressions of derived quantities: smooth functions of the parameters that were recorded at each evaluation.

A derived quantity is far smoother than a posterior, so that a quadratic trend and a stationary residual, fitted to the
points that matter to the posterior, give it to a small fraction of its posterior width. How small is said by leaving
each point out in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from surrogate.arrays import Array, Flags, Indices
from surrogate.gp.kernels import KERNELS
from surrogate.gp.means import Trend
from surrogate.gp.optimise import fit
from surrogate.gp.process import GPModel, GPRecipe, Hyperparameters, TrainingSet, condition
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.model import relevant_depth, trend_size

__all__ = ["DerivedModel", "fit_derived"]


@dataclass(frozen=True, eq=False)
class _Column:
    """One quantity: constant, or a process of (value - centre) / scale."""

    centre: float
    scale: float
    gp: GPModel | None

    def predict(self, u: Array) -> Array:
        if self.gp is None:
            return np.full(len(u), self.centre)
        return self.centre + self.scale * self.gp.mean(u)


@dataclass(frozen=True, eq=False)
class DerivedModel:
    """Regressions of k quantities.

    Attributes:
        names: Of the k quantities.
        error: Held-out errors, with shape (k,): root mean square over the evaluated points in the bulk of the posterior
            of the difference to the prediction from the other points. Nan where there were too few points.
        whitening: To the coordinates of the regressions.
        columns: The regressions.
    """

    names: tuple[str, ...]
    error: Array
    whitening: Whitening
    columns: tuple[_Column, ...]

    def predict(self, x: Array) -> Array:
        """Values at x with shape (m, d), with shape (m, k); O(m n k d)."""
        u = self.whitening.whiten(x)
        return (
            np.stack([column.predict(u) for column in self.columns], axis=1) if self.columns else np.empty((len(x), 0))
        )


def fit_derived(
    x: Array, height: Array, values: Array, names: tuple[str, ...], draws: Array, *, max_points: int = 300
) -> DerivedModel:
    """Regressions of derived quantities on the evaluated points near the posterior.

    Args:
        x: Evaluated points with a finite log-posterior, with shape (n, d), in any affine coordinates.
        height: Log-posterior there, with shape (n,).
        values: Derived values there, with shape (n, k); rows that are not finite do not count.
        names: Of the k quantities.
        draws: Draws of the posterior in the same coordinates, with shape (m, d): they set the scales.
        max_points: Largest number of points for a regression; the highest are taken.

    Returns:
        The regressions. One fit of the hyperparameters, O(n^3), for each quantity.

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
    fitted = [_fit_column(u, depth, values[:, j], max_points) for j in range(len(names))]
    error = np.array([e for _, e in fitted])
    return DerivedModel(tuple(names), error, whitening, tuple(column for column, _ in fitted))


def _fit_column(u: Array, depth: Array, values: Array, max_points: int) -> tuple[_Column, float]:
    d = u.shape[1]
    rows = _rows(depth, np.isfinite(values), d, max_points)
    if len(rows) < d + 2:
        return _Column(np.nan, 1.0, None), np.nan
    v, gap = values[rows], np.maximum(0.0, depth[rows] - 0.25 * relevant_depth(d))
    centre, scale = float(v.mean()), float(v.std())
    if scale <= 1e-12 * abs(centre):
        return _Column(centre, 1.0, None), 0.0
    data = TrainingSet.of(u[rows], (v - centre) / scale, gap=gap)
    recipe = GPRecipe(KERNELS["rbf"], Trend("quadratic"))
    hyper, _, _ = fit(recipe, data, [Hyperparameters.default(d)], max_evaluations=40)
    gp = condition(recipe, data, hyper)
    residual = scale * gp.leave_one_out()[_bulk(depth[rows], d)]
    return _Column(centre, scale, gp), float(np.sqrt(np.mean(residual**2)))


def _rows(depth: Array, usable: Flags, d: int, max_points: int) -> Indices:
    """The highest points: those down to half the relevant depth, or enough to determine a quadratic in any case."""
    order = np.argsort(np.where(usable, depth, np.inf), kind="stable")[: int(usable.sum())]
    near = int((depth[order] < 0.5 * relevant_depth(d)).sum())
    return order[: min(max_points, max(near, trend_size(d) + d + 2))]


def _bulk(depth: Array, d: int) -> Indices:
    """Points in the 99 % region of a normal posterior, or the highest 2 d + 1."""
    order = np.argsort(depth, kind="stable")
    inside = int((depth < 0.5 * stats.chi2.ppf(0.99, d)).sum())
    return order[: max(inside, 2 * d + 1)]
