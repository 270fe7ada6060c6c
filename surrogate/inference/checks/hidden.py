"""Check whether the evaluations leave room for a hidden mode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.checks.check import SEARCH
from surrogate.inference.findings import Finding
from surrogate.inference.hidden_modes import (
    BENT_FROM,
    REACH,
    RELATIVE_SLACK,
    Hypotheses,
    Known,
    best_point,
    count_modes,
    draw_hypotheses,
    hidden_probability,
    is_worth,
    tolerance,
)
from surrogate.inference.hypothesis_space import HypothesisSpace
from surrogate.inference.setup import inner_box
from surrogate.inference.trilateration import mixture_of
from surrogate.inference.view import View
from surrogate.log_density.parameters import trend_size
from surrogate.log_density.remainder import Remainder
from surrogate.samplers.mixture import Mixture

__all__ = ["Hidden", "hypotheses_of", "known_of", "predicted_depth", "rest_of", "worthwhile_point"]


_ROUND = 4  # points per round; later rounds profit from the results of earlier ones
_ROUND_PER_PARAMETER = 3  # points per round and parameter, if they are more, where many are needed


class Hidden:
    """Requests points as long as each lowers the probability of a hidden mode by enough.

    See `surrogate.inference.hidden_modes`. The remaining probability is part of the status of a run. It is not computed
    with a reference that has a width. The probability is then NaN and is not part of the status.
    """

    name = "hidden"
    phases = SEARCH
    columns = {"hidden": np.nan}

    def look(self, view: View) -> Finding:
        """Requests the points of a round, and reports the probability of a hidden mode before they are evaluated."""
        if view.setup.knows_width:
            return Finding(view.nowhere, numbers=self.columns)
        hypotheses, known = hypotheses_of(view)
        probability = hidden_probability(hypotheses.share_open, known.prior)
        return Finding(_points(view, hypotheses, known), numbers={"hidden": probability})


def _points(view: View, hypotheses: Hypotheses, known: Known) -> Array:
    """Points of a round, with shape (k, d), in addition to those of earlier checks."""
    depth, rng, points, n = predicted_depth(view), view.rng("hidden", "points"), [view.nowhere], len(view.state.data)
    for finding in view.findings.values():
        hypotheses, n = hypotheses.exclude(finding.points, depth(finding.points)), n + len(finding.points)
    for count in range(_ROUND if known.coefficients else max(_ROUND, _ROUND_PER_PARAMETER * view.d)):
        point = worthwhile_point(hypotheses, known, depth, rng, view.setup.explore, n + count)
        if not len(point):
            break
        points.append(point)
        hypotheses = hypotheses.exclude(point, depth(point))
    return np.concatenate(points)


def worthwhile_point(
    hypotheses: Hypotheses,
    known: Known,
    depth: Callable[[Array], Array],
    rng: np.random.Generator,
    effort: str,
    evaluations: int,
) -> Array:
    """The point of `best_point`, with shape (1, d), or (0, d) if it is not worth its cost by `is_worth`."""
    point, share = best_point(hypotheses, depth, rng)
    now = hidden_probability(hypotheses.share_open, known.prior)
    gain = now - hidden_probability(hypotheses.share_open - share, known.prior)
    return point if is_worth(gain, now, known, effort, evaluations) else point[:0]


def known_of(view: View) -> Known:
    """What is known of the posterior, which decides how long further modes are looked for."""
    modes, rest, one = view.once(_modes), rest_of(view), trend_size(view.d)
    coefficients = one if len(modes.weights) == 1 else 0
    if rest is not None and rest.coefficients > one:
        coefficients = rest.coefficients
    coefficients = coefficients if view.model.exact else 0
    numbers = view.d + 1 if view.setup.gradient else 1
    polynomial = view.learns_outputs and view.model.exact
    return Known(view.d, count_modes(modes), coefficients, polynomial, numbers)


def hypotheses_of(view: View) -> tuple[Hypotheses, Known]:
    """Hypotheses about a further mode, of which evaluations exclude some, and what is known of the posterior."""
    return view.once(_open_hypotheses), known_of(view)


def rest_of(view: View) -> Remainder | None:
    """What Gaussians leave of the finite values; None if none explain nearly all of them."""
    return view.once(_remainder)


def _remainder(view: View) -> Remainder | None:
    if bool((view.noise > 0.0).any()):
        return None
    finite = view.state.data.finite
    return view.model.remainder(view.t[finite], view.state.data.y[finite])


def _space(view: View) -> HypothesisSpace:
    """Coordinates in which further modes are taken to be Gaussians: those in which the known ones are, if found."""
    rest = rest_of(view)
    return HypothesisSpace.of(None if rest is None else rest.warp)


def _modes(view: View) -> Mixture:
    """Components of the posterior in these coordinates."""
    space = view.once(_space)
    if space.is_straight:
        return view.modes_in_one_order
    rng = view.rng("hidden", "modes")
    return mixture_of(space.forward(view.sample_equally(rng)), rng)


def _open_hypotheses(view: View) -> Hypotheses:
    data, rest, space = view.state.data, rest_of(view), view.once(_space)
    hypotheses = draw_hypotheses(
        view.known_modes if space.is_straight else view.once(_modes),
        _log_mass(view),
        _random_depth(view),
        inner_box(view.setup, view.window),
        view.rng("hidden"),
        period=_period(view),
        slack=_slack(view),
        reach=_reach(view),
        space=space,
    )
    depth = np.full(len(data), np.inf)
    depth[data.finite] = data.y_max - (data.y[data.finite] if rest is None else rest.log_likelihood)
    return hypotheses.exclude(view.images(view.t), np.tile(depth, len(view.orders)))


def _slack(view: View) -> float:
    """Share of the depth by which a value may lie below a further mode's Gaussian without excluding it.

    It is a tenth beside a single mode, which says little of others, and in a plane, where the points near a mode
    exclude it rather than those in its tails: with more a ring took 66 evaluations instead of 45, and four modes 68 and
    110 instead of 84 and 74, all right.
    """
    modes = view.modes_in_one_order
    if view.d < BENT_FROM or count_modes(modes) == 1 or not view.once(_space).is_straight:
        return RELATIVE_SLACK
    finite, data = view.state.data.finite, view.state.data
    t = view.images(view.window.unrolled(view.t)[finite])
    depth = np.tile((data.y_max - data.y)[finite], len(view.orders))
    return tolerance(modes, _log_mass(view), t, depth)


def _reach(view: View) -> float:
    """Largest distance in sds at which an evaluation may exclude a further mode.

    It is limited unless modes are Gaussian, or outputs are learned, which extrapolate better than their likelihood.
    """
    gaussian = bool(known_of(view).coefficients)
    return np.inf if view.d < BENT_FROM or gaussian or view.learns_outputs else REACH


def _log_mass(view: View) -> float:
    """Log integral of the likelihood over unit coordinates, relative to its best value.

    Of a symmetric likelihood it is that of one order of the parameters, because a further mode has images, each with
    its share of the mass. The mean log prior density at the draws is part of the evidence, but not of a peak of the
    likelihood.
    """
    prior = view.window.log_density(view.window.unrolled(view.draws.posterior)).mean()
    return view.sample.log_integral - float(prior) - np.log(len(view.orders))


def _period(view: View) -> Array | None:
    """Length of a turn of each coordinate, infinite where it is no circle; None if there are no circles."""
    turns = view.setup.scaled.turns
    if turns is None:
        return None
    period = np.full(view.d, np.inf)
    period[turns.columns] = turns.period
    return period


def predicted_depth(view: View) -> Callable[[Array], Array]:
    """Depth below the best value that the surrogate predicts; infinite where it predicts infeasibility.

    Where Gaussians explain nearly all values exactly, it is the depth at which a further mode would go unnoticed.
    """
    rest = rest_of(view)

    def depth(t: Array) -> Array:
        below = np.where(view.feasible(t), np.maximum(view.state.data.y_max - view.model.mean(t), 0.0), np.inf)
        return below if rest is None else below + rest.unseen(below)

    return depth


def _random_depth(view: View) -> Callable[[Array], Array]:
    """The same, infinite with the probability of being infeasible, so that doubtful regions count in part."""
    rng, model = view.rng("hidden", "feasible"), view.model

    def depth(t: Array) -> Array:
        feasible = rng.random(len(t)) < model.feasibility.probability(model.whiten(t))
        return np.where(feasible, np.maximum(view.state.data.y_max - model.mean(t), 0.0), np.inf)

    return depth
