"""Hidden modes: the probability that a further mode was missed, and where to look for it.

A hypothesis is a Gaussian mode in the prior with a uniform centre, widths equal to those of the known modes within a
factor of a few, and between 5 % and 95 % of the mass. An evaluated point *excludes* a hypothesis under which the
log-likelihood there would be clearly higher than observed. The share of hypotheses that no point excludes measures how
much room the evaluations leave for a further mode. The best next point is that which would exclude most hypotheses if
the surrogate is right there.

A deep point excludes modes of typical width in a large region around it. In few dimensions few evaluations therefore
leave little room, whereas narrow modes in many dimensions cannot be excluded at any affordable cost. The search stops
when another point would gain too little, and reports the remaining probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse.csgraph import connected_components

from surrogate.arrays import Array, Flags, Indices
from surrogate.inference.hypothesis_space import STRAIGHT, HypothesisSpace
from surrogate.samplers.mixture import Mixture

__all__ = [
    "BENT_FROM",
    "EXPECTED_SHIFT",
    "GAINS",
    "REACH",
    "REFUSED",
    "Hypotheses",
    "Known",
    "best_point",
    "best_points",
    "count_modes",
    "check_effort",
    "draw_hypotheses",
    "hidden_probability",
    "is_refused",
    "is_worth",
    "least_gain",
    "modes_of",
    "tolerance",
]

GAINS = {"fast": 0.03, "normal": 0.008, "thorough": 0.00025}
"""Smallest reduction of a hidden mode's probability for which an evaluation is worth its cost, by effort."""

LIMITS = {"fast": 0.1, "normal": 0.03, "thorough": 0.005}
"""Probability of a hidden mode, by effort, down to which a run goes on unless one Gaussian explains all values."""
REFUSED = {"fast": 1.0, "normal": 0.1, "thorough": 0.05}
"""Probability of a hidden mode, by effort, above which a run that knows several modes does not claim convergence."""
_EXACT_MODES = {"fast": 0.0, "normal": 0.02, "thorough": 0.0}
"""What is added to this limit where several Gaussians explain all values.

Two modes in four dimensions are then known after some 60 evaluations; to go from 5 to 3 % took as many again.
"""
_AFFORDABLE = {"fast": 0.3, "normal": 0.3, "thorough": 3.0}
"""Share of the evaluations so far that reaching the limit may seem to take.

With 100 evaluations in place of 0.3 of those so far, a skewed posterior of four parameters took 181 instead of 27, and
four modes in a plane 71 instead of 46.
"""
_TO_SPARE = {"fast": (0, 0), "normal": (2, 2), "thorough": (2, 2)}
"""Evaluations per parameter, and in addition, that Gaussians may take beyond their coefficients.

With "normal" they are about 15 % more than its claim takes without them.
"""
_ONE_MODE, _SEVERAL_MODES, _POLYNOMIALS = 0.3, 0.5, 0.1
"""Prior probability of a further mode if one is known, or several; and if polynomials describe all outputs.

The first is that of the random posteriors of scripts/generated, of which three in seven have several modes; real
posteriors with several modes are rarer.
"""

_LONG = 50  # number of evaluations beyond which the cost of another one is measured relative to it,
_LEAST = 0.5  # but the gain is at least this share of `GAINS`: otherwise a thorough search would take hundreds more

SMALLEST_SHARE = 0.05
"""Share of the mass above which a mode matters."""
WIDTH_SD = 0.4
"""Sd of the log of a factor common to all widths of a hidden mode, relative to the known modes: a factor of 1.5."""
AXIS_SD = 0.5
"""Sd of the log of a further factor for each axis. Mixtures with random widths over a factor of five have 0.65."""
NEARBY_SHARE = 0.5
"""Share of the hypotheses near the known modes, because modes often overlap; they then look like shoulders."""
NEARBY = 4.0
"""Sd of the distance of these centres, in widths of a known mode: from overlapping modes to separate ones."""
SLACK, RELATIVE_SLACK = 1.0, 0.1
"""Tolerances: a hypothesis is excluded if it exceeds an observed value by 1 nat plus a tenth of the depth, or the share
`tolerance` of it, because modes are not exactly Gaussian, especially in their tails."""
BENT_FROM = 3
"""Number of parameters from which bent modes escape the hypotheses, so that their probability is stated too low."""
REACH = 8.0
"""Largest distance in sds at which a value excludes a hypothesis where modes are not Gaussian.

Farther out a mode's tail is not known: four modes that were missed would have been excluded at 10 to 30 sds by up to
350 nats, and a probability of 1 to 2 % was stated. With this limit it was 9 to 20 %. Runs on three bent modes without
another one took 41, 31 and 44 evaluations instead of 59, 33 and 44.
"""
_MOST_SLACK = 0.5  # share of the depth that is tolerated at most
_LEAST_DEPTH = 3.0  # nats; what a Gaussian exceeds by within this depth is not a matter of its tails
EXPECTED_SHIFT = 0.89
"""Mean increase of the log evidence by a hidden mode: -log(1 - s), averaged over shares s from 5 to 95 %."""
_VALLEY = 1.0 / 3.0
_BLOCK = 2_000_000  # distances held in memory at once
_ROUNDING = 1e-3  # largest rounding error of a squared distance in units of the widths; exclusions tolerate a nat


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Hypothetical further modes, each a Gaussian with independent axes in the coordinates of ``space``.

    All methods take points t in unit coordinates.

    Attributes:
        centres: Centres, in the coordinates of ``space``, with shape (h, d).
        widths: Standard deviations along the axes, with shape (h, d).
        peaks: Log-likelihoods at the centres relative to the best known value, with shape (h,).
        open: Whether each hypothesis is not excluded by any evaluation, with shape (h,).
        period: Length of a turn of each coordinate, with shape (d,), infinite where it is not periodic; None if no
            coordinate is periodic.
        seen_at: A feasible point t of each, with shape (h, d); the centre if None.
        slack: Share of the depth by which a hypothesis may exceed an observed value, see `tolerance`.
        reach: Largest distance from its centre, in sds, at which an evaluation may exclude a hypothesis.
        space: The coordinates in which the hypotheses are Gaussians.
    """

    centres: Array
    widths: Array
    peaks: Array
    open: Flags
    period: Array | None = None
    seen_at: Array | None = None
    slack: float = RELATIVE_SLACK
    reach: float = np.inf
    space: HypothesisSpace = STRAIGHT

    @property
    def candidates(self) -> Array:
        """Points of the open hypotheses at which an evaluation may see them, with shape (number open, d)."""
        return self.space.inverse(self.centres[self.open]) if self.seen_at is None else self.seen_at[self.open]

    @property
    def share_open(self) -> float:
        """Share of the hypotheses that are open."""
        return float(self.open.mean())

    def log_likelihood(self, t: Array) -> Array:
        """Log-likelihood of each open hypothesis at points t with shape (m, d), relative to the best known value.

        On a circle the shorter way round counts.

        Returns:
            Log-likelihoods, with shape (number open, m), in O(h m d); by a product of matrices unless some modes are
            so narrow that its rounding would matter.
        """
        centres, widths, t = self.centres[self.open], self.widths[self.open], self.space.forward(t)
        turns = self.period is not None and bool(np.isfinite(self.period).any())
        if turns or _rounding(centres, widths, t) > _ROUNDING:
            square = self._square_by_axes(centres, widths, t)
        else:
            square = _square_by_product(centres, widths, t)
        return self.peaks[self.open, None] - 0.5 * square

    def _square_by_axes(self, centres: Array, widths: Array, t: Array) -> Array:
        """Squared distances in units of the widths, with shape (h, m), one coordinate after the other."""
        square = np.zeros((len(centres), len(t)))
        for axis in range(t.shape[1]):
            distance = t[:, axis] - centres[:, axis, None]
            if self.period is not None and np.isfinite(self.period[axis]):
                distance -= self.period[axis] * np.round(distance / self.period[axis])
            square += (distance / widths[:, axis, None]) ** 2
        return square

    def excluded(self, t: Array, depth: Array) -> Flags:
        """Whether a value of some depth at points t would exclude each open hypothesis, with shape (number open, m)."""
        value = self.log_likelihood(t)
        tail = self.peaks[self.open, None] - 0.5 * self.reach**2
        return np.asarray((value > _limit(depth, self.slack)) & (value > tail))

    def exclude(self, t: Array, depth: Array) -> Hypotheses:
        """The hypotheses after evaluations at t, which may exclude some.

        Args:
            t: Evaluated points.
            depth: Depth of each value below the best one, with shape (n,). Infinite depths exclude nothing, because an
                infeasible region may cut a mode.
        """
        finite = np.isfinite(depth)
        t, depth = t[finite], depth[finite]
        still_open = self.open.copy()
        index = np.flatnonzero(still_open)
        for rows in np.array_split(index, max(1, len(index) * len(t) // _BLOCK)):
            part = np.zeros_like(self.open)
            part[rows] = True
            still_open[rows] = ~replace(self, open=part).excluded(t, depth).any(1)
        return replace(self, open=still_open)


def _square_by_product(centres: Array, widths: Array, t: Array) -> Array:
    """Squared distances in units of the widths, with shape (h, m), by one product of matrices."""
    weights = widths**-2.0
    left = np.concatenate([weights, -2.0 * centres * weights, (centres**2 * weights).sum(1, keepdims=True)], 1)
    return left @ np.concatenate([t**2, t, np.ones((len(t), 1))], 1).T


def _rounding(centres: Array, widths: Array, t: Array) -> float:
    """Bound on the rounding errors of ``_square_by_product``."""
    if not centres.size or not t.size:
        return 0.0
    reach = np.abs(centres).max(0) + np.abs(t).max(0)
    return float(np.finfo(float).eps * t.shape[1] * ((reach / widths.min(0)) ** 2).sum())


def draw_hypotheses(
    known: Mixture,
    log_integral: float,
    depth: Callable[[Array], Array],
    support: tuple[Array, Array],
    rng: np.random.Generator,
    *,
    period: Array | None = None,
    slack: float = RELATIVE_SLACK,
    reach: float = np.inf,
    space: HypothesisSpace = STRAIGHT,
    count: int = 4000,
) -> Hypotheses:
    """Random hypotheses about a further mode, open where the surrogate is clearly below their peaks.

    Args:
        known: Gaussian components of the known posterior, in the coordinates of ``space``.
        log_integral: Log integral of the known posterior over unit coordinates, relative to the best value.
        depth: Function that gives the predicted depth below the best value at points with shape (m, d); infinite where
            infeasibility is predicted; a mode with its centre there counts by the share of it that is feasible.
        support: Lower and upper corner of the box in which a mode may lie, each with shape (d,).
        rng: Random numbers.
        period: As `Hypotheses` has it.
        slack: Likewise.
        reach: Likewise.
        space: The coordinates in which further modes are Gaussians.
        count: Number of hypotheses.
    """
    t = _draw_centres(known, support, rng, count, space)
    widths, peaks = _draw_shapes(known, log_integral, rng, t.shape)
    peaks -= space.log_volume(t)
    opened = np.ones(count, dtype=bool)
    drawn = Hypotheses(space.forward(t), widths, peaks, opened, period, slack=slack, reach=reach, space=space)
    return _feasible_ones(replace(drawn, seen_at=t), depth, support, rng)


def _feasible_ones(
    drawn: Hypotheses, depth: Callable[[Array], Array], support: tuple[Array, Array], rng: np.random.Generator
) -> Hypotheses:
    """The hypotheses, open where a point of each is feasible and clearly higher than the surrogate there.

    The point is the centre or, where infeasibility is predicted, one draw of the mode, of which the border may leave a
    part.
    """
    centres = drawn.centres if drawn.seen_at is None else drawn.seen_at
    deep, low = depth(centres), np.zeros(len(drawn.open))
    cut = ~np.isfinite(deep)
    z = rng.standard_normal(drawn.centres.shape)
    seen_at = centres.copy()
    seen_at[cut] = drawn.space.inverse(drawn.centres[cut] + drawn.widths[cut] * z[cut])
    inside = ((seen_at >= support[0]) & (seen_at <= support[1])).all(1)
    low[cut] = 0.5 * (z[cut] ** 2).sum(1)
    if cut.any():
        deep[cut] = depth(np.clip(np.nan_to_num(seen_at[cut]), *support))
    higher = drawn.peaks - low > _limit(deep, RELATIVE_SLACK)
    return replace(drawn, seen_at=seen_at, open=drawn.open & inside & np.isfinite(deep) & higher)


def _draw_shapes(
    known: Mixture, log_integral: float, rng: np.random.Generator, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Widths with shape (count, d), and peaks with shape (count,) relative to the best known value."""
    count, d = shape
    typical = known.weights @ np.array([np.log(np.abs(np.diag(factor))).mean() for factor in known.factors])
    log_widths = typical + WIDTH_SD * rng.standard_normal((count, 1)) + AXIS_SD * rng.standard_normal((count, d))
    share = rng.uniform(SMALLEST_SHARE, 1.0 - SMALLEST_SHARE, count)
    log_mass = log_integral + np.log(share / (1.0 - share))
    return np.exp(log_widths), log_mass - 0.5 * d * np.log(2.0 * np.pi) - log_widths.sum(1)


def _draw_centres(
    known: Mixture, support: tuple[Array, Array], rng: np.random.Generator, count: int, space: HypothesisSpace
) -> Array:
    """Centres t with shape (count, d): a share `NEARBY_SHARE` about the known modes, others anywhere in the support.

    If ``space`` differs from unit coordinates, half of the others are uniform in its coordinates: a narrow strip of the
    support next to the end of a logarithm may take up half of their range.
    """
    low, high = support
    centres = low + (high - low) * rng.random((count, len(low)))
    nearby = int(NEARBY_SHARE * count)
    drawn = [known.widened(NEARBY).sample(nearby, rng)]
    if not space.is_straight:
        z = space.forward(centres)
        least, most = z.min(0), z.max(0)
        drawn.append(least + (most - least) * rng.random(((count - nearby) // 2, len(low))))
    t = space.inverse(np.concatenate(drawn))
    inside = np.flatnonzero(((t >= low) & (t <= high)).all(1))
    centres[inside] = t[inside]
    return centres


def _limit(depth: Array, slack: float) -> Array:
    """Highest log-likelihood of a hypothesis at points of this depth, with the same shape; -inf where infeasible."""
    return np.where(np.isfinite(depth), SLACK - (1.0 - slack) * depth, -np.inf)


def tolerance(known: Mixture, log_integral: float, t: Array, depth: Array) -> float:
    """Share of the depth by which a hypothesis may exceed an observed value: what would not exclude the known modes.

    A bent mode lies far below the tail of the Gaussian that describes its middle. Where the known modes are bent a
    further one may be, too. At two false claims beside bent modes 1.5 % of the Gaussian hypotheses were open, but 8 and
    11 % of bent ones.

    Args:
        known: As `draw_hypotheses` takes it.
        log_integral: Likewise.
        t: Evaluated points with finite values, with shape (n, d).
        depth: Their depths below the best value, with shape (n,).

    Returns:
        A share from 0.1 to 0.5.
    """
    d = t.shape[1]
    needed = [RELATIVE_SLACK]
    for weight, mean, factor in zip(known.weights, known.means, known.factors, strict=True):
        if weight >= SMALLEST_SHARE:
            square = (np.linalg.solve(factor, (t - mean).T) ** 2).sum(0)
            peak = log_integral + np.log(weight) - 0.5 * d * np.log(2.0 * np.pi)
            peak -= np.log(np.abs(np.diag(factor))).sum()
            excess = peak - 0.5 * square + depth - SLACK
            needed.append(float((excess / np.maximum(depth, _LEAST_DEPTH)).max(initial=0.0)))
    return min(max(needed), _MOST_SLACK)


def modes_of(known: Mixture) -> Indices:
    """The mode, counted from 0, to which each component of a Gaussian mixture belongs, with shape (k,).

    Two components belong to one mode if the density half-way between their means is above a third of the lower of the
    densities at the two means. A chain of such pairs, along an arm or a ring, is one mode too.
    """
    k = len(known.weights)
    middle = 0.5 * (known.means[:, None] + known.means[None]).reshape(k * k, -1)
    at_means, between = known.log_density(known.means), known.log_density(middle).reshape(k, k)
    joined = between > np.minimum(at_means[:, None], at_means[None]) + np.log(_VALLEY)
    return np.asarray(connected_components(joined, directed=False)[1], dtype=np.int64)


def count_modes(known: Mixture) -> int:
    """Number of modes of a Gaussian mixture, as `modes_of` has them."""
    return int(modes_of(known).max()) + 1


def best_point(
    hypotheses: Hypotheses,
    depth: Callable[[Array], Array],
    rng: np.random.Generator,
    *,
    candidates: int = 300,
) -> tuple[Array, float]:
    """The point that would exclude most open hypotheses if the surrogate is right, and the share excluded.

    Candidates are points of open hypotheses, mostly their centres. O(h m d) for m candidates.

    Args:
        hypotheses: The hypotheses.
        depth: Function that gives the predicted depth at points with shape (m, d); infinite at points predicted
            infeasible, which are not worth an evaluation.
        rng: Random numbers.
        candidates: Number of candidates.

    Returns:
        The point, with shape (1, d), or (0, d) if there is none, and the share of all hypotheses that it would exclude.
    """
    t = rng.permutation(hypotheses.candidates)[:candidates]
    predicted = depth(t)
    t, predicted = t[np.isfinite(predicted)], predicted[np.isfinite(predicted)]
    if len(t) == 0:
        return t, 0.0
    excluded = hypotheses.excluded(t, predicted).sum(0)
    best = int(excluded.argmax())
    return t[best : best + 1], float(excluded[best]) / len(hypotheses.open)


def best_points(
    hypotheses: Hypotheses, depth: Callable[[Array], Array], rng: np.random.Generator, count: int
) -> tuple[Array, Hypotheses]:
    """The best points one after the other, and the hypotheses that they would leave open.

    Args:
        hypotheses: Hypotheses, some of which may be open.
        depth: As `best_point` takes it.
        rng: Random numbers.
        count: Number of points, fewer if nothing is left to exclude.
    """
    points = [hypotheses.centres[:0]]
    for _ in range(count):
        point, share = best_point(hypotheses, depth, rng)
        if share == 0.0:
            break
        points.append(point)
        hypotheses = hypotheses.exclude(point, depth(point))
    return np.concatenate(points), hypotheses


def check_effort(effort: str) -> str:
    """The effort, after checking that it is one of `GAINS`.

    Raises:
        ValueError: If it is not.
    """
    if effort not in GAINS:
        msg = f"explore must be one of {', '.join(map(repr, GAINS))}, got {effort!r}"
        raise ValueError(msg)
    return effort


def least_gain(effort: str, evaluations: int) -> float:
    """Smallest reduction of a hidden mode's probability that justifies another evaluation.

    >>> [least_gain("normal", n) for n in (20, 75, 500)]
    [0.008, 0.005333333333333333, 0.004]
    """
    return GAINS[effort] * min(1.0, max(_LEAST, _LONG / evaluations))


@dataclass(frozen=True)
class Known:
    """What is known of a posterior when further modes are looked for.

    Attributes:
        d: Number of parameters.
        modes: Number of modes.
        coefficients: Number of coefficients of a sum of Gaussians that explains all evaluations, so that none of them
            speaks for a further mode; 0 if none does.
        polynomial: Whether polynomials describe all outputs of a simulator: no evaluation could tell more.
        numbers: Numbers that an evaluation gives: d + 1 with gradients.
    """

    d: int
    modes: int
    coefficients: int = 0
    polynomial: bool = False
    numbers: int = 1

    @property
    def prior(self) -> float:
        """Prior probability of a further mode."""
        if self.polynomial:
            return _POLYNOMIALS
        return _ONE_MODE if self.modes == 1 else _SEVERAL_MODES


def is_refused(probability: float, known: Known, effort: str) -> bool:
    """Whether a hidden mode is too probable for a claim of convergence; NaN is not.

    If one mode is known, the probability reflects little more than its prior where parameters are many.
    """
    return known.modes > 1 and probability > REFUSED[effort]


def is_worth(gain: float, probability: float, known: Known, effort: str, evaluations: int) -> bool:
    """Whether another evaluation in search of a hidden mode is worth its cost.

    Args:
        gain: By how much it would lower the probability of a hidden mode.
        probability: That probability now.
        known: What is known of the posterior.
        effort: One of `GAINS`.
        evaluations: Number of evaluations so far.

    >>> [is_worth(0.002, 0.05, known, "normal", 40) for known in (Known(3, 1), Known(3, 1, coefficients=10))]
    [True, False]
    """
    if gain <= 0.0 or known.polynomial:
        return False
    if gain >= least_gain(effort, evaluations):
        return True
    if known.coefficients:
        per_parameter, more = _TO_SPARE[effort]
        early = evaluations * known.numbers < known.coefficients + per_parameter * known.d + more
        if early or known.modes == 1:
            return early
    excess = probability - LIMITS[effort] - (_EXACT_MODES[effort] if known.coefficients else 0.0)
    return 0.0 < excess < _AFFORDABLE[effort] * evaluations * gain or is_refused(probability, known, effort)


def hidden_probability(share_open: float, prior: float) -> float:
    """Probability of a hidden mode with at least 5 % of the mass, by Bayes' theorem.

    Args:
        share_open: Share of the hypotheses that the evaluations do not exclude.
        prior: Prior probability of a mode besides the known ones.

    >>> round(hidden_probability(0.1, 0.5), 3)
    0.091
    """
    return prior * share_open / (1.0 - prior + prior * share_open)
