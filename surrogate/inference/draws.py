"""Draws of the surrogate posterior and of a warm (tempered) one, the candidates for the next batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.depths import MANY_PARAMETERS
from surrogate.log_density.coordinates.decades import Decades
from surrogate.log_density.protocol import Conditional, LogDensity
from surrogate.samplers.coordinates import Turns
from surrogate.samplers.evidence import importance_sample
from surrogate.samplers.mixture import Mixture, fit_mixture
from surrogate.samplers.smc import sample_tempered, systematic_resample

__all__ = [
    "LEAST_FEASIBLE",
    "WARM_TEMPERATURE",
    "Draws",
    "ScaledPrior",
    "conditionals",
    "draw",
    "draws_if_feasible",
    "is_narrow",
    "starting_particles",
]


@dataclass(frozen=True, eq=False)
class ScaledPrior:
    """The prior in unit coordinates t = (w - location) / scale, with w = x or its logarithm.

    A periodic parameter may take values outside its period in t. `about` cuts its circle where draws are sparsest, so
    that samplers see one period with edges that have hardly any mass.

    Attributes:
        location: Origin of t, with shape (d,).
        scale: Units of t, with shape (d,).
        log_density_x: Function that gives the log prior density at x with shape (m, d).
        sample_x: Function of (n, rng) that gives draws with shape (n, d).
        turns: Periods of the periodic parameters; None if there are none.
        seam: Positions at which circles are cut, with the shape of ``turns.columns``; None if they are not cut.
        decades: Parameters for which w is the logarithm; None if there are none.
    """

    location: Array
    scale: Array
    log_density_x: Callable[[Array], Array]
    sample_x: Callable[[int, np.random.Generator], Array]
    turns: Turns | None = None
    seam: Array | None = None
    decades: Decades | None = None

    def to_unit(self, x: Array) -> Array:
        """Unit coordinates t of the parameters x."""
        w = x if self.decades is None else self.decades.forward(x)
        return (w - self.location) / self.scale

    def from_unit(self, t: Array) -> Array:
        """Parameters x at the unit coordinates t."""
        w = self.location + (t if self.turns is None else self.turns.wrapped(t)) * self.scale
        return w if self.decades is None else self.decades.inverse(w)

    def slopes(self, t: Array) -> Array:
        """Derivatives dx/dt of each coordinate at t, both with shape (m, d)."""
        if self.decades is None:
            return np.broadcast_to(self.scale, np.shape(t))
        return self.scale * np.exp(self.decades.log_slope(self.location + t * self.scale))

    def log_volume(self, t: Array) -> Array:
        """Log volume in x per unit of t, with shape (m,)."""
        volume = np.full(len(t), np.log(self.scale).sum())
        return (
            volume if self.decades is None else volume + self.decades.log_slope(self.location + t * self.scale).sum(1)
        )

    def log_density(self, t: Array) -> Array:
        """Log prior density per unit of t, with shape (m,)."""
        value = self.log_density_x(self.from_unit(t)) + self.log_volume(t)
        if self.turns is None or self.seam is None:
            return value
        return np.where(self.turns.within(t, self.seam), value, -np.inf)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws t with shape (n, d)."""
        return self.unrolled(self.to_unit(self.sample_x(n, rng)))

    def about(self, t: Array) -> ScaledPrior:
        """A copy with each circle cut where the draws t, with shape (n, d), are sparsest."""
        return self if self.turns is None else replace(self, seam=self.turns.emptiest(t))

    def unrolled(self, t: Array) -> Array:
        """The points t, shifted by whole periods into those that start at the cuts; unchanged without cuts."""
        return t if self.turns is None or self.seam is None else self.turns.wrapped(t, self.seam)

    def not_among(self, t: Array, x: Array) -> Array:
        """Those of the points t, with shape (k, d), that are not among the points x."""
        known = {row.tobytes() for row in x}
        return t[[row.tobytes() not in known for row in self.from_unit(t)]]

    def window(self, bounds: Array) -> Array:
        """Bounds in t, with shape (d, 2), of the support of the prior in x."""
        out = self.to_unit(bounds.T).T
        if self.turns is not None and self.seam is not None:
            out[self.turns.columns] = np.stack([self.seam, self.seam + self.turns.period], 1)
        return out


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of exp(surrogate) times the prior, in unit coordinates.

    Attributes:
        posterior: At temperature 1, with shape (n, d).
        warm: At the warm temperature, with shape (n, d).
    """

    posterior: Array
    warm: Array


WARM_TEMPERATURE = 3.0
"""Temperature of the warm draws, for any number of dimensions."""

LEAST_FEASIBLE = 1e-3
"""Lower limit on the probability of being feasible, so that draws still visit regions predicted infeasible."""

_NARROW = 0.05  # sd in units of the prior below which points count as narrow
_BEST = (6, 2)  # best points from which particles start: at least six, and two per parameter
_FIRST_WIDTH = 0.15  # sd of these starts in units of the prior, before there are draws
_NEXT_WIDTH = 0.5  # the same in units of the last warm draws' sds
_FROM_BEST = 0.3  # share of the starting mixture around the best points
_WIDENED = 1.4  # factor on the widths of Gaussians fitted to the last warm draws
_COMPONENTS = 4  # components of that mixture ...
_DRAWS_PER_PARAMETER = 40  # ... if there are more draws per parameter than this, otherwise one
_PROPOSED = 4  # draws of a known mixture for each draw that is kept ...
_EFFECTIVE = 0.1  # ... if at least this share of them is effective
_FROM_PRIOR = 0.3  # share of the particles that start from the prior, so that any mode gets some
_SWEEPS = 12  # sweeps at the last temperature
_SWEEPS_PER_PARAMETER = 2  # sweeps per parameter if there are many, where moves decorrelate more slowly
_JITTER = 1e-18  # variance that keeps a covariance of draws positive definite


def is_narrow(t: Array) -> bool:
    """Whether points t, with shape (n, d), cover only a small part of the prior along some axis."""
    n, d = t.shape
    return n > d + 1 and bool((t.std(0) < _NARROW).any())


_FLAT = 1e-12  # share of the largest variance below which a direction counts as constant


def _factor(covariance: Array) -> Array:
    """A factor L of the covariance L L^T, with a large variance in directions along which the points do not vary.

    Such directions occur if earlier evaluations were a scan with some parameters fixed.
    """
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= _FLAT * values[-1]:
        variances = np.where(values > _FLAT * values[-1], values, _FIRST_WIDTH**2)
        covariance = (vectors * variances) @ vectors.T
    return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)


def _starting_mixture(t: Array, y: Array, previous: Draws | None, rng: np.random.Generator) -> Mixture:
    """Mixture of Gaussians at the previous warm draws and at the best points."""
    d = t.shape[1]
    best = t[np.argsort(-y, kind="stable")[: max(_BEST[0], _BEST[1] * d)]]
    if previous is None:
        spread = _factor(np.cov(t.T).reshape(d, d)) if is_narrow(t) else np.diag(np.full(d, _FIRST_WIDTH))
        return Mixture(np.full(len(best), 1.0 / len(best)), best, np.repeat(spread[None], len(best), 0))
    components = _COMPONENTS if len(previous.warm) > _DRAWS_PER_PARAMETER * d else 1
    last = fit_mixture(previous.warm, components, rng).widened(_WIDENED)
    spread = _NEXT_WIDTH * np.linalg.cholesky(np.cov(previous.warm.T).reshape(d, d) + _JITTER * np.eye(d))
    points = Mixture(np.full(len(best), 1.0 / len(best)), best, np.repeat(spread[None], len(best), 0))
    return last.joined(points, _FROM_BEST)


def starting_particles(
    prior: ScaledPrior, t: Array, y: Array, previous: Draws | None, rng: np.random.Generator, *, n: int
) -> tuple[ScaledPrior, Array, Callable[[Array], Array]]:
    """The prior with cut circles, n starting particles, and their log density.

    30 % of the particles come from the prior and 70 % from Gaussians around the previous draws and the best points. The
    other arguments are those of ``draw``.
    """
    if prior.turns is not None:
        prior = prior.about(t if previous is None else previous.warm)
        t = prior.unrolled(t)
        if previous is not None:
            previous = Draws(prior.unrolled(previous.posterior), prior.unrolled(previous.warm))
    mixture = _starting_mixture(t, y, previous, rng)
    count = int(_FROM_PRIOR * n)
    start = np.concatenate([prior.sample(count, rng), mixture.sample(n - count, rng)])

    def log_start(p: Array) -> Array:
        return np.logaddexp(
            np.log(_FROM_PRIOR) + prior.log_density(p), np.log(1.0 - _FROM_PRIOR) + mixture.log_density(p)
        )

    return prior, start, log_start


def conditionals(model: LogDensity, prior: ScaledPrior, t: Array, temperature: float = 1.0) -> Mixture | None:
    """A mixture close to the posterior, for a surrogate that knows its conditionals about points t; else None."""
    return model.conditional_mixture(t, prior.log_density, temperature) if isinstance(model, Conditional) else None


def draw(
    model: LogDensity,
    prior: ScaledPrior,
    t: Array,
    y: Array,
    previous: Draws | None,
    rng: np.random.Generator,
    *,
    n: int = 1000,
) -> Draws:
    """Draws of the surrogate posterior by sequential Monte Carlo, or of its conditionals where it knows them.

    30 % of the particles start from the prior, so that any mode gets some, and 70 % from Gaussians around the previous
    draws and the best points.

    Args:
        model: Surrogate.
        prior: Prior in scaled coordinates.
        t: Finite evaluated points, with shape (n, d).
        y: Their log-likelihoods, with shape (n,).
        previous: Draws of the surrogate before the last batch.
        rng: Random numbers.
        n: Number of particles.

    Returns:
        n draws at each temperature, after about 50 calls of the surrogate on n points each.
    """

    def log_target(p: Array) -> Array:
        inside = prior.log_density(p)
        out = np.full(len(p), -np.inf)
        ok = np.isfinite(inside)
        out[ok] = inside[ok] + model.relative(p[ok], floor=LEAST_FEASIBLE)
        return out

    near = t if previous is None else previous.warm
    found = [
        _by_proposal(log_target, conditionals(model, prior, near, temperature), temperature, n, rng)
        for temperature in (1.0, WARM_TEMPERATURE)
    ]
    if found[0] is not None and found[1] is not None:
        return Draws(found[0], found[1])
    prior, start, log_start = starting_particles(prior, t, y, previous, rng, n=n)
    sweeps = _SWEEPS if t.shape[1] <= MANY_PARAMETERS else _SWEEPS_PER_PARAMETER * t.shape[1]
    warm, cool = sample_tempered(log_target, start, log_start, (WARM_TEMPERATURE, 1.0), rng, final_sweeps=sweeps)
    return Draws(cool, warm)


def _by_proposal(
    log_target: Callable[[Array], Array], known: Mixture | None, temperature: float, n: int, rng: np.random.Generator
) -> Array | None:
    """Draws at a temperature out of those of a mixture; None without a mixture, or if too few of them are effective."""
    if known is None:
        return None
    most = _PROPOSED * n
    sample = importance_sample(lambda p: log_target(p) / temperature, known.sample(n, rng), most, rng, known=known)
    if sample.ess < _EFFECTIVE * most:
        return None
    with np.errstate(divide="ignore"):
        return np.asarray(sample.x[systematic_resample(np.log(sample.weights), n, rng)])


def draws_if_feasible(model: LogDensity, draws: Draws, rng: np.random.Generator, *, n: int = 1000) -> Array:
    """Draws of the posterior under the assumption that all points are feasible, with shape (n, d)."""
    log_weights = (1.0 - 1.0 / WARM_TEMPERATURE) * model.if_feasible(draws.warm)
    return draws.warm[systematic_resample(log_weights, n, rng)]
