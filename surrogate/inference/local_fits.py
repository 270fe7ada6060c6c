"""Fits of a simulator's outputs by local linear regression, from several starts in parallel.

Levenberg-Marquardt without derivatives: about the best evaluation of a fit, the slopes of all output components follow
from the other evaluations, whose linear predictions have errors that grow with the square of the distance. The next
evaluation is where these linear outputs, with the parameters that only the comparison uses at their best values, give
the highest posterior within a trust region. Each evaluation goes to the fit whose step has the highest predicted
posterior, so that a fit that makes slow progress, or approaches a lesser mode, waits for the others.

Nothing is kept between steps: a replay of the evaluations tells which belong to fits. A step that improves a fit
becomes its centre and doubles the reach of its trust region; any other halves the reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.inference.ascent import ascend

__all__ = ["Fit", "LocalFits", "Step"]


_CURVED = 1.0  # sd of what slopes miss at unit distance, in units of the sd of slopes: best of 0.3, 1 and 3
_ROUNDING = 1e-8  # variance of outputs in the same units
_RADIUS = 0.3  # of the prior, for each coordinate: first reach of the trust region
_WIDEST = 0.4  # its largest reach
_NARROWEST = 0.005  # reach below which a fit has ended
_WIDER, _NARROWER = 2.0, 0.5
_GAIN = 0.5  # predicted gain in nats below which a fit has ended
_LONGEST = 30  # evaluations after which a fit is given up
_SCALE = 0.05  # first radius of ascents, in unit coordinates
_FAST = 0.1  # the same for the fast parameters alone ...
_FEW = 20  # ... and the number of steps
_FREE = 0.3  # the same for combinations of outputs, in units of their spread
_COMPONENTS = 3  # components of a free combination of outputs for each slow parameter; two let lesser modes pass
_FITTED = 60  # steps of its fit
_GRID = 1001  # points between which ends of the trust region are told apart
_EDGE = 1e-6  # allowance for rounding errors of these ends, relative to the reach
_NEAR = 1e-3  # of the prior, along each axis: a step to an evaluation that is closer tells nothing


@dataclass(frozen=True, eq=False)
class Step:
    """The next evaluation of a fit.

    Attributes:
        t: Its point, with shape (d,).
        height: Predicted log-posterior.
    """

    t: Array
    height: float


@dataclass(frozen=True)
class Fit:
    """A fit after its last step.

    Attributes:
        start: Number of the evaluation from which it started.
        centre: Number of its highest evaluation.
        reach: Reach of its trust region along each axis.
        length: Number of its steps.
    """

    start: int
    centre: int
    reach: float
    length: int = 0

    @property
    def over(self) -> bool:
        """Whether no further step is worth a call."""
        return self.length >= _LONGEST or self.reach <= _NARROWEST

    def after(self, i: int, *, better: bool) -> Fit:
        """The fit after a step to evaluation i."""
        if better:
            return replace(self, centre=i, reach=min(_WIDEST, _WIDER * self.reach), length=self.length + 1)
        return replace(self, reach=_NARROWER * self.reach, length=self.length + 1)


@dataclass(frozen=True, eq=False)
class LocalFits:
    """Fits to the outputs of n evaluations, in the order in which they were made.

    Attributes:
        evaluated: Unit coordinates, with shape (n, d).
        z: Components of the outputs, with shape (n, K); of any value where there are none.
        finite: Mask of the evaluations with outputs and a finite log-likelihood, with shape (n,).
        first: Mask of those that may start fits, with shape (n,).
        steps: Mask of those that may be steps of fits, with shape (n,).
        place: From t, with shape (m, d), to coordinates of the slow parameters, with shape (m, s), in which the prior
            has about unit width.
        value: Log-posterior of components (m, K) at t (m, d), with shape (m,).
        bounds: Bounds of t, with shape (d, 2).
        slow: Positions of the slow parameters; the others are fast, only the comparison uses them.
    """

    evaluated: Array
    z: Array
    finite: Flags
    first: Flags
    steps: Flags
    place: Callable[[Array], Array]
    value: Callable[[Array, Array], Array]
    bounds: Array
    slow: Indices

    @cached_property
    def fast(self) -> Indices:
        """Positions of the parameters that only the comparison uses."""
        return np.setdiff1d(np.arange(self.evaluated.shape[1]), self.slow)

    @cached_property
    def t(self) -> Array:
        """The evaluations with the best fast parameters for their outputs, with shape (n, d)."""
        out = self.evaluated.copy()
        if not len(self.fast):
            return out
        low, high = self.bounds[self.fast].T
        for i in np.flatnonzero(self.finite).tolist():

            def height(fast: Array, i: int = i) -> Array:
                return self.value(np.tile(self.z[i], (len(fast), 1)), self._with_fast(self.evaluated[i], fast))

            start = out[i : i + 1, self.fast]
            out[i, self.fast] = ascend(height, start, low, high, np.full(len(low), _FAST), steps=_FEW)[0][0]
        return out

    @cached_property
    def height(self) -> Array:
        """Log-posterior of the evaluations with the best fast parameters, with shape (n,); -inf where there is none."""
        out = np.full(len(self.t), -np.inf)
        out[self.finite] = self.value(self.z[self.finite], self.t[self.finite])
        return out

    @cached_property
    def room(self) -> float:
        """By how many nats per component outputs that the simulator may not have fit better than the best evaluation.

        They are the mean of all evaluations plus any combination of the leading principal components, three for each
        slow parameter, but at most half of all if there are few. Where the simulator fits the data no such combination
        is much better. Where a fit has ended in a lesser mode some are.
        """
        best, fast = int(self.height.argmax()), len(self.fast)
        z = self.z[self.finite]
        mean = z.mean(0)
        _, spread, basis = np.linalg.svd(z - mean, full_matrices=False)
        few = len(spread) < len(z) - 1
        size = min(_COMPONENTS * len(self.slow), max(1, len(spread) // 2) if few else len(z) - 1)
        basis = basis[:size] * spread[:size, None] / np.sqrt(len(z))

        def height(free: Array) -> Array:
            return self.value(mean + free[:, fast:] @ basis, self._with_fast(self.t[best], free[:, :fast]))

        start = np.concatenate([self.t[best, self.fast], np.linalg.lstsq(basis.T, self.z[best] - mean, rcond=None)[0]])
        low, high = np.concatenate([self.bounds[self.fast], np.tile([-np.inf, np.inf], (size, 1))]).T
        scale = np.append(np.full(fast, _FAST), np.full(size, _FREE))
        found = ascend(
            height, np.stack([start, np.append(start[:fast], np.zeros(size))]), low, high, scale, steps=_FITTED
        )[1]
        return float(found.max() - self.height[best]) / size

    def _with_fast(self, t: Array, fast: Array) -> Array:
        """A point t with shape (d,) with other fast parameters (m, p), with shape (m, d)."""
        out = np.tile(t, (len(fast), 1))
        out[:, self.fast] = fast
        return out

    @cached_property
    def w(self) -> Array:
        """Coordinates of the evaluations, with shape (n, s)."""
        return self.place(self.evaluated)

    @cached_property
    def fits(self) -> tuple[Fit, ...]:
        """The fits after all steps, one for each evaluation that may start one.

        A step is assigned to the fit to whose centre it is nearest in units of the reach, if it lies in the trust
        region of that fit. This is not always the fit that asked for it, which may then ask for another step nearby.
        """
        fits = {i: Fit(i, i, _RADIUS) for i in np.flatnonzero(self.first & self.finite).tolist()}
        for i in np.flatnonzero(self.steps).tolist() if fits else []:
            distance = {start: self._distance(i, fit) for start, fit in fits.items()}
            start = min(distance, key=lambda start: distance[start])
            if distance[start] <= 1.0 + _EDGE:
                fit = fits[start]
                fits[start] = fit.after(i, better=bool(self.height[i] > self.height[fit.centre]))
        return tuple(fits.values())

    def next(self) -> Step | None:
        """The step with the highest predicted log-posterior of all fits; None if no fit has a step left."""
        steps = [self.step(fit.centre, fit.reach) for fit in self.fits if not fit.over]
        return max((step for step in steps if step is not None), key=lambda step: step.height, default=None)

    def step(self, centre: int, reach: float) -> Step | None:
        """The next evaluation of a fit; None if too little is to be gained."""
        slopes = self._slopes(centre)

        def height(t: Array) -> Array:
            return self.value(self.z[centre] + (self.place(t) - self.w[centre]) @ slopes, t)

        low, high = self._region(centre, reach)
        ends, found = ascend(height, self.t[centre][None], low, high, np.full(len(low), _SCALE))
        near = np.abs(self.w - self.place(ends)).max(1).min() < _NEAR
        return None if near or found[0] < self.height[centre] + _GAIN else Step(ends[0], float(found[0]))

    def _distance(self, i: int, fit: Fit) -> float:
        """Largest distance of evaluation i from the centre of a fit along an axis, in units of the reach."""
        return float(np.abs(self.w[i] - self.w[fit.centre]).max()) / fit.reach

    def _slopes(self, centre: int) -> Array:
        """Derivatives of the components with respect to the coordinates at an evaluation, with shape (s, K)."""
        others = self.finite & (np.arange(len(self.w)) != centre)
        step, change = self.w[others] - self.w[centre], self.z[others] - self.z[centre]
        weight = 1.0 / (_ROUNDING + (_CURVED * (step**2).sum(1)) ** 2)
        normal = step.T @ (step * weight[:, None]) + np.eye(step.shape[1])
        return np.asarray(np.linalg.solve(normal, step.T @ (change * weight[:, None])))

    def _region(self, centre: int, reach: float) -> tuple[Array, Array]:
        """Corners in t of the trust region; the fast parameters are free."""
        low, high = self.bounds.T.copy()
        for j in self.slow:
            ends = np.repeat(self.t[centre][None], _GRID, axis=0)
            ends[1:, j] = np.linspace(max(low[j], ends[0, j] - 1.0), min(high[j], ends[0, j] + 1.0), _GRID - 1)
            near = np.abs(self.place(ends) - self.w[centre]).max(1) <= reach
            near[0] = True
            low[j], high[j] = ends[near, j].min(), ends[near, j].max()
        return low, high
