"""Check whether the likelihood is symmetric in parameters with the same prior."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.inference.checks.check import SEARCH
from surrogate.inference.depths import bulk_depth
from surrogate.inference.findings import Finding
from surrogate.inference.setup import holes_to_fill
from surrogate.inference.view import View
from surrogate.problem.exchanges import agreeing_pairs, equal_priors, exchanges, products

__all__ = ["Exchanges", "refuted"]


_FEWEST = 2  # images tried even if no holes are to be filled
_MOST = 24  # images of a likelihood known to be symmetric, in one round: all orders of four components
_EQUAL = 0.3  # nats by which heights of images may differ, because the surrogate of a symmetric likelihood has errors


class Exchanges:
    """Requests images of the best point under exchanges of parameters with equal priors, where the surrogate is low.

    Once an image proves to be as high as the best point, the likelihood is symmetric, and all images under such
    exchanges one after the other are requested in any round: three components have six modes, of which single exchanges
    of one reach three. A surrogate that follows the symmetry is as high there, and none is requested. Exchanges under
    which two values are known to differ are not tried again.
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
        low = (depth > bulk_depth(view.d)) & ~refuted(view, moves)
        tried = np.zeros(len(images), dtype=bool)
        if not view.state.explored:
            tried[np.flatnonzero(low)[: max(holes_to_fill(view.setup), _FEWEST)]] = True
        others, depth = _images(view, products(moves[np.abs(depth) < _EQUAL]))
        others = others[depth > bulk_depth(view.d)][:_MOST]
        return Finding(np.unique(np.concatenate([others, images[tried]]), axis=0) if len(others) else images[tried])


def refuted(view: View, moves: Indices) -> Flags:
    """Mask of the exchanges under which a point and its image have different values, one of them in the bulk."""
    pairs = [agreeing_pairs(view.state.data, view.t, move, bulk_depth(view.d)) for move in moves]
    return np.array(pairs, dtype=np.int64) < 0


def _images(view: View, moves: Indices) -> tuple[Array, Array]:
    """Images of the best point, with shape (k, d), and how far the surrogate is there below that point.

    An image whose parameters are not in a required order is infinitely high: nothing is to be learned there.
    """
    data, model = view.state.data, view.model
    best = data.x[np.argmax(np.where(data.finite, data.y, -np.inf))]
    t = view.setup.scaled.to_unit(best[moves])
    top = float(model.smooth(view.setup.scaled.to_unit(best[None]))[0])
    return t, np.where(view.setup.prior.in_order(best[moves]), top - model.smooth(t), -np.inf)
