"""The schedule of temperatures during the search for the posterior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.mixed.families import is_staged, searched
from surrogate.inference.state import State
from surrogate.inference.view import View
from surrogate.log_density.mixed.parameters import MixedParameters
from surrogate.problem.dataset import Dataset
from surrogate.problem.levels import Family, Levels

__all__ = ["ERRORS", "next_temperature", "temperature_of_values"]


ERRORS = 1.5
"""Smallest temperature in units of the median error; below, errors would determine the draws."""

_MOST = 3.0  # largest factor by which a temperature may rise between batches
_COLD = 1.2  # temperature below which 1 is used


def next_temperature(view: View) -> float:
    """Temperature of the next fit; it is above 1 while points lie deeper than draws of a posterior would.

    For a quadratic y, draws from exp(y / T) have a median depth of about T d / 2, so 2 / d times the median depth of
    the best 2 d + 1 points estimates T. 1.5 times the median error of the last batch measures the accuracy of the
    surrogate. The temperature is the smaller of both, and at most three times the last one.

    While families of levels are searched one by one, only the current family is considered, with the parameters that
    act there. With categories or integers, each level has a temperature relative to its own best value, and the highest
    of them counts until the temperature is 1: a level at which nothing depends on the parameters is learned at once,
    long before others are found.

    A surrogate of outputs is never tempered, because its log-likelihood is flat anyway where outputs are uncertain.
    """
    state, d = view.state, view.d
    previous = np.inf if state.previous is None else state.previous.temperature
    if not view.setup.switches.tempered or view.learns_outputs:
        return 1.0
    from_depth = temperature_of_values(state.data.y[state.data.finite], d)
    if view.setup.levels is not None:
        family = _family(view.setup.levels, state) if is_staged(view.setup) else None
        if family is not None and _is_new(family, state):
            previous = np.inf
        if previous > 1.0:
            from_depth = _of_levels(view.setup.levels, state.data, family, from_depth)
    last = state.recent_rows(1)
    errors = np.maximum(np.abs(state.data.y - state.predicted[:, 0]) - view.noise, 0.0)[last]
    from_error = ERRORS * float(np.quantile(errors, 0.5, method="lower")) if len(errors) else previous
    temperature = max(1.0, min(from_depth, from_error, _MOST * previous))
    return temperature if temperature > _COLD else 1.0


def temperature_of_values(y: Array, d: int) -> float:
    """2 / d times the median depth of the best 2 d + 1 values."""
    best = np.sort(y)[::-1][: 2 * d + 1]
    return 2.0 / d * float(np.median(best[0] - best))


def _of_levels(levels: Levels, data: Dataset, family: Family | None, least: float) -> float:
    """The largest such number over levels with more values than continuous parameters; at least ``least``.

    Of a family alone, with the parameters that act there, if one is given.
    """
    level, y = levels.index(data.x[data.finite]), data.y[data.finite]
    if family is None:
        parts, d = [y[level == one] for one in range(len(levels))], len(levels.continuous)
        return max([least, *(temperature_of_values(part, d) for part in parts if len(part) > d)])
    d = len(family.columns)
    if d == 0:
        return 1.0
    parts = [y[level == one] for one in family.members]
    together = temperature_of_values(y[np.isin(level, family.members)], d)
    return max([together, *(temperature_of_values(part, d) for part in parts if len(part) > d)])


def _family(levels: Levels, state: State) -> Family | None:
    """The family that is searched; None if all were found before."""
    family = searched(levels, state.data.x[state.data.finite])
    found = state.previous is not None and state.previous.temperature == 1.0
    return None if family is None or (found and not _is_new(family, state)) else family


def _is_new(family: Family, state: State) -> bool:
    """Whether the last surrogate had no process for a family."""
    last = state.previous
    groups = last.groups if isinstance(last, MixedParameters) else ()
    return not any(family.members[0] in group.members for group in groups)
