"""The parameters on which the outputs of a simulator depend, as far as its evaluations show.

Data sets that constrain few parameters are often compared with outputs that do not depend on the others at all: no
distance depends on the amplitude of a power spectrum. A process of all parameters cannot know that, and is uncertain
where the others have values far from those of the evaluations. The evidence can tell: without such a parameter the
same outputs are more probable, because their processes have fewer coefficients.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.log_density.composite.fit import Found

__all__ = ["parameters_that_matter"]


_ROWS = 2  # evaluations per parameter, besides two, above which it is meaningful to leave one out
_FELT = 6.0  # slope in standard errors from which a parameter surely matters
_CLOSE = 0.5  # width of the middle half of the evaluations, relative to the draws', from which they are not close
_GAIN = 3.0  # nats by which outputs must be more probable without a parameter, as for a kernel of their own


def parameters_that_matter(w: Array, scores: Array, draws: Array, fit: Callable[[Flags], Found]) -> tuple[Flags, Found]:
    """The parameters on which components of outputs depend, and the processes of these parameters.

    Only parameters along which most evaluations lie close together, relative to the posterior, are tried: elsewhere the
    evaluations tell all that is needed. Those with clear slopes are not tried either. All others are left out together,
    or one after the other while that makes the components more probable.

    Args:
        w: Slow parameters of the evaluations, with shape (n, s).
        scores: Components that choose, with shape (n, K).
        draws: Draws of the posterior, with shape (m, s).
        fit: Function that gives the processes of the parameters in a mask with shape (s,).

    Returns:
        The mask and the processes.
    """
    mask = np.ones(w.shape[1], dtype=bool)
    found, weak = fit(mask), _weak(w, scores, draws)
    if not len(weak) or len(weak) == len(mask):
        return mask, found
    for columns in [weak, *weak[:, None]] if len(weak) > 1 else [weak]:
        trial = mask.copy()
        trial[columns] = False
        other = fit(trial)
        if other.score > found.score + _GAIN * len(columns):
            mask, found = trial, other
        if not mask[weak].any():
            break
    return mask, found


def _weak(w: Array, scores: Array, draws: Array) -> Indices:
    """Positions of parameters without a clear slope in a linear regression of any component, the weakest first.

    Those along which the evaluations do not lie closer together than the draws are left out.
    """
    n, s = w.shape
    close = _middle_half(w) < _CLOSE * _middle_half(draws)
    if n < _ROWS * (s + 1) or not close.any():
        return np.empty(0, dtype=np.int64)
    spread = w.std(0)
    x = np.column_stack([(w - w.mean(0)) / np.where(spread > 0.0, spread, 1.0), np.ones(n)])
    inverse = np.linalg.pinv(x.T @ x)
    coefficients = inverse @ (x.T @ scores)
    left = ((scores - x @ coefficients) ** 2).sum(0) / (n - s - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        steepness = np.abs(coefficients[:s]) / np.sqrt(left * np.diag(inverse)[:s, None])
    steepness = np.nan_to_num(steepness, posinf=np.inf).max(1, initial=0.0)
    weak = np.flatnonzero(close & (steepness < _FELT))
    return weak[np.argsort(steepness[weak], kind="stable")]


def _middle_half(points: Array) -> Array:
    """Widths of the middle half of points with shape (n, s), with shape (s,)."""
    return np.asarray(np.diff(np.quantile(points, [0.25, 0.75], axis=0), axis=0)[0])
