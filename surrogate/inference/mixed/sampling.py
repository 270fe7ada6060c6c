"""Draws and evidences of a surrogate with categorical and integer parameters, separately for each relevant level.

A level is one combination of the discrete values. Its posterior is sampled over the continuous parameters, and weighted
by its prior probability times its evidence, which is more robust than jumps between levels. Levels whose surrogate is
certainly far below the best value everywhere are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp, softmax

from surrogate.arrays import Array, Indices
from surrogate.inference.draws import LEAST_FEASIBLE, WARM_TEMPERATURE, Draws, ScaledPrior, starting_particles
from surrogate.inference.mixed.families import in_search
from surrogate.inference.setup import Setup
from surrogate.log_density.mixed.model import LevelLogDensity, MixedLogDensity
from surrogate.log_density.protocol import LogDensity
from surrogate.problem.levels import Levels
from surrogate.samplers.evidence import ImportanceSample, importance_sample
from surrogate.samplers.smc_together import sample_tempered_together

__all__ = ["LevelSamples", "draw_levels", "level_bounds", "level_features", "mixed_model", "sample_levels"]

Rng = Callable[..., np.random.Generator]
"""Function from a purpose to a random generator."""

_SDS = 3.0  # sds above the surrogate's mean, as the best value that a level could have
_NEGLIGIBLE, _NEGLIGIBLE_PER_PARAMETER = (
    10.0,
    2.0,
)  # nats below the best level, or more for a wide prior, at which a level is left out
_MOST_LIVE = (
    60  # largest number of sampled levels, those with the highest bounds; each takes about fifty calls of the surrogate
)
_CANDIDATES = 20_000  # points of all levels at which bounds are searched
_FEWEST_CANDIDATES, _MOST_CANDIDATES = 60, 400  # of these, per level
_FEWEST_PARTICLES = 100  # particles of a level, because differential evolution needs about ten per parameter
_LEAST_DRAWS = 4  # draws of each level among the posterior and warm draws, so that it stays among the candidates
_QUICK = 300  # draws for a first estimate of a level's evidence
_FEWEST_DRAWS = 40  # draws of a level below which its warm draws are also used for an importance sample


@dataclass(frozen=True, eq=False)
class LevelSamples:
    """Weighted draws of the relevant levels.

    Attributes:
        levels: All levels of the problem.
        live: Numbers of the levels that were sampled, with shape (k,).
        samples: Draws of the continuous parameters of each level; log densities are relative to y_max, without the
            prior probability of the level.
    """

    levels: Levels
    live: Indices
    samples: tuple[ImportanceSample, ...]

    @property
    def log_evidence(self) -> Array:
        """Log evidence of each level relative to y_max, with shape (L,), -inf if not sampled."""
        out = np.full(len(self.levels), -np.inf)
        out[self.live] = [sample.log_integral for sample in self.samples]
        return out

    @property
    def log_weights(self) -> Array:
        """Log of prior probability times evidence of each level, with shape (L,)."""
        return self.log_evidence + self.levels.log_prior

    @property
    def probability(self) -> Array:
        """Posterior probability of each level, with shape (L,)."""
        return np.asarray(softmax(self.log_weights))

    @property
    def sampling_error(self) -> Array:
        """Monte Carlo error of each log evidence, with shape (L,); 0 if not sampled."""
        out = np.zeros(len(self.levels))
        out[self.live] = [sample.log_integral_error for sample in self.samples]
        return out

    def combined(self) -> ImportanceSample:
        """The draws of all levels as one sample, with codes in the columns of the discrete parameters."""
        p, log_prior = self.probability[self.live], self.levels.log_prior[self.live]
        pairs = list(zip(self.live, self.samples, strict=True))
        weights = np.concatenate([q * sample.weights for q, sample in zip(p, self.samples, strict=True)])
        log_density = [sample.log_density + prior for sample, prior in zip(self.samples, log_prior, strict=True)]
        errors = p * np.where(p > 0.0, self.sampling_error[self.live], 0.0)
        return ImportanceSample(
            np.concatenate([self.levels.points(sample.x, level) for level, sample in pairs]),
            np.concatenate(log_density),
            weights,
            float(logsumexp(self.log_weights)),
            float(np.linalg.norm(errors)),
            1.0 / float((weights**2).sum()),
        )


def mixed_model(model: LogDensity) -> MixedLogDensity:
    """The surrogate, after checking that it has levels.

    Raises:
        TypeError: If it has no levels.
    """
    if not isinstance(model, MixedLogDensity):
        msg = f"a run with categories or integers needs a MixedLogDensity, got {type(model).__name__}"
        raise TypeError(msg)
    return model


def level_bounds(
    model: MixedLogDensity, setup: Setup, t: Array, rng: np.random.Generator, *, inflate: float = 1.0
) -> tuple[Array, Array]:
    """Upper bounds on the log-likelihood of each level, and the points where they are reached.

    Args:
        model: The surrogate.
        setup: The problem.
        t: Points that provide continuous parts of candidates, with shape (m, d), in addition to the prior.
        rng: Random numbers.
        inflate: Factor on the variance of the surrogate.

    Returns:
        The largest mean plus three sds minus y_max, in nats, with shape (L,), and the points, with shape (L, d).
    """
    levels, count = model.levels, len(model.levels)
    n = int(np.clip(_CANDIDATES // count, _FEWEST_CANDIDATES, _MOST_CANDIDATES))
    some = t[rng.permutation(len(t))[: n // 2]]
    parts = np.concatenate([some, setup.scaled.sample(n - len(some), rng)])[:, levels.continuous]
    points = levels.points(np.tile(parts, (count, 1)), np.repeat(np.arange(count), len(parts)))
    mean, sd = model.predict(points)
    top = (mean - model.y_max + _SDS * np.sqrt(inflate) * sd).reshape(count, len(parts))
    best = top.argmax(1)
    return top[np.arange(count), best], points.reshape(count, len(parts), -1)[np.arange(count), best]


def _live(bounds: Array, log_prior: Array, depth: float) -> Indices:
    """Levels whose bound is above the negligible depth, and in any case the highest one."""
    height = bounds + log_prior
    order = np.argsort(-height, kind="stable")[:_MOST_LIVE]
    return np.sort(order[(height[order] > log_prior.max() - depth) | (order == order[0])])


def draw_levels(model: LogDensity, setup: Setup, t: Array, previous: Draws | None, rng: Rng) -> Draws:
    """Draws of the surrogate posterior, by sequential Monte Carlo in each level that may be relevant.

    Args:
        model: The surrogate.
        setup: The problem.
        t: Finite evaluated points, with shape (n, d).
        previous: Draws of the surrogate before the last batch.
        rng: Random generators by purpose.

    Returns:
        About ``setup.particles`` draws at each temperature. The numbers of posterior draws are proportional to the
        levels' weights, and those of warm draws to the cube roots of the weights; each level that may be relevant has a
        few.
    """
    whole = mixed_model(model)
    levels, temperature = whole.levels, model.temperature
    pool = t if previous is None else np.concatenate([previous.posterior, previous.warm, t])
    bounds, _ = level_bounds(whole, setup, pool, rng("bounds"))
    depth = temperature * (_NEGLIGIBLE + _NEGLIGIBLE_PER_PARAMETER * len(levels.continuous))
    others = np.setdiff1d(np.arange(len(levels)), in_search(levels, t, temperature))
    bounds[others] = -np.inf
    live = _live(bounds, levels.log_prior * temperature, depth)
    targets = [_LevelTarget.of(whole, setup, int(level), t, previous) for level in live]
    particles = max(_FEWEST_PARTICLES, setup.particles // len(live))
    drawn = _together(whole, live, targets, particles, rng("draws"))
    pairs = zip(live, targets, drawn, strict=True)
    evidences = [target.log_evidence(own, rng("weight", int(level))) for level, target, own in pairs]
    log_weights = np.array(evidences) + levels.log_prior[live]
    share, warm = softmax(log_weights), softmax(log_weights / WARM_TEMPERATURE)
    if heavy := [i for i in range(len(live)) if share[i] * setup.particles > 2.0 * particles]:
        more, count = [targets[i] for i in heavy], int(share[heavy].max() * setup.particles)
        for i, own in zip(heavy, _together(whole, live[heavy], more, count, rng("more draws")), strict=True):
            drawn[i] = own
    rows = rng("rows")
    posterior = [_some(own.posterior, s * setup.particles, rows) for own, s in zip(drawn, share, strict=True)]
    warmer = [_some(own.warm, s * setup.particles, rows) for own, s in zip(drawn, warm, strict=True)]
    return Draws(_join(levels, live, posterior), _join(levels, live, warmer))


def _some(draws: Array, count: float, rng: np.random.Generator) -> Array:
    """About ``count`` of a level's draws, but at least a few."""
    chosen = rng.permutation(len(draws))[: max(round(float(count)), _LEAST_DRAWS)]
    return draws[np.sort(chosen)]


def _join(levels: Levels, live: Indices, parts: Sequence[Array]) -> Array:
    """Points of all levels from the continuous parts of each."""
    return np.concatenate([levels.points(part, int(level)) for level, part in zip(live, parts, strict=True)])


def _together(
    model: MixedLogDensity, live: Indices, targets: Sequence[_LevelTarget], n: int, rng: np.random.Generator
) -> list[Draws]:
    """n draws of each of some levels, all moved by the same calls of the surrogate."""
    begun = [starting_particles(own.prior, own.t, own.model.smooth(own.t), own.previous, rng, n=n) for own in targets]
    priors = [prior for prior, _, _ in begun]

    def log_target(p: Array) -> Array:
        inside = np.stack([prior.log_density(part) for prior, part in zip(priors, p, strict=True)])
        ok, out = np.isfinite(inside), np.full(inside.shape, -np.inf)
        points = model.levels.points(p[ok], np.broadcast_to(live[:, None], ok.shape)[ok])
        out[ok] = inside[ok] + model.relative(points, floor=LEAST_FEASIBLE)
        return out

    def log_start(p: Array) -> Array:
        return np.stack([density(part) for (_, _, density), part in zip(begun, p, strict=True)])

    start = np.stack([particles for _, particles, _ in begun])
    warm, cool = sample_tempered_together(log_target, start, log_start, (WARM_TEMPERATURE, 1.0), rng)
    return [Draws(posterior, warmer) for posterior, warmer in zip(cool, warm, strict=True)]


@dataclass(frozen=True, eq=False)
class _LevelTarget:
    """A level to be sampled: its surrogate, its prior, and its starting points.

    Attributes:
        model: The surrogate of the level, relative to the overall y_max.
        prior: The prior of the continuous parameters.
        t: Evaluated continuous points of all levels, with shape (n, d - k): particles start at those where its
            surrogate is high, whichever level was evaluated there.
        previous: Its last draws; None if there are too few.
    """

    model: LevelLogDensity
    prior: ScaledPrior
    t: Array
    previous: Draws | None

    @classmethod
    def of(cls, model: MixedLogDensity, setup: Setup, level: int, t: Array, previous: Draws | None) -> _LevelTarget:
        """The target of a level."""
        columns = model.levels.continuous
        own = None if previous is None else draws_at(model.levels, previous, level)
        own = None if own is None or len(own.warm) < 2 * len(columns) + 2 else own
        return cls(model.at_level(level, model.y_max), setup.continuous.scaled, t[:, columns], own)

    def log_evidence(self, draws: Draws, rng: np.random.Generator) -> float:
        """A quick estimate of the log integral of the tempered posterior."""
        prior = self.prior.about(draws.posterior)

        def log_density(t: Array) -> Array:
            out = prior.log_density(t)
            inside = np.isfinite(out)
            out[inside] += self.model.relative(t[inside])
            return out

        found = importance_sample(log_density, prior.unrolled(draws.posterior), _QUICK, rng, components=(1,))
        return found.log_integral if np.isfinite(found.log_integral) else float(self.model.smooth(self.t).min())


def draws_at(levels: Levels, draws: Draws, level: int) -> Draws:
    """The draws that have this level, without their discrete columns."""
    posterior, warm = (
        part[levels.index(part) == level][:, levels.continuous] for part in (draws.posterior, draws.warm)
    )
    return Draws(posterior, warm)


def level_features(levels: Levels, t: Array, probability: Array) -> Array:
    """Features of points t: their continuous columns, and for each relevant level whether they belong to it.

    Relevant are at most ten levels with probabilities above half a per cent, not counting the most probable level.
    """
    order = np.argsort(-probability, kind="stable")[1:11]
    order = order[probability[order] > 0.005]
    return np.concatenate([t[:, levels.continuous], levels.index(t)[:, None] == order], 1)


def sample_levels(
    log_posterior: Callable[[Array], Array], window: ScaledPrior, levels: Levels, draws: Draws, n: int, rng: Rng
) -> LevelSamples:
    """Weighted draws of each level that has draws.

    Args:
        log_posterior: Log-posterior relative to y_max per unit of t, from (m, d) to (m,), with the prior probability of
            the level.
        window: The prior with cut circles.
        levels: All levels.
        draws: Draws of the surrogate.
        n: Number of draws of all levels; each level has at least a tenth of them.
        rng: Random generators by purpose.
    """
    live = np.unique(levels.index(draws.warm))

    def sample(level: int, count: int, *purpose: str) -> ImportanceSample:
        own = draws_at(levels, Draws(window.unrolled(draws.posterior), window.unrolled(draws.warm)), level)
        start = own.posterior if len(own.posterior) >= _FEWEST_DRAWS else np.concatenate([own.posterior, own.warm])

        def density(t: Array) -> Array:
            return log_posterior(levels.points(t, level)) - levels.log_prior[level]

        return importance_sample(density, start, count, rng("level", level, *purpose))

    first = [sample(int(level), n // 10) for level in live]
    found = LevelSamples(levels, live, tuple(first))
    share = found.probability[live]
    for i in np.flatnonzero(share > 0.1):
        first[i] = sample(int(live[i]), int(n * share[i]), "again")
    return replace(found, samples=tuple(first))
