"""Ensemble Markov chain Monte Carlo for a cheap, vectorised density, such as a finished surrogate.

The only module that imports emcee. It uses emcee's driver, its stretch and differential-evolution moves vectorised over
all walkers, and in addition jumps drawn from a Student-t mixture fitted to the draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from emcee import EnsembleSampler, State
from emcee.moves import Move
from numpy.typing import ArrayLike, NDArray

from surrogate.samplers.coordinates import Unbounded
from surrogate.samplers.diagnostics import integrated_autocorrelation_time
from surrogate.samplers.evidence import ImportanceSample
from surrogate.samplers.mixture import Mixture, fit_mixture
from surrogate.samplers.smc import systematic_resample

__all__ = ["WALKERS", "Chain", "independent_chain", "sample_ensemble"]

LogDensity = Callable[[NDArray], NDArray]
Proposal = Callable[[NDArray, NDArray, np.random.RandomState], tuple[NDArray, NDArray]]

WALKERS = 500  # measured: fewer do not share the overhead of a call well, more only lengthen the burn-in
_WARM_UP = 20  # steps before the mixture is refitted to draws of the target
_RELIABLE = 10.0  # length in autocorrelation times from which a chain's autocorrelation time is reliable
_DRIFT = 4.0  # standard errors between the means of two halves above which the walkers still drift
_TAIL = 0.25  # a variance is known to 2 % where the mean is known to 1 % of a standard deviation
_FLAT = 1e-6  # smaller variations of a log density are rounding errors
_STORED = 2000  # steps kept in memory; a chain that reaches this length is thinned by two
_FITTED = 2000  # draws to which the mixture is fitted
_COMPONENTS = (1, 2, 4, 8, 16)
_DOF = 5.0  # heavier tails than normal, so that walkers can enter and leave the target's tails
_WIDE = (2.0, 0.2)  # for the same reason: factor and share of wider components


@dataclass(frozen=True, eq=False)
class Chain:
    """Draws from a density, with diagnostics.

    Attributes:
        samples: Equally weighted draws in random order, with shape (n, d).
        log_density: Log density of each draw, with shape (n,).
        autocorrelation_time: Steps per independent draw of each parameter, with shape (d,).
        ess: Effective number of independent draws of the worst parameter; at most 4 times that of the squared
            parameters and of the log density.
        acceptance: Fraction of accepted proposals after burn-in.
        burn_in: Number of discarded steps.
        steps: Number of steps, including burn-in.
        converged: Whether the chain reached the requested effective sample size and does not drift.
        reason: A sentence that says why it stopped.
    """

    samples: NDArray
    log_density: NDArray
    autocorrelation_time: NDArray
    ess: float
    acceptance: float
    burn_in: int
    steps: int
    converged: bool
    reason: str


def independent_chain(sample: ImportanceSample, ess: float, rng: np.random.Generator) -> Chain:
    """A chain of n independent draws, resampled from n weighted draws, instead of an MCMC chain.

    It counts as converged if the weighted draws have an effective number of at least ``ess``.

    Args:
        sample: The n weighted draws.
        ess: Effective number that is required.
        rng: Random numbers.
    """
    n = len(sample.x)
    with np.errstate(divide="ignore"):
        rows = rng.permutation(systematic_resample(np.log(sample.weights), n, rng))
    time, enough = np.full(sample.x.shape[1], n / sample.ess), sample.ess >= ess
    reason = f"{sample.ess:.0f} of {n} independent weighted draws are effective"
    return Chain(
        samples=sample.x[rows],
        log_density=sample.log_density[rows],
        autocorrelation_time=time,
        ess=sample.ess,
        acceptance=sample.ess / n,
        burn_in=0,
        steps=1,
        converged=enough,
        reason=reason if enough else f"{reason}, {ess:.0f} were asked for",
    )


def sample_ensemble(
    log_density: LogDensity,
    start: ArrayLike,
    *,
    rng: np.random.Generator,
    ess: float = 10_000,
    max_steps: int = 20_000,
    max_seconds: float | None = None,
    bounds: ArrayLike | None = None,
    jumps: bool = True,
) -> Chain:
    """Draws from a density with an effective sample size of ``ess``.

    Every step moves each half of the walkers given the other half (emcee's scheme), by one of four Metropolis
    proposals: an independent draw of a Student-t mixture, differential evolution with gamma <= 2.38 / sqrt(2 d) or with
    gamma = 1 (between modes), or a stretch. The mixture is fitted to the start, refitted to the warm-up and then fixed,
    so the chain is exactly Markov. Bounded parameters are first mapped to the real line.

    The autocorrelation time is measured about the mean of all walkers: a walker that never leaves its mode counts as
    one draw.

    Args:
        log_density: Takes (m, d) and returns (m,) natural logs, unnormalised; -inf is legal. Never called outside
            ``bounds``.
        start: Walkers with shape (w, d), roughly distributed as the target; repeated rows are harmless as long as about
            2 d + 2 differ. About ``WALKERS`` rows are best.
        rng: Source of all randomness; the global numpy state is neither used nor changed.
        ess: Effective sample size to reach.
        max_steps: Limit on the steps, including burn-in.
        max_seconds: Limit on the wall time.
        bounds: Bounds of the support, with shape (d, 2); may be infinite.
        jumps: Whether half of the proposals are draws of the mixture; off only for comparisons.

    Returns:
        At most about ``4 * ess`` rows, and at least one for each walker.

    Raises:
        ValueError: If ``start`` has a wrong shape, too few walkers, a point of zero density or a parameter without
            spread, or if ``log_density`` returns nan or +inf.

    References:
        Goodman & Weare (2010), doi:10.2140/camcos.2010.5.65; Foreman-Mackey et al. (2013), doi:10.1086/670067;
        ter Braak (2006), doi:10.1007/s11222-006-8769-1.
    """
    walkers = _checked_start(start)
    density = _Density(log_density, Unbounded.of(bounds, walkers.shape[1]))
    limit = _Limit(max_steps, np.inf if max_seconds is None else time.monotonic() + max_seconds)
    state = _initial_state(density, walkers, rng)
    kernel = _Kernel.fitted(density, walkers, rng, jumps=jumps)
    state, track = kernel.walk(state, _Track.empty(walkers.shape), limit.within(_WARM_UP))
    burn_in = 0
    while not limit.spent(track.steps):
        burn_in, limit = burn_in + track.steps, limit.less(track.steps)
        kernel = _Kernel.fitted(density, track.second_half(), rng, jumps=jumps)
        state, track = _until_worth(ess, kernel, state, limit)
        if not track.drifting:
            break
    return _chain(track, ess, rng, burn_in=burn_in, acceptance=kernel.acceptance)


@dataclass(frozen=True)
class _Limit:
    """Remaining limits: a number of steps, and the monotonic time at which to stop."""

    steps: int
    deadline: float

    def less(self, steps: int) -> _Limit:
        return replace(self, steps=self.steps - steps)

    def within(self, steps: int) -> _Limit:
        return replace(self, steps=min(self.steps, steps))

    def spent(self, steps: int) -> bool:
        return steps >= self.steps or time.monotonic() >= self.deadline


@dataclass(frozen=True, eq=False)
class _Track:
    """Every ``thin``-th state of a walk: x with shape (s, w, d) and its log density with shape (s, w)."""

    x: NDArray
    log_density: NDArray
    thin: int = 1

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> _Track:
        return cls(np.empty((0, *shape)), np.empty((0, shape[0])))

    @property
    def steps(self) -> int:
        return self.thin * len(self.x)

    @property
    def drifting(self) -> bool:
        """Whether the means of the two halves differ by more than sampling noise."""
        half = len(self.x) // 2
        if half == 0:
            return True
        move = self.x[:half].mean(axis=(0, 1)) - self.x[-half:].mean(axis=(0, 1))
        error = self.x.std(axis=(0, 1)) * np.sqrt(2 * self.times / (self.thin * half * self.x.shape[1]))
        return bool(np.any(np.abs(move) > _DRIFT * error))

    @cached_property
    def times(self) -> NDArray:
        """Autocorrelation times of the parameters in steps of the walk, with shape (d,)."""
        return self.thin * integrated_autocorrelation_time(self.x, centre="ensemble")

    @cached_property
    def slowest(self) -> float:
        """The largest autocorrelation time, where those of squared parameters and log density count ``_TAIL`` times.

        The latter reveal walkers that are stuck in a tail or never enter it, which means of a symmetric target do not.
        """
        tails = [np.square(self.x - self.x.mean(axis=(0, 1)))]
        if np.ptp(self.log_density) > _FLAT:
            tails.append(self.log_density[:, :, None])
        times = integrated_autocorrelation_time(np.concatenate(tails, axis=2), centre="ensemble")
        return float(max(self.times.max(), _TAIL * self.thin * times.max()))

    def ess(self) -> float:
        return self.steps * self.x.shape[1] / self.slowest if len(self.x) else 0.0

    def second_half(self) -> NDArray:
        """Draws of the second half of the track, with shape (m, d)."""
        return self.x[len(self.x) // 2 :].reshape(-1, self.x.shape[2])

    def every(self, k: int) -> _Track:
        return _Track(self.x[k - 1 :: k], self.log_density[k - 1 :: k], k * self.thin)

    def joined(self, x: Sequence[NDArray], log_density: Sequence[NDArray]) -> _Track:
        """The track with further states appended, thinned by two until it fits into memory."""
        track = replace(
            self, x=np.concatenate([self.x, x]), log_density=np.concatenate([self.log_density, log_density])
        )
        while len(track.x) > _STORED:
            track = track.every(2)
        return track


@dataclass(frozen=True, eq=False)
class _Density:
    """The target in unbounded coordinates, with the Jacobian of the map."""

    log_density: LogDensity
    coordinates: Unbounded

    def __call__(self, u: NDArray) -> NDArray:
        x = self.coordinates.inverse(u)
        value = np.asarray(self.log_density(x), dtype=float)
        if value.shape != (len(x),):
            msg = f"log_density must return shape ({len(x)},) for {len(x)} points, got {value.shape}"
            raise ValueError(msg)
        wrong = np.isnan(value) | (value == np.inf)
        if wrong.any():
            msg = f"log_density must return finite values or -inf, got {value[wrong][0]} at {x[wrong][0].tolist()}"
            raise ValueError(msg)
        return value + self.coordinates.log_jacobian(u)


@dataclass(frozen=True, eq=False)
class _Kernel:
    """A fixed mixture of moves."""

    density: _Density
    moves: tuple[_HalfMove, ...]
    weights: tuple[float, ...]

    @classmethod
    def fitted(cls, density: _Density, x: NDArray, rng: np.random.Generator, *, jumps: bool = True) -> _Kernel:
        """A kernel with independence proposals fitted to draws x with shape (m, d)."""
        chosen = rng.choice(len(x), size=_FITTED, replace=False) if len(x) > _FITTED else slice(None)
        mixture = _best_mixture(density.coordinates.forward(x[chosen]), rng)
        proposals, weights = zip(*_proposals(mixture)[0 if jumps else 1 :], strict=True)
        return cls(density, tuple(_HalfMove(propose, density) for propose in proposals), weights)

    @property
    def acceptance(self) -> float:
        return sum(move.accepted for move in self.moves) / max(sum(move.proposed for move in self.moves), 1)

    def walk(self, state: State, track: _Track, limit: _Limit) -> tuple[State, _Track]:
        """The state after up to ``limit.steps`` further steps, fewer if time runs out, and the longer track."""
        sampler = EnsembleSampler(
            *state.coords.shape, self.density, moves=list(zip(self.moves, self.weights, strict=True)), vectorize=True
        )
        x, values = list(track.x[:0]), list(track.log_density[:0])
        iterations = max(1, limit.steps // track.thin)
        options = {"thin_by": track.thin, "store": False, "skip_initial_state_check": True}
        for state in sampler.sample(state, iterations=iterations, **options):  # noqa: B020
            x.append(self.density.coordinates.inverse(state.coords))
            values.append(state.log_prob - self.density.coordinates.log_jacobian(state.coords))
            if limit.spent(0):
                break
        return state, track.joined(x, values)


class _HalfMove(Move):
    """A Metropolis update of one half of the walkers given the other half, then the reverse.

    emcee's red-blue scheme without its loop over walkers, which would cost as much as a cheap density.
    """

    def __init__(self, propose: Proposal, density: _Density) -> None:
        self.proposal = propose
        self.density = density
        self.accepted = 0
        self.proposed = 0

    def propose(self, model: Any, state: State) -> tuple[State, NDArray]:
        moved = np.zeros(len(state.coords), dtype=bool)
        first, second = np.array_split(model.random.permutation(len(state.coords)), 2)
        for mine, others in ((first, second), (second, first)):
            proposed, log_factor = self.proposal(state.coords[mine], state.coords[others], model.random)
            value = self.density(proposed)
            accept = np.log1p(-model.random.random_sample(len(mine))) < log_factor + value - state.log_prob[mine]
            chosen = mine[accept]
            state.coords[chosen], state.log_prob[chosen], moved[chosen] = proposed[accept], value[accept], True
        self.accepted += int(moved.sum())
        self.proposed += len(moved)
        return state, moved


def _proposals(mixture: Mixture) -> list[tuple[Proposal, float]]:
    """The moves with their probabilities.

    Measured on normals of 2 to 16 dimensions, two modes, a banana and a truncated normal: jumps of the mixture shorten
    the autocorrelation time 3 to 20 times; the other moves keep the chain mixing where the mixture fits badly.
    """
    return [
        (lambda mine, _, random: _independent(mine, mixture, random), 0.5),
        (_difference, 0.35),
        (_swap, 0.05),
        (_stretch, 0.1),
    ]


def _best_mixture(u: NDArray, rng: np.random.Generator) -> Mixture:
    """The Gaussian mixture with the lowest BIC, given Student-t tails.

    The number of components is doubled until the BIC rises.
    """
    n, d = u.shape
    best, least = fit_mixture(u, 1, rng), np.inf
    for k in _COMPONENTS:
        mixture = fit_mixture(u, k, rng)
        bic = k * (1 + d + d * (d + 1) / 2) * np.log(n) - 2 * float(mixture.log_density(u).sum())
        if bic > least or n < 4 * k * (d + 1):
            break
        best, least = mixture, bic
    width, share = _WIDE
    return best.widened(1.0, dof=_DOF).joined(best.widened(width), share)


def _independent(mine: NDArray, mixture: Mixture, random: np.random.RandomState) -> tuple[NDArray, NDArray]:
    # Not mixture.sample, whose stratified counts per component would make the walkers' draws dependent.
    n, d = mine.shape
    k = random.choice(len(mixture.weights), size=n, p=mixture.weights / mixture.weights.sum())
    z = random.standard_normal((n, d)) * np.sqrt(mixture.dof / random.chisquare(mixture.dof, size=n))[:, None]
    proposed = mixture.means[k] + np.einsum("nij,nj->ni", mixture.factors[k], z)
    return proposed, mixture.log_density(mine) - mixture.log_density(proposed)


def _difference(mine: NDArray, others: NDArray, random: np.random.RandomState) -> tuple[NDArray, NDArray]:
    """Differential-evolution move with steps from the usual length down to 1/30 of it, for thin curved regions."""
    scale = 10 ** (-1.5 * random.random_sample((len(mine), 1)))
    return mine + 2.38 / np.sqrt(2 * mine.shape[1]) * scale * _step(mine, others, random), np.zeros(len(mine))


def _swap(mine: NDArray, others: NDArray, random: np.random.RandomState) -> tuple[NDArray, NDArray]:
    """Differential-evolution move by the full difference of two walkers, which can jump between modes."""
    return mine + _step(mine, others, random), np.zeros(len(mine))


def _step(mine: NDArray, others: NDArray, random: np.random.RandomState) -> NDArray:
    i = random.randint(len(others), size=len(mine))
    j = (i + random.randint(1, len(others), size=len(mine))) % len(others)
    return others[i] - others[j]


def _stretch(mine: NDArray, others: NDArray, random: np.random.RandomState) -> tuple[NDArray, NDArray]:
    z = (1 + random.random_sample(len(mine))) ** 2 / 2  # density ~ 1 / sqrt(z) on 1/2..2
    anchor = others[random.randint(len(others), size=len(mine))]
    return anchor + z[:, None] * (mine - anchor), (mine.shape[1] - 1) * np.log(z)


def _until_worth(ess: float, kernel: _Kernel, state: State, limit: _Limit) -> tuple[State, _Track]:
    """Walks until the track has an effective sample size of ``ess`` without drift, or the limit is reached."""
    track, more = _Track.empty(state.coords.shape), 2.0 * _WARM_UP
    while True:
        state, track = kernel.walk(state, track, limit.less(track.steps).within(int(more)))
        more = _missing(track, ess)
        if more <= 0 or track.drifting or limit.spent(track.steps):
            return state, track
        more = np.clip(1.05 * more, _WARM_UP, track.steps)  # at most doubled, because early estimates are rough


def _missing(track: _Track, ess: float) -> float:
    """Number of steps still needed for ``ess``; negative if there are more than enough."""
    return max(ess / track.x.shape[1], _RELIABLE) * track.slowest - track.steps


def _chain(track: _Track, ess: float, rng: np.random.Generator, *, burn_in: int, acceptance: float) -> Chain:
    wanted = int(np.ceil(track.log_density.size / (4 * ess)))
    thinned = track.every(min(max(1, wanted), len(track.x)))  # at least one state of all walkers
    order = rng.permutation(thinned.log_density.size)
    steps = burn_in + track.steps
    worth = f"an effective sample size of {track.ess():.0f} after {steps} steps"
    converged = not track.drifting and _missing(track, ess) <= 0
    if converged:
        reason = f"reached {worth}"
    elif track.drifting:
        reason = f"the walkers still drift after {steps} steps; raise max_steps or start nearer to the target"
    else:
        reason = f"stopped by the limit of steps or time with {worth}, short of {ess:.0f}"
    return Chain(
        samples=thinned.x.reshape(len(order), -1)[order],
        log_density=thinned.log_density.ravel()[order],
        autocorrelation_time=track.times,
        ess=thinned.ess(),
        acceptance=acceptance,
        burn_in=burn_in,
        steps=steps,
        converged=converged,
        reason=reason,
    )


def _initial_state(density: _Density, walkers: NDArray, rng: np.random.Generator) -> State:
    u = density.coordinates.forward(walkers)
    value = density(u)
    if not np.all(np.isfinite(value)):
        msg = (
            f"every walker must start at a finite log density, got -inf at {walkers[np.isneginf(value)][0].tolist()} "
            f"and {np.isneginf(value).sum() - 1} others"
        )
        raise ValueError(msg)
    seeded = np.random.RandomState(np.random.MT19937(rng.integers(2**32, size=4).tolist()))
    return State(u, log_prob=value, random_state=seeded.get_state())


def _checked_start(start: ArrayLike) -> NDArray:
    walkers = np.array(start, dtype=float)
    if walkers.ndim != 2 or not np.all(np.isfinite(walkers)):
        msg = f"start must be finite with shape (walkers, d), got shape {walkers.shape}"
        raise ValueError(msg)
    if len(walkers) < 2 * walkers.shape[1] + 2:
        msg = f"start needs at least 2 d + 2 = {2 * walkers.shape[1] + 2} walkers, got {len(walkers)}"
        raise ValueError(msg)
    if np.any(np.ptp(walkers, axis=0) == 0):
        msg = f"walkers must differ in every parameter, got no spread in parameter {np.ptp(walkers, axis=0).argmin()}"
        raise ValueError(msg)
    return walkers
