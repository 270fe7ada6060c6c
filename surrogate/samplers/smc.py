"""Sequential Monte Carlo from a wide starting density to exp(f / T) at falling temperatures T.

Del Moral, Doucet & Jasra (2006), doi:10.1111/j.1467-9868.2006.00553.x, with half-ensemble differential-evolution
moves (ter Braak 2006, doi:10.1007/s11222-006-8769-1; Nelson, Ford & Payne 2014, doi:10.1088/0067-0049/210/1/11), which
are invariant under affine maps, need no gradients, and take one call of f for half of the particles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array, Indices

__all__ = ["next_step", "sample_tempered", "systematic_resample"]

LogDensity = Callable[[Array], Array]


def systematic_resample(log_weights: Array, n: int, rng: np.random.Generator) -> Indices:
    """n indices in proportion to the weights, by systematic resampling with a single uniform number."""
    edges = np.cumsum(np.exp(log_weights - logsumexp(log_weights)))
    return np.minimum(np.searchsorted(edges / edges[-1], (np.arange(n) + rng.random()) / n), len(edges) - 1)


def next_step(increment: Array, remaining: float, target: float) -> float:
    """The largest step t in (0, remaining] for which weights exp(t * increment) keep an ESS fraction of ``target``."""

    def fraction(t: float) -> float:
        w = np.exp(t * increment - (t * increment).max())
        return float(w.sum() ** 2 / (w**2).sum() / len(w))

    if fraction(remaining) >= target:
        return remaining
    low, high = 0.0, remaining
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fraction(middle) >= target else (low, middle)
    return max(low, 1e-6 * remaining)


def _sweep(x: Array, value: Array, target: LogDensity, rng: np.random.Generator) -> float:
    """Moves every particle once by differential evolution, in place, and returns the acceptance rate."""
    n, d = x.shape
    order = rng.permutation(n)
    accepted = 0
    for mine, others in ((order[: n // 2], order[n // 2 :]), (order[n // 2 :], order[: n // 2])):
        m = len(mine)
        first = rng.integers(len(others), size=m)
        second = (first + rng.integers(1, len(others), size=m)) % len(others)
        gamma = (2.38 / np.sqrt(2.0 * d)) * np.exp(0.4 * rng.standard_normal(m))
        gamma[rng.random(m) < 0.1] = 1.0
        step = gamma[:, None] * (x[others[first]] - x[others[second]])
        proposal = x[mine] + step * (1.0 + 1e-4 * rng.standard_normal((m, d)))
        new = target(proposal)
        keep = np.log(rng.random(m)) < new - value[mine]
        x[mine[keep]], value[mine[keep]] = proposal[keep], new[keep]
        accepted += int(keep.sum())
    return accepted / n


@dataclass(frozen=True, eq=False)
class _Bridge:
    """A log density between that of one temperature, or of the start, and that of the next: linear in beta.

    Attributes:
        log_density: f.
        log_start: Log of the starting density.
        previous: The higher temperature; None for the start.
        temperature: The lower one.
        beta: How far it is between them, 1 at the lower one.
    """

    log_density: LogDensity
    log_start: LogDensity
    previous: float | None
    temperature: float
    beta: float

    def __call__(self, x: Array) -> Array:
        value = self.log_density(x)
        if self.beta == 1.0:
            return value / self.temperature
        source = self.log_start(x) if self.previous is None else value / self.previous
        return self.beta * value / self.temperature + (1.0 - self.beta) * source


def _advance(beta: float, step: float) -> float:
    """How far a bridge is after a step; exactly 1 at its end."""
    return 1.0 if beta + step > 1.0 - 1e-9 else beta + step


def sample_tempered(
    log_density: LogDensity,
    start: Array,
    log_start: LogDensity,
    temperatures: Sequence[float],
    rng: np.random.Generator,
    *,
    bridge_sweeps: int = 3,
    final_sweeps: int = 12,
    ess_fraction: float = 0.5,
    max_bridges: int = 40,
) -> list[Array]:
    """Draws of exp(f / T) for each temperature in turn, highest first.

    Args:
        log_density: f, from (m, d) to (m,); -inf where the density vanishes.
        start: Draws of the starting density, with shape (n, d).
        log_start: Log of the starting density at ``start``; that density must be positive wherever exp(f) is.
        temperatures: Temperatures in descending order.
        rng: Random numbers.
        bridge_sweeps: Sweeps over all particles after each reweighting.
        final_sweeps: Sweeps at each temperature.
        ess_fraction: Effective fraction of particles that each reweighting keeps.
        max_bridges: Largest number of reweightings per temperature; the last one covers all that remains.

    Returns:
        One array with shape (n, d) per temperature, each after about 3 calls of f on n points per bridge and 12 at the
        end.

    Raises:
        ValueError: If no starting particle has a finite log density.
    """
    x = start.copy()
    f = log_density(x)
    if not np.isfinite(f).any():
        msg = "none of the starting points has a finite log density"
        raise ValueError(msg)
    f = np.where(np.isfinite(f), f, -np.inf)
    base = log_start(x)
    out = []
    previous: float | None = None
    for temperature in temperatures:
        beta, bridges = 0.0, 0
        while beta < 1.0:
            source = base if previous is None else f / previous
            increment = np.where(np.isfinite(f), f / temperature - source, -np.inf)
            step = next_step(increment, 1.0 - beta, ess_fraction) if bridges < max_bridges else 1.0 - beta
            index = systematic_resample(step * increment, len(x), rng)
            x, f, base = x[index], f[index], base[index]
            beta, bridges = _advance(beta, step), bridges + 1
            target = _Bridge(log_density, log_start, previous, temperature, beta)
            current = target(x)
            for _ in range(bridge_sweeps if beta < 1.0 else final_sweeps):
                _sweep(x, current, target, rng)
            f = log_density(x) if beta < 1.0 else current * temperature
            base = log_start(x) if previous is None and beta < 1.0 else base
        previous = temperature
        out.append(x.copy())
    return out
