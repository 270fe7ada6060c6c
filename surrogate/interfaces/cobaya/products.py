"""Products of a run in Cobaya's formats: the chain as columns and as a collection, and the progress file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cobaya.collection import SampleCollection
from cobaya.model import Model

from surrogate.arrays import Array, Indices
from surrogate.interfaces.cobaya.model import recorded_names
from surrogate.output.cobaya import chain_columns, shared_out

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["append_progress", "collection_of", "columns_of"]


def columns_of(model: Model, result: Result, *, n_rows: int | None = None, equal: bool = False) -> dict[str, Array]:
    """The chain of a result in Cobaya's columns, with independent draws as rows.

    Args:
        model: The model.
        result: Result of a run on this model.
        n_rows: Largest number of rows if the draws were not re-weighted; None for all.
        equal: Whether to set all weights to 1, ignoring any re-weighting.
    """
    weights = result.weights / result.weights.max()
    if equal and result.reweighting is not None:
        weights = np.ones_like(weights)
    rows = np.arange(len(weights))[: n_rows if result.reweighting is None else None]
    log_priors = _log_priors(model, result, rows)
    possible = np.isfinite(np.sum(list(log_priors.values()), axis=0))
    rows, log_priors = rows[possible], {name: v[possible] for name, v in log_priors.items()}
    external = sum((v for name, v in log_priors.items() if name != "0"), np.zeros(len(rows)))
    total = result.log_posterior[rows] - result.log_prior[rows] - external
    known = {name: recorded for name, recorded in recorded_names(model).items() if recorded in result.derived_names}
    places = {name: result.derived_names.index(recorded) for name, recorded in known.items()}
    emulated = {name: result.derived[rows, place] for name, place in places.items()}
    errors = result.derived_error
    error = {name: errors[place] for name, place in places.items()} if len(errors) else {}
    likelihoods = _log_likelihoods(model, total, emulated, error)
    return chain_columns(
        weights[rows],
        dict(zip(result.names, result.samples[rows].T, strict=True)),
        _derived(model, emulated, likelihoods, len(rows)),
        log_priors,
        likelihoods,
    )


def _log_priors(model: Model, result: Result, rows: Indices) -> dict[str, Array]:
    """Exact log densities of the parts of the prior, each with shape (rows,)."""
    names = list(model.prior)
    if len(names) == 1:
        return {names[0]: result.log_prior[rows]}
    values = np.array([model.logpriors(x) for x in result.samples[rows]])
    return dict(zip(names, values.T, strict=True))


def _log_likelihoods(
    model: Model, total: Array, emulated: Mapping[str, Array], error: Mapping[str, float]
) -> dict[str, Array]:
    """Log-likelihoods by name, which add up to the total; a single likelihood equals the total."""
    names = list(model.likelihood)
    if len(names) == 1:
        return {names[0]: total}
    missing = np.full(len(total), np.nan)
    parts = np.stack([-0.5 * emulated.get(f"chi2__{name}", missing) for name in names], axis=1)
    shared = shared_out(parts, total, np.array([error.get(f"chi2__{name}", 0.0) for name in names]))
    return dict(zip(names, shared.T, strict=True))


def _derived(model: Model, emulated: Mapping[str, Array], likelihoods: Mapping[str, Array], n: int) -> dict[str, Array]:
    """Derived parameters by name; the chi2 of a type of likelihoods is the sum over them."""
    out: dict[str, Array] = {}
    for name in model.parameterization.derived_params():
        kind = name.removeprefix("chi2__")
        if name.startswith("chi2__") and kind in likelihoods:
            continue  # it has its own column
        of_kind = [key for key, like in model.likelihood.items() if kind in getattr(like, "type_list", ())]
        if name.startswith("chi2__") and of_kind:
            out[name] = -2.0 * np.sum([likelihoods[key] for key in of_kind], axis=0)
        else:
            out[name] = emulated.get(name, np.full(n, np.nan))
    return out


def collection_of(model: Model, columns: Mapping[str, Array], *, sample_type: str) -> SampleCollection:
    """A chain as Cobaya's collection."""
    collection = SampleCollection(model, None, name="1", sample_type=sample_type)
    d = model.prior.d()
    table = np.stack([columns[name] for name in collection.columns], axis=1)
    first = 2 + d + len([p for p in collection.derived_params if p not in collection.chi2_names])
    n_priors, by_name = len(collection.minuslogprior_names), collection.derived_params
    for row, derived in zip(table, np.stack([columns[p] for p in by_name], 1) if by_name else table, strict=True):
        collection.add(
            row[2 : 2 + d],
            logpriors=-row[first + 1 : first + 1 + n_priors],
            loglikes=-0.5 * row[first + 2 + n_priors :],
            derived=derived if by_name else None,
            weight=row[0],
        )
    return collection


def append_progress(path: Path, row: Mapping[str, float]) -> None:
    """Appends an iteration to the progress file, with Cobaya's column names where they exist."""
    cells = {
        "N": f"{row['n_evaluations']:.0f}",
        "timestamp": datetime.datetime.now().isoformat(),
        "acceptance_rate": f"{row['n_finite'] / row['n_evaluations']:.6g}",
        "Rminus1": f"{row['spread']:.6g}",
        "Rminus1_cl": f"{row['moved']:.6g}",
        "log_evidence": f"{row['log_evidence']:.8g}",
    }
    with open(path, "a", encoding="utf-8") as file:
        if not file.tell():
            file.write("# " + " ".join(f"{name:>15s}" for name in cells)[2:] + "\n")
        file.write(" ".join(f"{cell:>15s}" for cell in cells.values()) + "\n")
