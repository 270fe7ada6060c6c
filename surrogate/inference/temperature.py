"""The schedule of temperatures while a run looks for the posterior."""

from __future__ import annotations

import numpy as np

from surrogate.inference.view import View

__all__ = ["next_temperature"]


_ERRORS = 1.5  # median errors in a temperature: at a lower one errors would decide where the draws go
_MOST = 3.0  # factor by which a temperature may rise from one batch to the next
_COLD = 1.2  # temperature below which a posterior is mapped as it is


def next_temperature(view: View) -> float:
    """Temperature of the next fit: above 1 while the points lie deeper than a posterior would explain.

    The median depth of the best 2 d + 1 points, times 2 / d, is the temperature of draws from exp(y / T) of a
    quadratic; 1.5 times the median error of the last batch says how well the surrogate knows its way. The smaller of
    both counts, at most three times the last one.

    A surrogate of outputs is never tempered: where these are uncertain its log-likelihood is flat by itself.
    """
    state, d = view.state, view.d
    if not view.setup.tempered or view.learns_outputs:
        return 1.0
    best = np.sort(state.data.y[state.data.finite])[::-1][: 2 * d + 1]
    from_depth = 2.0 / d * float(np.median(best[0] - best))
    last = state.recent_rows(1)
    errors = np.maximum(np.abs(state.data.y - state.predicted[:, 0]) - view.noise, 0.0)[last]
    previous = np.inf if state.previous is None else state.previous.temperature
    from_error = _ERRORS * float(np.quantile(errors, 0.5, method="lower")) if len(errors) else previous
    temperature = max(1.0, min(from_depth, from_error, _MOST * previous))
    return temperature if temperature > _COLD else 1.0
