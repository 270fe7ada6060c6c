"""The schedule of temperatures while a run looks for the posterior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.view import View
from surrogate.problem.dataset import Dataset
from surrogate.problem.levels import Levels

__all__ = ["next_temperature"]


_ERRORS = 1.5  # median errors in a temperature: at a lower one errors would decide where the draws go
_MOST = 3.0  # factor by which a temperature may rise from one batch to the next
_COLD = 1.2  # temperature below which a posterior is mapped as it is


def next_temperature(view: View) -> float:
    """Temperature of the next fit: above 1 while the points lie deeper than a posterior would explain.

    The median depth of the best 2 d + 1 points, times 2 / d, is the temperature of draws from exp(y / T) of a
    quadratic; 1.5 times the median error of the last batch says how well the surrogate knows its way. The smaller of
    both counts, at most three times the last one.

    With categories or integers the highest temperature of a level counts until the posterior is mapped as it is, with
    the level's own best value: a level on which nothing has an effect is known at once, while others are not yet found.

    A surrogate of outputs is never tempered: where these are uncertain its log-likelihood is flat by itself.
    """
    state, d = view.state, view.d
    if not view.setup.tempered or view.learns_outputs:
        return 1.0
    from_depth = _of_points(state.data.y[state.data.finite], d)
    searching = state.previous is None or state.previous.temperature > 1.0
    if view.setup.levels is not None and searching:
        from_depth = _of_levels(view.setup.levels, state.data, from_depth)
    last = state.recent_rows(1)
    errors = np.maximum(np.abs(state.data.y - state.predicted[:, 0]) - view.noise, 0.0)[last]
    previous = np.inf if state.previous is None else state.previous.temperature
    from_error = _ERRORS * float(np.quantile(errors, 0.5, method="lower")) if len(errors) else previous
    temperature = max(1.0, min(from_depth, from_error, _MOST * previous))
    return temperature if temperature > _COLD else 1.0


def _of_points(y: Array, d: int) -> float:
    """2 / d times the median depth of the best 2 d + 1 of some values."""
    best = np.sort(y)[::-1][: 2 * d + 1]
    return 2.0 / d * float(np.median(best[0] - best))


def _of_levels(levels: Levels, data: Dataset, least: float) -> float:
    """The largest such number of the levels that have more values than continuous parameters; ``least`` at least."""
    level, d = levels.index(data.x[data.finite]), len(levels.continuous)
    parts = [data.y[data.finite][level == one] for one in range(len(levels))]
    return max([least, *(_of_points(y, d) for y in parts if len(y) > d)])
