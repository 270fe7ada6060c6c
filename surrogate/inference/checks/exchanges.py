"""Check whether the likelihood is symmetric in parameters with the same prior."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.inference.checks.check import SEARCH
from surrogate.inference.depths import bulk_depth
from surrogate.inference.findings import Finding
from surrogate.inference.setup import holes_to_fill
from surrogate.inference.view import View
from surrogate.problem.prior import Prior

__all__ = ["Exchanges", "equal_priors", "exchanges", "products"]


_FEWEST = 2  # images tried even if no holes are to be filled
_MOST = 24  # images of a likelihood known to be symmetric, in one round: all orders of four components
_EQUAL = 0.3  # nats by which heights of images may differ, because the surrogate of a symmetric likelihood has errors
_PROBABILITIES = (0.01, 0.3, 0.7, 0.99)  # probabilities at which the quantiles of equal priors agree


class Exchanges:
    """Requests images of the best point under exchanges of parameters with equal priors, where the surrogate is low.

    Once an image proves to be as high as the best point, the likelihood is symmetric, and all images under such
    exchanges one after the other are requested in any round: three components have six modes, of which single exchanges
    of one reach three.
    """

    name = "exchanges"
    phases = SEARCH
    columns: dict[str, float] = {}

    def look(self, view: View) -> Finding:
        """Requests images of the best point where the surrogate is low: a few at first, all once they prove equal."""
        if view.setup.knows_width:
            return Finding(view.nowhere)
        if view.learns_outputs and view.model.exact:  # polynomial outputs are known everywhere
            return Finding(view.nowhere)
        moves = exchanges(equal_priors(view.setup.prior), view.d)
        images, depth = _images(view, moves)
        low = depth > bulk_depth(view.d)
        tried = np.zeros(len(images), dtype=bool)
        if not view.state.explored:
            tried[np.flatnonzero(low)[: max(holes_to_fill(view.setup), _FEWEST)]] = True
        others, depth = _images(view, products(moves[np.abs(depth) < _EQUAL]))
        others = others[depth > bulk_depth(view.d)][:_MOST]
        return Finding(np.unique(np.concatenate([others, images[tried]]), axis=0) if len(others) else images[tried])


def _images(view: View, moves: Indices) -> tuple[Array, Array]:
    """Images of the best point, with shape (k, d), and how far the surrogate is there below that point.

    An image whose parameters are not in a required order is infinitely high: nothing is to be learned there.
    """
    data, model = view.state.data, view.model
    best = data.x[np.argmax(np.where(data.finite, data.y, -np.inf))]
    t = view.setup.scaled.to_unit(best[moves])
    top = float(model.smooth(view.setup.scaled.to_unit(best[None]))[0])
    return t, np.where(view.setup.prior.in_order(best[moves]), top - model.smooth(t), -np.inf)


def products(moves: Indices, most: int = 720) -> Indices:
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
