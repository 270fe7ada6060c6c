"""Scout for symmetries: images of good points under exchanges of parameters with the same prior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.inference.depths import bulk_depth, relevant_depth
from surrogate.inference.phases import LEARNING
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View
from surrogate.log_density.parameters import trend_size
from surrogate.problem.exchanges import APART, PAIRS, agreeing_pairs, with_image

__all__ = ["Images"]


_TRIED = 2  # exchanges that are tried, the first of which are those of whole components
_SPARE = 2  # values in excess of the coefficients of a quadratic, from which it could have turned out to be exact


class Images:
    """Proposes the image of the best point under one exchange after the other, and of a second one if it is as high.

    With two such pairs a symmetry is proven, and the surrogate follows it: equal modes become one, and a kink where
    two parameters are equal comes to lie on a border. Nothing is tried if polynomials explain all values.
    """

    name = "images"
    phases = LEARNING
    place = Place.EXTRA

    def points(self, view: View) -> Array:
        """One point; none once the first exchanges have been tried, and if one is proven all others."""
        data, t, moves = view.state.data, view.t, view.setup.moves
        enough = int(data.finite.sum()) >= trend_size(view.d) + _SPARE
        if not len(moves) or not enough or view.setup.knows_width:
            return view.nowhere
        pairs = np.array([agreeing_pairs(data, t, move, relevant_depth(view.d)) for move in moves])
        depth = np.where(data.finite, data.y_max - data.y, np.inf)
        if 0 < pairs[pairs > 0].sum() < PAIRS:
            point = _second(t, moves[pairs.argmax()], depth, bulk_depth(view.d))
        elif view.model.exact:
            return view.nowhere
        else:
            best = t[depth.argmin()]
            images = best[_open(moves, pairs, view.orders)]
            point = images[np.abs(images - best).max(1, initial=0.0) > APART][:1]
        return view.setup.scaled.not_among(point, view.under_way)


def _open(moves: Indices, pairs: Indices, orders: Indices) -> Indices:
    """The exchanges to try: the first ones; all that are not implied by proven ones, if there are any."""
    known = (moves[:, None] == orders[None]).all(-1).any(1)
    worth = np.arange(len(moves)) < (_TRIED if len(orders) == 1 else len(moves))
    return moves[worth & ~known & (pairs == 0)]


def _second(t: Array, move: Indices, depth: Array, deepest: float) -> Array:
    """The image of the deepest point of the bulk whose image is unknown, with shape (1, d), or (0, d) without one."""
    free = (np.abs(t - t[:, move]).max(1) > APART) & (depth < deepest)
    free[with_image(t, move)[0]] = False
    rows = np.flatnonzero(free)
    return t[rows[np.argsort(-depth[rows], kind="stable")[:1]]][:, move]
