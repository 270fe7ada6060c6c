"""Choice between learning outputs and learning the log-likelihood itself, by leave-one-out errors."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.log_density.composite.comparison import LOWEST
from surrogate.log_density.composite.model import CompositeLogDensity
from surrogate.log_density.model import ScalarLogDensity

__all__ = ["FEWEST", "FEWEST_PER_PARAMETER", "left_out_score", "scalar_wins"]


FEWEST = 14
"""Number of evaluations above which leave-one-out errors are meaningful ..."""

FEWEST_PER_PARAMETER = 3
"""... and the same per slow parameter, which in 4 dimensions is the number of coefficients of a quadratic."""

_FLOOR = 0.1  # tolerated error in nats
_PER_DEPTH = 0.1  # tolerated error as a share of the depth, because deep points matter less
_MARGIN = 0.35  # difference of mean log errors needed for a change: a factor of 1.4


def scalar_wins(outputs: CompositeLogDensity, scalar: ScalarLogDensity, y: Array) -> bool:
    """Whether the log-likelihood is predicted better directly than from the outputs.

    Both surrogates predict each evaluation from all others. The score is the mean log error in units of 0.1 nats plus a
    tenth of the depth. Evidences cannot be compared, because outputs and log-likelihoods are different data.

    Args:
        outputs: Surrogate of the outputs.
        scalar: Surrogate of the log-likelihood, fitted to the same data.
        y: Finite log-likelihoods of the data, with shape (n,).
    """
    slow = len(outputs.output_data.source.target.columns)
    data, both = outputs.output_data.data, _both(outputs)
    if both.sum() < max(FEWEST, FEWEST_PER_PARAMETER * slow):
        return False
    by_scalar = _score(scalar.left_out_depth(y)[both[data.finite]], outputs.y_max - data.y[both])
    return by_scalar < left_out_score(outputs) - _MARGIN


def left_out_score(outputs: CompositeLogDensity) -> float:
    """Mean log error of leave-one-out predictions of log-likelihoods from outputs; smaller is better."""
    known, data, both = outputs.output_data, outputs.output_data.data, _both(outputs)
    residual, _ = outputs.left_out()
    predicted = np.full(len(data), LOWEST)
    predicted[known.rows] = known.comparison.value(known.reduction.scores - residual, known.x)
    return _score(outputs.y_max - predicted[both], outputs.y_max - data.y[both])


def _both(outputs: CompositeLogDensity) -> Flags:
    """Rows with outputs and a finite log-likelihood."""
    return outputs.output_data.rows & outputs.output_data.data.finite


def _score(predicted: Array, depth: Array) -> float:
    allowed = _FLOOR + _PER_DEPTH * depth
    return float(np.log(1.0 + ((np.minimum(predicted, -LOWEST) - depth) / allowed) ** 2).mean()) / 2.0
