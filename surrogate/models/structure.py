"""Choosing the structure of a surrogate by its evidence: kernel, trend, output warp, input warps.

All neighbours of the present structure (one change each) are scored with a few factorisations at the present
hyperparameters; the best are then fitted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from surrogate.data import Dataset
from surrogate.models.gp import Hyperparameters
from surrogate.models.surrogate import (
    Structure,
    SurrogateParameters,
    fit_structure,
    relevant_depth,
    score_structure,
    trend_size,
)

__all__ = ["choose_structure", "neighbours"]

Array = NDArray[np.float64]


def neighbours(structure: Structure, d: int, deepest: float) -> list[Structure]:
    """Structures that differ by one change: kernel, trend, output warp, the warp of one parameter or of all alike.

    Args:
        structure: The present one.
        d: Number of parameters.
        deepest: Largest gap among the data; expanding warps that would overflow there are left out.
    """
    depth = relevant_depth(d)
    outputs = [0.0, 0.25 * depth, depth] + [-o for o in (4.0, 16.0) if deepest / o < 30.0]
    out = [replace(structure, kernel=k) for k in ("rbf", "matern52") if k != structure.kernel]
    out += [replace(structure, trend=k) for k in ("quadratic", "constant") if k != structure.trend]
    out += [replace(structure, output=o) for o in outputs if o != structure.output]
    warp = structure.warp
    for j in range(d):
        for kind in warp.allowed(j):
            if kind != warp.kinds[j]:
                kinds = warp.kinds.copy()
                kinds[j] = kind
                out.append(replace(structure, warp=replace(warp, kinds=kinds)))
    for kind in range(4) if d > 1 else ():
        kinds = np.array([kind if kind in warp.allowed(j) else 0 for j in range(d)])
        if (kinds != warp.kinds).sum() > 1:
            out.append(replace(structure, warp=replace(warp, kinds=kinds)))
    return out


def _variants(hyper: Hyperparameters) -> tuple[Hyperparameters, ...]:
    """The hyperparameters with the amplitude as it is or lowered, and the shaping as it is or small."""
    low, small = hyper.log_amplitude - 2.5, min(hyper.log_shaping, np.log(1e-3))
    return (
        hyper,
        replace(hyper, log_amplitude=low),
        replace(hyper, log_shaping=small),
        replace(hyper, log_amplitude=low, log_shaping=small),
    )


def choose_structure(
    data: Dataset,
    t: Array,
    present: SurrogateParameters,
    cloud: Array | None,
    *,
    refine: int = 3,
    margin: float = 1.0,
    device: str = "cpu",
) -> SurrogateParameters:
    """The present surrogate, or a fitted neighbour whose score is higher by ``margin`` nats.

    Nothing is tried while there are too few points to tell structures apart, or once the trend explains the data.

    Args:
        data: Evaluated points.
        t: Their scaled coordinates, with shape (n, d).
        present: The fitted surrogate.
        cloud: Draws t of the present posterior.
        refine: Number of neighbours that are fitted.
        margin: Nats by which a neighbour must win.
        device: Where the linear algebra runs.
    """
    d = t.shape[1]
    finite = int(data.finite.sum())
    if finite < min(trend_size(d), 6 * d) or present.exact:
        return present
    deepest = float(data.y_max - data.y[data.finite].min()) / present.temperature
    variants = _variants(present.hyper)
    scored = []
    for structure in neighbours(present.structure, d, deepest):
        value, hyper = score_structure(
            data, t, structure, cloud, variants, temperature=present.temperature, device=device
        )
        scored.append((value, structure, hyper))
    scored.sort(key=lambda entry: -entry[0])
    best = present
    for _, structure, hyper in scored[:refine]:
        fitted = fit_structure(
            data, t, structure, cloud, temperature=present.temperature, starts=(hyper,), max_evaluations=30, device=device
        )
        if fitted.score > max(best.score, present.score + margin):
            best = fitted
    return best
