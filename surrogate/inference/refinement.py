"""Maxima of a surrogate, in the whole space or on slices of it, confirmed and improved by true evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import minimize

from surrogate.arrays import Array
from surrogate.executors.blas import one_thread
from surrogate.inference.setup import Setup, marked
from surrogate.log_density.protocol import LogDensity
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.samplers.samples import Samples

__all__ = ["OBJECTIVES", "Peak", "Refinement", "Slice", "confirm"]


OBJECTIVES = ("posterior", "likelihood")
"""Names of the objectives."""

_DOUBT = 2.0
"""Standard deviations by which a nearby point may be better than predicted: 97.7 % of a normal."""
_IMPOSSIBLE = 0.05  # probability of being feasible below which a point is not considered
_REACH = 1.0  # posterior sds around a peak within which a better point is searched for before the peak is confirmed
_STARTS = 4  # number of distinct starts of the first ascent, from the best draws and evaluated points
_APART = 0.5  # smallest distance between distinct starts, in posterior sds
_MOST_DRAWS = 1000  # draws from which starts are chosen, and which define the coordinates of a refit
_STEP = 1e-3  # step of central differences in posterior sds: errors of 1e-6 in slopes of order one
_LOWEST = -1e10  # replaces -inf in an ascent, which needs finite differences
_STEPS = 200  # largest number of iterations of an ascent


@dataclass(frozen=True, eq=False)
class Slice:
    """The points at which some parameters have given values.

    Attributes:
        columns: Numbers of these parameters, with shape (k,); k may be 0.
        values: Their values in unit coordinates, with shape (k,).
    """

    columns: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    def placed(self, t: Array, covariance: Array) -> Array:
        """Points t, with shape (m, d), moved to the slice along the regression on the fixed parameters."""
        if not self.columns:
            return t
        c = list(self.columns)
        shift = np.asarray(self.values) - t[:, c]
        moved = t + shift @ np.linalg.lstsq(covariance[np.ix_(c, c)], covariance[c], rcond=None)[0]
        moved[:, c] = self.values
        return moved


@dataclass(frozen=True, eq=False)
class Peak:
    """Current knowledge of the highest point of a slice.

    Attributes:
        where: The slice.
        t: The best evaluated point in unit coordinates, with shape (d,), or the surrogate's maximum if none was
            evaluated.
        height: Value there, predicted if none was evaluated.
        top: Maximum of the surrogate, with shape (d,).
        predicted: Value of the surrogate there.
        evaluated: Whether a point of the slice was evaluated in this search.
        remaining: By how much a nearby point may be higher, including two standard deviations of the surrogate.
        next: Point to evaluate next, with shape (d,).
    """

    where: Slice
    t: Array
    height: float
    top: Array
    predicted: float
    evaluated: bool
    remaining: float
    next: Array

    def confirmed(self, tolerance: float) -> bool:
        """Whether the peak was evaluated and no nearby point may be better by more than the tolerance."""
        return self.evaluated and self.remaining <= tolerance


@dataclass(frozen=True, eq=False)
class Refinement:
    """A surrogate that learns from further evaluations, and the objective to maximise.

    Attributes:
        setup: Setup of the run.
        data: All evaluated points; those of the run come first.
        model: The surrogate given these.
        draws: Draws of the posterior in unit coordinates, with shape (m, d).
        of: "posterior" or "likelihood".
        n_run: Number of evaluations of the run.
    """

    setup: Setup
    data: Dataset
    model: LogDensity
    draws: Array
    of: str
    n_run: int

    @classmethod
    def of_run(cls, setup: Setup, model: LogDensity, data: Dataset, samples: Samples, of: str) -> Refinement:
        """The surrogate at the end of a run.

        Raises:
            ValueError: If ``of`` is not an objective.
        """
        if of not in OBJECTIVES:
            msg = f"of must be 'posterior' or 'likelihood', got {of!r}"
            raise ValueError(msg)
        likely = np.argsort(-samples.log_posterior, kind="stable")[: _MOST_DRAWS // 2]
        spread = np.linspace(0, len(samples.weights) - 1, min(_MOST_DRAWS, len(samples.weights))).astype(int)
        rows = np.unique(np.concatenate([likely, spread]))
        draws = setup.scaled.to_unit(samples.x[rows])
        return cls(setup, data, model, setup.scaled.about(draws).unrolled(draws), of, len(data))

    @cached_property
    def covariance(self) -> Array:
        """Covariance of the draws, with shape (d, d)."""
        return np.atleast_2d(np.cov(self.draws, rowvar=False)) + 1e-18 * np.eye(self.setup.d)

    @property
    def sd(self) -> Array:
        """Standard deviations of the draws, with shape (d,)."""
        return np.sqrt(np.diag(self.covariance))

    @cached_property
    def box(self) -> tuple[Array, Array]:
        """Corners of the support of the prior in unit coordinates; infinite for a periodic parameter."""
        low, high = self.setup.scaled.to_unit(self.setup.prior.bounds.T)
        turns = self.setup.prior.periodic
        return np.where(turns, -np.inf, low), np.where(turns, np.inf, high)

    def height(self, t: Array) -> Array:
        """The objective as predicted by the surrogate, with shape (m,), at t with shape (m, d)."""
        value = self.model.y_max + self.model.temperature * self.model.relative(t)
        return value + self.log_prior(t) if self.of == "posterior" else value

    def upper(self, t: Array) -> Array:
        """The predicted objective plus two standard deviations of the surrogate, with shape (m,).

        Points of uncertain feasibility count as feasible, because a maximum may lie at the edge of the feasible region.
        """
        probability = self.model.feasibility.probability(self.model.whiten(t))
        doubtful = (probability > _IMPOSSIBLE) & (probability < 1.0)
        back = np.where(doubtful, -np.log(np.where(doubtful, probability, 1.0)), 0.0)
        return self.height(t) + back + _DOUBT * self.model.predict(t)[1]

    def log_prior(self, t: Array) -> Array:
        """Log prior density of the parameters at t, with shape (m,)."""
        return self.setup.scaled.log_density_x(self.setup.scaled.from_unit(t))

    @cached_property
    def points(self) -> tuple[Array, Array]:
        """The points with finite values in unit coordinates, with shape (n, d), and their objectives, with shape (n,).

        Noisy values are replaced by the surrogate's mean, because the largest of many noisy values is biased upwards.
        """
        finite = self.data.finite
        scaled = self.setup.scaled.about(self.draws)
        t, y = scaled.unrolled(scaled.to_unit(self.data.x[finite])), self.data.y[finite]
        if self.noisy:
            return t, self.height(t)
        return t, y + self.log_prior(t) if self.of == "posterior" else y.copy()

    @property
    def noisy(self) -> bool:
        """Whether values have noise, declared or detected."""
        parameters: Any = getattr(self.model, "parameters", None)
        return bool((self.data.noise > 0).any()) or getattr(parameters, "noise", 0.0) > 0.0

    def told(self, t: Array, evaluations: list[Evaluation]) -> Refinement:
        """A copy with further evaluations at t with shape (b, d) and a refitted surrogate; O(n^3)."""
        setup = self.setup
        data = self.data.append(setup.scaled.from_unit(t), evaluations, int(self.data.step.max(initial=0)) + 1)
        data = marked(setup, data)
        before: Any = getattr(self.model, "parameters", None)
        problem = setup.problem(data, self.draws, 1.0)
        with one_thread():
            parameters = setup.learner.fit(problem, before, cold_start=False, search=False, noise=False)
            model = setup.learner.build(problem.data, problem.t, parameters, device=setup.device)
        return replace(self, data=data, model=model)

    def new(self, t: Array) -> Array:
        """The points t, with shape (b, d), without duplicates and points evaluated before."""
        known = {point.tobytes() for point in self.data.x}
        first = {x.tobytes(): row for x, row in zip(self.setup.scaled.from_unit(t), t, strict=True)}
        return np.array([row for key, row in first.items() if key not in known]).reshape(-1, t.shape[1])

    def peak(self, where: Slice, tolerance: float, start: Array | None = None) -> Peak:
        """The peak of a slice; the search also starts from ``start``, if given."""
        top = self._top(where, start)
        predicted = float(self.height(top[None])[0])
        t, heights = self._evaluated_on(where)
        if not len(t):
            return Peak(where, top, predicted, top, predicted, False, np.inf, top)
        best = int(np.argmax(heights))
        low, high = self.box
        reach = _REACH * self.sd
        beyond, bound = self._climb(self.upper, top, where, np.maximum(low, top - reach), np.minimum(high, top + reach))
        remaining = max(predicted, bound) - float(heights[best])
        following = top if predicted - heights[best] > 0.5 * tolerance else beyond
        return Peak(where, t[best], float(heights[best]), top, predicted, True, float(remaining), following)

    def _evaluated_on(self, where: Slice) -> tuple[Array, Array]:
        """Evaluated points on the slice and their objectives; for the whole space only those of this refinement."""
        t, heights = self.points
        if not where.columns:
            return (t, heights) if len(self.data) > self.n_run else (t[:0], heights[:0])
        on = (np.abs(t[:, list(where.columns)] - where.values) <= 1e-9 * self.sd[list(where.columns)]).all(1)
        return t[on], heights[on]

    def _top(self, where: Slice, start: Array | None) -> Array:
        """The surrogate's maximum on a slice, by ascents from the best draws, evaluated points and a start."""
        known = np.concatenate([self.draws, self.points[0]])
        known = np.clip(where.placed(known, self.covariance), *self.box)
        if start is not None:
            known = np.concatenate([known, start[None]])
        order = np.argsort(-np.nan_to_num(self.height(known), nan=-np.inf), kind="stable")
        starts: list[Array] = []
        for row in known[order]:
            if all(np.abs((row - other) / self.sd).max() > _APART for other in starts):
                starts.append(row)
            if len(starts) == (_STARTS if start is None else 2):
                break
        return max((self._climb(self.height, row, where, *self.box) for row in starts), key=lambda pair: pair[1])[0]

    def _climb(
        self, function: Callable[[Array], Array], start: Array, where: Slice, low: Array, high: Array
    ) -> tuple[Array, float]:
        """A local maximum of a function of t between two corners, with the slice's parameters held fixed."""
        free = np.setdiff1d(np.arange(len(start)), where.columns)
        if not len(free):
            return start, float(function(start[None])[0])
        scale = self.sd[free]

        def value(z: Array) -> tuple[float, Array]:
            points = np.repeat(start[None], 2 * len(free) + 1, axis=0)
            points[:, free] = start[free] + z * scale
            rows = np.arange(len(free))
            points[1 + rows, free] += _STEP * scale
            points[1 + len(free) + rows, free] -= _STEP * scale
            points = np.clip(points, low, high)
            f = np.maximum(np.nan_to_num(function(points), nan=_LOWEST), _LOWEST)
            width = (points[1 + rows, free] - points[1 + len(free) + rows, free]) / scale
            slope = (f[1 : 1 + len(free)] - f[1 + len(free) :]) / np.maximum(width, 1e-12)
            return -float(f[0]), -slope

        bounds = np.stack([low[free] - start[free], high[free] - start[free]], 1) / scale[:, None]
        found = minimize(value, np.zeros(len(free)), jac=True, method="L-BFGS-B", bounds=bounds, options=_OPTIONS)
        t = start.copy()
        t[free] = np.clip(start[free] + found.x * scale, low[free], high[free])
        return t, float(function(t[None])[0])


_OPTIONS = {"maxiter": _STEPS, "ftol": 1e-12, "gtol": 1e-6}


def confirm(
    ground: Refinement,
    slices: list[Slice],
    evaluate: Callable[[Array], list[Evaluation]],
    *,
    budget: int,
    tolerance: float,
    batch: int = 1,
) -> tuple[Refinement, list[Peak]]:
    """Confirms the highest points of slices by true evaluations, each to a tolerance.

    Each peak is evaluated at least once. Then the most uncertain peak comes next: it is evaluated at the surrogate's
    new maximum if that gains more than half the tolerance, otherwise at the highest prediction plus two standard
    deviations within one posterior sd of the peak.

    Args:
        ground: The surrogate and the objective.
        slices: The slices.
        evaluate: Function from points x with shape (b, d) to their evaluations.
        budget: Largest number of calls.
        tolerance: By how many nats a point near a confirmed peak may be higher.
        batch: Number of calls made at the same time.

    Returns:
        The refined surrogate, and the peaks in the order of the slices.
    """
    peaks = [ground.peak(where, tolerance) for where in slices]
    while budget > 0:
        open_ = sorted((p for p in peaks if not p.confirmed(tolerance)), key=lambda p: -p.remaining)
        if not open_:
            break
        t = ground.new(np.array([p.next for p in open_[: min(batch, budget)]]))
        if not len(t):  # all open peaks would be evaluated at known points, after failures or because of noise
            break
        ground = ground.told(t, evaluate(ground.setup.scaled.from_unit(t)))
        budget -= len(t)
        peaks = [ground.peak(p.where, tolerance, p.top) for p in peaks]
    return ground, peaks
