"""Exchanges of parameters with the same prior, under which a likelihood may be symmetric.

Components of a mixture, lines of a spectrum and terms of a sum can be exchanged. Such an exchange is *proven* once
points and their images have the same value.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.spatial import cKDTree

from surrogate.arrays import Array, Indices
from surrogate.problem.dataset import Dataset
from surrogate.problem.prior import Prior

__all__ = [
    "APART",
    "LARGEST",
    "PAIRS",
    "agreeing_pairs",
    "equal_priors",
    "exchanges",
    "of_prior",
    "products",
    "proven",
    "with_image",
]


LARGEST = 120
"""Largest number of orders that proven exchanges may make one after the other: those of five components."""
PAIRS = 2
"""Number of points whose images must have the same value."""

APART = 0.02
"""Distance in units of the prior from which a point and its image tell something."""

_PROBABILITIES = (0.01, 0.3, 0.7, 0.99)  # probabilities at which the quantiles of equal priors agree
_SAME = 1e-9  # of the prior: distance up to which an evaluated point is an image
_EQUAL, _ROUNDING = 1e-6, 1e-10  # nats, and share of a value, by which equal values may differ
_AS_GROUP = 720  # orders that are listed: those of six components


def of_prior(prior: Prior, *, periodic: bool = True) -> Indices:
    """Exchanges under which a likelihood with this prior may be symmetric, with shape (k, d).

    There are none with categories or integers, nor of parameters in a required order.

    Args:
        prior: The prior.
        periodic: Whether to exchange periodic parameters, too.
    """
    if prior.levels is not None:
        return np.empty((0, prior.d), dtype=np.int64)
    barred = {int(column) for columns in prior.orders for column in columns}
    barred |= set() if periodic else set(np.flatnonzero(prior.periodic).tolist())
    groups = [np.array([j for j in group if j not in barred], dtype=np.int64) for group in equal_priors(prior)]
    return exchanges(groups, prior.d)


def with_image(t: Array, move: Indices) -> tuple[Indices, Indices]:
    """Rows of the points t, with shape (n, d), whose image is another one of them, and the rows of these images."""
    if not len(t):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    away, other = cKDTree(t).query(t[:, move], distance_upper_bound=_SAME)
    rows = np.flatnonzero(np.isfinite(away) & (np.abs(t - t[:, move]).max(1) > APART))
    return rows, other[rows]


def agreeing_pairs(data: Dataset, t: Array, move: Indices, depth: float) -> int:
    """Number of points whose images under an exchange were evaluated too, with the same value; -1 if one differs.

    Points below a depth do not count, because a likelihood may be constant there, nor those near their
    images.

    Args:
        data: Evaluated points.
        t: Their unit coordinates, with shape (n, d).
        move: Permutation of the parameters, its own inverse, with shape (d,).
        depth: That depth, in nats.
    """
    rows, other = with_image(t, move)
    y = np.where(data.finite, data.y, -np.inf)
    seen = np.maximum(y[rows], y[other]) > data.y_max - depth
    rows, other = rows[seen], other[seen]
    equal = np.abs(y[rows] - y[other]) <= _EQUAL + _ROUNDING * np.abs(y[rows])
    return len(np.unique(np.sort(np.stack([rows, other], 1), 1), axis=0)) if equal.all() else -1


def proven(data: Dataset, t: Array, moves: Indices, depth: float) -> Indices:
    """All orders that proven exchanges make, the given one first, with shape (k, d); that one alone if none is proven.

    None is by noisy values, nor with derivatives, of which a surrogate with a symmetry makes no use.

    Args:
        data: Evaluated points.
        t: Their unit coordinates, with shape (n, d).
        moves: Exchanges, with shape (m, d).
        depth: As `agreeing_pairs` takes it.
    """
    identity = np.arange(t.shape[1])[None]
    if not len(moves) or data.noise.any() or data.has_gradients or not data.finite.any():
        return identity
    counts = np.array([agreeing_pairs(data, t, move, depth) for move in moves])
    if counts[counts > 0].sum() < PAIRS:
        return identity
    orders = products(moves[counts > 0])
    orders = orders[(orders != identity).any(1)]
    return np.concatenate([identity, orders]) if len(orders) < LARGEST else identity


def products(moves: Indices, most: int = _AS_GROUP) -> Indices:
    """All permutations that moves, with shape (k, d), make one after the other, with shape (m, d), at most ``most``."""
    if not len(moves):
        return moves
    known = {tuple(map(int, move)): None for move in moves}
    queue = list(known)
    while queue and len(known) < most:
        last = queue.pop(0)
        for move in moves:
            new = tuple(int(last[i]) for i in move)
            if new not in known:
                known[new] = None
                queue.append(new)
    return np.array(list(known)[:most])


def equal_priors(prior: Prior) -> list[Indices]:
    """Groups of columns whose parameters have the same prior."""
    quantiles = prior.quantile(np.array(_PROBABILITIES)[:, None] * np.ones((len(_PROBABILITIES), prior.d)))
    return [np.flatnonzero((quantiles == column).all(0)) for column in np.unique(quantiles, axis=1).T[:, :, None]]


def exchanges(groups: Sequence[Indices], d: int) -> Indices:
    """Permutations of d parameters under which a likelihood may be symmetric, with shape (k, d).

    Components of a mixture, lines of a spectrum and terms of a sum can be exchanged; their parameters form groups of
    equal priors. The permutations are, in this order,

    - exchanges of two members, the same ones in all groups at once, as for lines with a place and a width each;
    - exchanges within a group of several kinds of parameters: of its halves, and of neighbours in all pairs at once;
    - exchanges of single pairs.

    Args:
        groups: Groups of columns whose parameters have the same prior, in order.
        d: Number of parameters.
    """
    groups = [group for group in groups if len(group) > 1]
    moves = [*_of_all_groups(groups), *(move for group in groups for move in _of_blocks(group))]
    moves += [[pair] for group in groups for pair in combinations(group, 2)]
    out = np.tile(np.arange(d), (len(moves), 1))
    for row, pairs in zip(out, moves, strict=True):
        for i, j in pairs:
            row[[i, j]] = row[[j, i]]
    return out


def _of_all_groups(groups: Sequence[Indices]) -> list[list[tuple[int, int]]]:
    """The same two members in all groups, where there are several of one size."""
    sizes = {len(group) for group in groups}
    if len(groups) < 2 or len(sizes) > 1:
        return []
    return [[(group[i], group[j]) for group in groups] for i, j in combinations(range(sizes.pop()), 2)]


def _of_blocks(group: Indices) -> list[list[tuple[int, int]]]:
    """The halves of a group, and its neighbours in pairs, if it has an even number of members, four or more."""
    half, odd = divmod(len(group), 2)
    if half < 2 or odd:
        return []
    halves = [(group[i], group[half + i]) for i in range(half)]
    return [halves, [(group[2 * i], group[2 * i + 1]) for i in range(half)]]
