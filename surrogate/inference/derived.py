"""Derived values at the draws of a finished run, from those of its evaluations.

Most are predicted by regressions on the parameters. Parts of a comparison, such as the chi2 of each data set, depend on
the simulator's outputs, which are known better than any quantity that is computed from them: the comparison itself
gives them at emulated outputs.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.depths import bulk_depth
from surrogate.inference.loop import PosteriorLoop
from surrogate.log_density.composite.model import CompositeLogDensity
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.derived import DerivedModel, fit_derived
from surrogate.log_density.protocol import LogDensity
from surrogate.problem.dataset import Dataset
from surrogate.rng import generator

__all__ = ["derived_values"]

_LOG = logging.getLogger("surrogate.inference")

_DRAWS = 300  # draws at which parts of a comparison are computed; a quadratic of ten parameters has 66 coefficients
_CHECKED = 100  # further draws at which their errors are measured


def derived_values(
    loop: PosteriorLoop, data: Dataset, model: LogDensity, t: Array, log_likelihood: Array
) -> dict[str, Any]:
    """The derived values of a result.

    Args:
        loop: The loop of the run.
        data: Its evaluations.
        model: Its surrogate.
        t: Draws of the posterior in unit coordinates, with shape (m, d).
        log_likelihood: Log-likelihoods there, with shape (m,).

    Returns:
        The fields ``derived``, ``derived_names`` and ``derived_error`` of `Samples`.
    """
    low, high = loop.scaled.to_unit(loop.prior.bounds.T)
    circles = InputWarp.identity(low, high, loop.prior.periodic)  # periodic parameters as their cosine and sine
    if not data.derived_names:
        return {"derived": np.empty((len(t), 0)), "derived_names": (), "derived_error": np.empty(0)}
    fitted = _regressions(loop, data, circles, t)
    if isinstance(model, CompositeLogDensity):
        fitted = _with_parts(loop, model, fitted, circles, t)
    values = fitted.predict(circles.forward(t), log_likelihood)
    return {"derived": values, "derived_names": fitted.names, "derived_error": fitted.error}


def _regressions(loop: PosteriorLoop, data: Dataset, circles: InputWarp, draws: Array) -> DerivedModel:
    """Regressions of the derived values on the evaluated points."""
    t, y = loop.scaled.to_unit(data.x[data.finite]), data.y[data.finite]
    height, values = y + loop.scaled.log_density(t), data.derived[data.finite]
    x, draws = circles.forward(t), circles.forward(draws)
    return fit_derived(x, height, values, data.derived_names, draws, log_likelihood=y)


def _with_parts(
    loop: PosteriorLoop, model: CompositeLogDensity, fitted: DerivedModel, circles: InputWarp, draws: Array
) -> DerivedModel:
    """The regressions, those of parts of the comparison from their values at some of the draws.

    The errors are those at other draws of the outputs, within the outputs' own errors, and in addition those that the
    components of the outputs leave at evaluated points.
    """
    rng = generator(0, "parts of the comparison")
    rows = rng.permutation(len(draws))[: _DRAWS + _CHECKED]
    known, checked = draws[rows[:_DRAWS]], draws[rows[_DRAWS:]]
    values, others = _parts(loop, model, known), _parts(loop, model, checked, rng)
    names = tuple(name for name in values if name in others and name in fitted.regressed)
    if not names:
        return fitted
    height = model.mean(known) + loop.scaled.log_density(known)
    table = np.stack([values[name] for name in names], axis=1)
    parts = fit_derived(circles.forward(known), height, table, names, circles.forward(draws), max_points=_DRAWS)
    off = np.stack([others[name] for name in names], axis=1) - parts.predict(circles.forward(checked))
    off = off[np.isfinite(off).all(1)]
    if not len(off):
        return fitted
    return fitted.replaced(parts, np.sqrt(np.mean(off**2, axis=0) + _left_by_components(loop, model, names)))


def _left_by_components(loop: PosteriorLoop, model: CompositeLogDensity, names: tuple[str, ...]) -> Array:
    """Mean square errors of parts at evaluated points of the bulk if outputs are what their components describe."""
    data, rows = model.output_data.data, np.flatnonzero(model.output_data.rows)
    near = data.y_max - data.y[rows] < bulk_depth(loop.d)
    found = _parts_of(loop, model, model.output_data.reduction.scores[near], model.output_data.t[rows][near])
    if not set(names) <= set(found):
        return np.zeros(len(names))
    columns = [data.derived_names.index(name) for name in names]
    off = np.stack([found[name] for name in names], 1) - data.derived[rows][near][:, columns]
    off = off[np.isfinite(off).all(1)]
    return np.asarray(np.mean(off**2, axis=0), dtype=np.float64) if len(off) else np.zeros(len(names))


def _parts(
    loop: PosteriorLoop, model: CompositeLogDensity, t: Array, rng: np.random.Generator | None = None
) -> dict[str, Array]:
    """Parts of the comparison at emulated outputs, or at random ones within their errors, each with shape (m,)."""
    z, variance = model.components(model.whiten(t))
    if rng is not None:
        z = z + np.sqrt(variance) * rng.standard_normal(z.shape)
    return _parts_of(loop, model, z, t)


def _parts_of(loop: PosteriorLoop, model: CompositeLogDensity, z: Array, t: Array) -> dict[str, Array]:
    """Parts of the comparison for components z, with shape (m, K), at t.

    Empty if it has none, or refuses such outputs.
    """
    target = loop.setup.observables
    reduction = model.output_data.reduction
    if target is None or not target.has_parts or reduction.unit is None or not len(t):
        return {}
    try:
        return target.parts(reduction.layout, reduction.outputs(z), model.from_unit(t))
    except Exception as error:  # noqa: BLE001 - a user's function, after all calls of the simulator
        _LOG.warning("derived values are regressions: compare.parts failed at emulated outputs (%s)", error)
        return {}
