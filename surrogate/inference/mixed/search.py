"""The search of levels family by family: first those at which the fewest parameters act, then the others.

A family is searched once the posteriors of those before it are found. Its first points are draws of the previous
family, with new parameters spread over their prior. Where one model extends another, this saves most of the search.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array, Indices
from surrogate.inference.design import space_filling
from surrogate.inference.mixed.families import in_search, is_staged, searched
from surrogate.inference.mixed.sampling import mixed_model
from surrogate.inference.mixed.slices import levels_of
from surrogate.inference.setup import Setup, design_size, with_parameters
from surrogate.inference.view import View
from surrogate.problem.levels import Family

__all__ = ["family_design", "on_searched", "shares"]

_PER_PARAMETER, _SPARE = 2, 2  # first points of a family if drawn from another: for each parameter, and more
_PATHS, _POINTS = 64, 200  # number of joint paths of a family's surrogate, and of the draws where they are evaluated
_SDS = 3.0  # standard deviations by which the log evidence of a family could be higher
_NEVER = -700.0  # replaces the log of a weight of zero


def on_searched(view: View, t: Array) -> Array:
    """The points t, where those at levels that are not searched now are moved to random levels that are.

    They are unchanged if the run has no levels or only one family of them.
    """
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
    levels = levels_of(view)
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


def shares(view: View, t: Array, n: int) -> list[tuple[Indices, int, int]]:
    """How n points of a batch are divided among families; evaluations of one family say nothing about another.

    In proportion to the error s of the log evidence of a family over paths of the surrogate, times the probability that
    it could have: p e^(3 s), at most 1. For small errors this is what it adds to the errors of probabilities.

    Args:
        view: A view with draws of all families.
        t: Candidates, with shape (m, d).
        n: Points.

    Returns:
        For each family that gets points: the rows of its candidates, its number of points, and the number of parameters
        that act.
    """
    levels, model = levels_of(view), mixed_model(view.model)
    level, rng = levels.index(view.draws.posterior), view.rng("shares")
    parts = []
    for family in [one for one in levels.families if len(one.columns)]:  # the others are known
        mine = view.draws.posterior[np.isin(level, family.members)]
        rows = np.flatnonzero(np.isin(levels.index(t), family.members))
        if len(mine) and len(rows):
            some = mine[rng.permutation(len(mine))[:_POINTS]]
            paths = logsumexp(np.maximum(model.deviations(some, _PATHS, rng), _NEVER), axis=1)
            sd = float(paths.std())
            highest = np.exp(min(np.log(len(mine) / len(level)) + _SDS * sd, 0.0))
            parts.append((rows, highest * sd, len(family.columns)))
    error = np.array([each for _, each, _ in parts])
    exact = n * error / error.sum() if error.sum() > 0.0 else np.full(len(parts), n / len(parts))
    count = np.floor(exact).astype(int)
    count[np.argsort(count - exact, kind="stable")[: n - count.sum()]] += 1
    return [(rows, int(k), d) for (rows, _, d), k in zip(parts, count, strict=True) if k]


def _size(setup: Setup, family: Family, last: Family | None) -> int:
    """Number of first points of a family: that of a separate run, or fewer if they are draws of another family."""
    least = max(len(family.members), len(family.columns) + _SPARE)
    if not len(family.columns):
        return least
    if last is not None and len(np.intersect1d(last.columns, family.columns)):
        return max(least, _PER_PARAMETER * len(family.columns) + _SPARE)
    return max(least, design_size(with_parameters(setup, family.columns)))
