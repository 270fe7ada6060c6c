"""Points at which the simulator has been called with the same slow parameters, so that no call is needed."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.problem.dataset import OK, Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.observables import BoundObservables
from surrogate.problem.outputs import Outputs

__all__ = ["called", "repeated"]


def repeated(target: BoundObservables | None, data: Dataset, x: Array) -> dict[int, Evaluation]:
    """Evaluations, by index, of the points x whose slow parameters already have outputs.

    Args:
        target: Simulator and comparison; None for a plain log-likelihood.
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
    """Mask of the rows that cost a call, with shape (n,); repeated outputs have a duration of zero."""
    return (data.step >= 0) & ~(data.has_outputs & (data.seconds == 0.0) & (data.status == OK))
