"""Points whose slow parameters the simulator has already been called at: they cost a comparison, but no call."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.problem.dataset import OK, Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.observables import BoundObservables
from surrogate.problem.outputs import Outputs

__all__ = ["called", "repeated"]


def repeated(target: BoundObservables | None, data: Dataset, x: Array) -> dict[int, Evaluation]:
    """Evaluations, by their index, of those points x that differ in fast parameters only from one with outputs.

    Args:
        target: Simulator and comparison; None if there is but a log-likelihood.
        data: Evaluations so far.
        x: Points to evaluate, with shape (b, d).
    """
    if target is None or data.layout is None:
        return {}
    known = {data.x[i, target.columns].tobytes(): i for i in np.flatnonzero(data.has_outputs)}
    out = {}
    for index, point in enumerate(x):
        row = known.get(point[target.columns].tobytes())
        if row is not None:
            named = zip(data.derived_names, data.derived[row].tolist(), strict=True)
            derived = {name: value for name, value in named if np.isfinite(value)}
            out[index] = target.compared(Outputs(data.layout, data.outputs[row]), point, derived)
    return out


def called(data: Dataset) -> Flags:
    """Rows that cost a call, a mask with shape (n,): repeated outputs took no time at all."""
    return (data.step >= 0) & ~(data.has_outputs & (data.seconds == 0.0) & (data.status == OK))
