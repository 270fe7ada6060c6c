"""The next batch: points of the design, or points of the scouts and those that reduce uncertainty most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.design import design
from surrogate.inference.mixed.families import awaited, is_staged
from surrogate.inference.mixed.search import family_design, shares
from surrogate.inference.paths import inflation
from surrogate.inference.phases import Phase
from surrogate.inference.scouts import Place, Scout
from surrogate.inference.setup import design_size
from surrogate.inference.view import View
from surrogate.selection.posterior import uncertain_batch

__all__ = ["assemble", "batch_size", "design_batch", "with_fast"]


_SEARCHING = 0.5  # weight of the log-posterior against the uncertainty during the search for a posterior
_MOST_CAUTIOUS = 10.0  # sds: one overlooked cliff must not stop the search for several batches
_ZETA_FROM = 2  # a single parameter has the weight of two, because with 1 most points fall on the top of heavy tails
_ZETA_POWER = -0.85  # exponent of the number of parameters in the weight of Gammal et al. (2023), arXiv:2211.02045
_NOISY = 0.1  # noise in nats above which a single value is uninformative
_NOISY_SHARE = (
    8  # with noise, a batch has an eighth of the known number of values, because few values would not be worth a fit
)
_FRONT = (Place.FIRST, Place.ALONE)


def design_batch(view: View) -> Array:
    """The next points x of the initial design, with shape (b, d)."""
    setup, data = view.setup, view.state.data
    if (family := awaited(setup, data)) is not None:
        return family_design(view, family)
    further = max(setup.d, setup.n_batch)
    if len(view.under_way):  # the rest of the initial design, or further points if none is left
        known = {x.tobytes() for x in (*data.x, *view.under_way)}
        initial = design(setup.prior, 0, design_size(setup), view.state.seed, reference=setup.reference)
        if rest := [x for x in initial if x.tobytes() not in known]:
            return np.array(rest)
        return design(setup.prior, len(known), further, view.state.seed, reference=setup.reference)
    n = further if len(data) else design_size(setup)
    best = data.x[np.argmax(np.where(data.finite, data.y, -np.inf))] if data.finite.any() else None
    return design(setup.prior, len(data), n, view.state.seed, best=best, reference=setup.reference)


def batch_size(view: View) -> int:
    """Number of points of the next batch that are chosen by a surrogate."""
    setup = view.setup
    if setup.batch_size is None and view.learns_outputs and view.model.exact:
        return 1  # nothing is left to learn, so one point is enough for confirmation
    noisy = setup.batch_size is None and bool((view.noise > _NOISY).any())
    share = int(view.state.data.finite.sum()) // _NOISY_SHARE
    return max(setup.n_batch, share) if noisy else setup.n_batch


def assemble(view: View, scouts: Sequence[Scout], n: int) -> Array:
    """The next batch of n points t, or more or fewer if scouts request it, with shape (b, d).

    If the trend of the surrogate describes all evaluations, points anywhere are equally informative. The points that
    checks request then replace those where the surrogate is least certain, and half of the batch that confirms a claim
    are still draws of the posterior. Points that are already evaluated, even those that failed, take no place.
    """
    setup, phase = view.setup, view.state.verdict.phase
    taken = np.concatenate([view.state.data.x, view.under_way])
    known = phase is Phase.EXPLORE and view.state.probes is not None  # the posterior, so that only probes are needed
    if not known and setup.batch_size is None:
        if len(points := _alone(view, scouts, taken)):
            return points
        scouts = [scout for scout in scouts if scout.place is not Place.ALONE]
    view = view.replace(batch=view.nowhere if known else _uncertain_draws(view, n))
    first = 0
    for scout in scouts:
        if phase in scout.phases and not (scout.place is Place.FILL and len(view.batch) >= n):
            points = setup.scaled.not_among(scout.points(view), taken)
            if phase is Phase.ARMED and scout.place is Place.EXTRA and view.model.exact:
                view = view.replace(batch=view.batch[: max(first, 1, len(view.batch) - len(points))])
            view = view.replace(batch=_place(view.batch, points, scout.place, first, n))
            first += len(points) if scout.place in _FRONT else 0
    return view.batch


def _alone(view: View, scouts: Sequence[Scout], taken: Array) -> Array:
    """The points of the first scout that asks for a batch of its own, with shape (k, d); none if there is none."""
    for scout in scouts:
        if scout.place is Place.ALONE and view.state.verdict.phase in scout.phases:
            points = view.setup.scaled.not_among(scout.points(view), taken)
            if len(points):
                return points
    return view.nowhere


def _place(chosen: Array, points: Array, place: Place, first: int, n: int) -> Array:
    """The batch with the points of a scout placed in it, after the ``first`` points of earlier scouts."""
    if place in _FRONT:
        kept = max(first, len(chosen) - len(points))
        return np.concatenate([chosen[:first], points, chosen[first:kept]])
    if place is Place.LAST:
        return np.concatenate([chosen[: max(0, len(chosen) - len(points))], points])
    return np.concatenate([chosen, points[: n - len(chosen)] if place is Place.FILL else points])


def _uncertain_draws(view: View, n: int) -> Array:
    """Draws at which the surrogate is most uncertain, given the points in flight; fewer than n if they are dependent.

    During the search for a posterior the first is the best point of which the surrogate is certain enough.
    """
    t = np.concatenate([view.draws.posterior[::2], view.draws.warm[::2]])
    if is_staged(view.setup) and view.model.temperature == 1.0:
        parts = [_least_sure(view, t[rows], count, d) for rows, count, d in shares(view, t, n)]
        return np.concatenate([view.nowhere, *parts])
    return _least_sure(view, t, n, view.d)


def _least_sure(view: View, t: Array, n: int, d: int) -> Array:
    """Up to n of the points t, with shape (m, e), at which the surrogate of d parameters is least sure."""
    setup, searching = view.setup, view.model.temperature > 1.0
    index = uncertain_batch(
        view.model,
        t,
        setup.scaled.log_density(t),
        min(n, len(t)),
        zeta=_SEARCHING if searching else max(d, _ZETA_FROM) ** _ZETA_POWER,
        caution=min(_MOST_CAUTIOUS, float(np.sqrt(inflation(view.errors(everywhere=True))))) if searching else None,
        pending=setup.scaled.to_unit(view.under_way),
        doubt=setup.switches.feasibility_doubt,
    )
    return t[index]


def with_fast(view: View, x: Array) -> Array:
    """The points x; if there are fast parameters, each is followed by further points with equal slow parameters."""
    setup, state = view.setup, view.state
    if setup.fast is None or not len(x):
        return x
    draws = x if state.draws is None else setup.scaled.from_unit(state.draws.posterior)
    return setup.fast.extended(x, draws, setup.prior, view.rng("fast"))
