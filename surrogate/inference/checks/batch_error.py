"""Check that the values of the last batch were predicted well."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.checks.effective_size import with_enough_draws
from surrogate.inference.depths import bulk_depth, relevant_depth, seen_depth
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.view import View
from surrogate.problem.dataset import FAILED

__all__ = ["BatchError", "batch_error", "judged_depth"]


_UNIT = 0.25  # allowed error in nats at the best point ...
_UNIT_PER_DEPTH = 0.1  # ... plus this for each nat of depth, because deep points matter less
_NOISE_SDS = 2.5  # sds of the noise that do not count as an error; one in eighty is larger
_STATED_SDS = 2.0  # sds that a surrogate of outputs stated and that do not count: its paths, which agree, contain them


class BatchError:
    """Requires that values and feasibility of the last batch were predicted well."""

    name = "batch error"
    phases = SIGNALS
    columns = {"batch_error": np.inf}

    @with_enough_draws
    def look(self, view: View) -> Finding:
        """Reports the largest error; it is infinite if a point was wrongly predicted to be surely (in)feasible."""
        error, limit = _largest(view), view.setup.thresholds.batch
        numbers = {"batch_error": error}
        grounds = f"errors of its predictions were {error:.2g} (limit {limit:g})"
        if error < limit:
            return Finding(view.nowhere, Claim.STANDS, "", numbers, grounds=grounds)
        reason = f"batch error {error:.2g} above {limit:g}"
        return Finding(view.nowhere, Claim.REFUTED, reason, numbers, error / limit, grounds)


def _largest(view: View) -> float:
    state = view.state
    data, last = state.data, state.data.step == state.step - 1
    if _is_surprised(view, last):
        return np.inf
    seen = last & data.finite
    seen &= data.y_max - np.fmax(data.y, state.predicted[:, 0]) < judged_depth(view)
    seen &= view.feasible(view.t) | (
        data.y_max - data.y < relevant_depth(view.d)
    )  # values that mark a wall are learned as infeasible
    stated = state.predicted[seen, 1] if view.learns_outputs else 0.0
    return batch_error(data.y[seen], state.predicted[seen, 0], data.y_max, noise=view.noise[seen], stated=stated)


def judged_depth(view: View) -> float:
    """Depth down to which predictions are judged.

    Where outputs are learned no trend is fitted to the log-likelihoods, so that wrong predictions far below the best
    value do not affect the posterior. They are judged only down to `bulk_depth` there, and otherwise to `seen_depth`.
    """
    return bulk_depth(view.d) if view.learns_outputs else seen_depth(view.d)


def _is_surprised(view: View, last: Flags) -> bool:
    """Whether a point certain to be feasible was infeasible, or a point in the bulk was predicted infeasible."""
    state, before = view.state, view.before
    data = state.data
    if before is None:
        return False
    p = before.feasibility.probability(before.whiten(view.t[last]))
    infeasible = (~data.finite & (data.status != FAILED))[last]
    if view.learns_outputs:  # which foresee values far down, where nothing depends on feasibility
        mean, sd = state.predicted[last].T
        infeasible &= ~(data.y_max - (mean - _STATED_SDS * sd) > judged_depth(view))
    bulk = data.y_max - data.y[last] < bulk_depth(view.d)
    return bool((infeasible & (p >= 1.0)).any() or (bulk & (p <= 0.0)).any())


def batch_error(
    y: Array, predicted: Array, y_max: float, *, noise: Array | float = 0.0, stated: Array | float = 0.0
) -> float:
    """Largest |y - predicted| / (0.25 + 0.1 depth) over a batch, with the depth of the higher of the two.

    Differences up to 2.5 standard deviations of the noise, and up to 2 of the stated errors, do not count.
    """
    if len(y) == 0:
        return 0.0
    top = max(y_max, float(predicted.max()))
    depth = top - np.maximum(y, predicted)
    error = np.maximum(np.abs(y - predicted) - _NOISE_SDS * noise - _STATED_SDS * stated, 0.0)
    return float((error / (_UNIT + _UNIT_PER_DEPTH * depth)).max())
