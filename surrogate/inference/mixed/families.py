"""Families of levels at which the same parameters act: those found, those searched now, and those still to come."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.inference.setup import Setup
from surrogate.log_density.mixed.learner import begun
from surrogate.problem.dataset import Dataset
from surrogate.problem.levels import Family, Levels

__all__ = ["awaited", "in_search", "is_staged", "searched"]


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


def in_search(levels: Levels, points: Array, temperature: float) -> Indices:
    """The levels that are searched now: those of the last family that has begun, or all once all are found."""
    families = begun(levels, points)
    if len(families) == len(levels.families) and temperature == 1.0 or not families:
        return np.arange(len(levels))
    return families[-1].members
