"""Families of levels at which the same parameters act: those found, those searched now, and those still to come."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.inference.setup import Setup
from surrogate.inference.state import State
from surrogate.log_density.mixed.learner import begun
from surrogate.problem.dataset import Dataset
from surrogate.problem.levels import Family, Levels

__all__ = ["awaited", "in_search", "is_found", "is_staged", "searched"]

_RISE = 1.0  # nats; by less than this the best value of a family that is found rises in a batch


def is_staged(setup: Setup) -> bool:
    """Whether there are several families of levels."""
    return setup.levels is not None and len(setup.levels.families) > 1


def searched(levels: Levels, points: Array) -> Family | None:
    """The family whose search began last, given the points x of finite values, with shape (n, d); None at the start."""
    families = begun(levels, points)
    return families[-1] if families else None


def awaited(setup: Setup, data: Dataset) -> Family | None:
    """The next family to search; None if there is only one, or none is left."""
    if setup.levels is None or not is_staged(setup):
        return None
    known = [family.members[0] for family in begun(setup.levels, data.x[data.finite])]
    return next((family for family in setup.levels.families if family.members[0] not in known), None)


def is_found(setup: Setup, state: State) -> bool:
    """Whether the family that is searched is found, so that the next may begin.

    Its last batch must have been chosen at temperature 1, like the next one, and must not have raised its best value by
    a nat or more: a search that climbs along a ridge may reach temperature 1 far below the best values.
    """
    if state.parameters is None or state.parameters.temperature > 1.0 or setup.levels is None:
        return False
    data, level = state.data, setup.levels.index(state.data.x)
    family = searched(setup.levels, data.x[data.finite])
    if family is None or not len(family.columns):
        return True
    mine = np.isin(level, family.members) & data.finite
    last = data.step == state.step - 1
    cold = state.previous is not None and state.previous.temperature == 1.0
    if not cold or not (mine & ~last).any():
        return False
    return bool(data.y[mine].max() - data.y[mine & ~last].max() < _RISE)


def in_search(levels: Levels, points: Array, temperature: float) -> Indices:
    """The levels that are searched now: those of the last family that has begun, or all once all are found."""
    families = begun(levels, points)
    if len(families) == len(levels.families) and temperature == 1.0 or not families:
        return np.arange(len(levels))
    return families[-1].members
