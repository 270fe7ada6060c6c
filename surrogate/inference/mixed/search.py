"""The search of levels family by family: first those at which the fewest parameters act, then the others.

A family is searched once the posteriors of those before it are found: its first points are draws of the last of them,
with the parameters that are new over their prior. Where one model extends another, most of the search is then done.
"""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.design import space_filling
from surrogate.inference.mixed.families import in_search, is_staged, searched
from surrogate.inference.setup import Setup, design_size
from surrogate.inference.view import View
from surrogate.problem.levels import Family

__all__ = ["family_design", "on_searched"]

_PER_PARAMETER, _SPARE = 2, 2  # points with which a family begins at the draws of another


def on_searched(view: View, t: Array) -> Array:
    """The points t, with those at levels that are not searched now moved to others; all of them without levels."""
    levels = view.setup.levels
    if levels is None or not is_staged(view.setup):
        return t
    members = in_search(levels, view.state.data.x[view.state.data.finite], view.model.temperature)
    level, rng = levels.index(t), view.rng("searched")
    level = np.where(np.isin(level, members), level, rng.choice(members, len(t)))
    return levels.points(t[:, levels.continuous], level)


def family_design(view: View, family: Family) -> Array:
    """The next points x of the design of a family, with shape (b, d): its levels in turn.

    Parameters that act at the last family found come from its draws, others from a Sobol sequence over their prior.
    """
    setup, data = view.setup, view.state.data
    levels = setup.levels
    if levels is None:
        msg = "the run has no categories or integers"
        raise TypeError(msg)
    known = int(np.isin(levels.index(np.concatenate([data.x, view.under_way])), family.members).sum())
    last = None if view.state.parameters is None else searched(levels, data.x[data.finite])
    n = _size(setup, family, last) - known
    n = n if n > 0 else setup.n_batch
    x = space_filling(setup.prior, len(data) + len(view.under_way), n, view.state.seed)
    if last is not None:
        warm = view.draws.warm
        warm = warm[np.isin(levels.index(warm), last.members)]
        columns = np.intersect1d(last.columns, family.columns)
        chosen = view.rng("family").choice(len(warm), n, replace=len(warm) < n)
        x[:, columns] = setup.scaled.from_unit(warm[chosen])[:, columns]
    return levels.points(x[:, levels.continuous], family.members[(known + np.arange(n)) % len(family.members)])


def _size(setup: Setup, family: Family, last: Family | None) -> int:
    """Points with which a family begins: those of a run of its own, or fewer at the draws of another one."""
    least = max(len(family.members), len(family.columns) + _SPARE)
    if not len(family.columns):
        return least
    if last is not None and len(np.intersect1d(last.columns, family.columns)):
        return max(least, _PER_PARAMETER * len(family.columns) + _SPARE)
    return max(least, design_size(setup.with_parameters(family.columns)))
