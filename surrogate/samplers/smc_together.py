"""Sequential Monte Carlo for several densities at once, evaluated together in one call.

The method is that of ``surrogate.samplers.smc``; particles of different densities do not interact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array
from surrogate.samplers.smc import next_step, systematic_resample

__all__ = ["sample_tempered_together"]

LogDensities = Callable[[Array], Array]
"""A function from points with shape (k, n, d) to log densities with shape (k, n), one row per density."""

_BRIDGE_SWEEPS, _FINAL_SWEEPS = 3, 12  # sweeps after each reweighting, and at each temperature
_ESS_FRACTION = 0.5  # effective fraction of particles that each reweighting keeps
_MOST_BRIDGES = 40  # most reweightings per temperature; the last one covers all that remains


def _sweep(x: Array, value: Array, target: LogDensities, rng: np.random.Generator) -> None:
    """Moves every particle once by differential evolution among those of its density, in place."""
    k, n, d = x.shape
    order = np.argsort(rng.random((k, n)), 1)
    for mine, others in ((order[:, : n // 2], order[:, n // 2 :]), (order[:, n // 2 :], order[:, : n // 2])):
        m, count = mine.shape[1], others.shape[1]
        first = rng.integers(count, size=(k, m))
        second = (first + rng.integers(1, count, size=(k, m))) % count
        gamma = (2.38 / np.sqrt(2.0 * d)) * np.exp(0.4 * rng.standard_normal((k, m)))
        gamma[rng.random((k, m)) < 0.1] = 1.0
        step = gamma[..., None] * (_rows(x, _rows(others, first)) - _rows(x, _rows(others, second)))
        before, height = _rows(x, mine), _rows(value, mine)
        proposal = before + step * (1.0 + 1e-4 * rng.standard_normal((k, m, d)))
        new = target(proposal)
        keep = np.log(rng.random((k, m))) < new - height
        np.put_along_axis(x, mine[..., None], np.where(keep[..., None], proposal, before), 1)
        np.put_along_axis(value, mine, np.where(keep, new, height), 1)


def _rows(array: NDArray[Any], index: NDArray[Any]) -> NDArray[Any]:
    """Rows of each density, with shape (k, m) or (k, m, d), by an index with shape (k, m)."""
    return np.take_along_axis(array, index if array.ndim == 2 else index[..., None], 1)


def sample_tempered_together(
    log_density: LogDensities,
    start: Array,
    log_start: LogDensities,
    temperatures: Sequence[float],
    rng: np.random.Generator,
) -> list[Array]:
    """Draws of k densities exp(f / T) for each temperature in turn, highest first.

    Args:
        log_density: The functions f; -inf where a density vanishes.
        start: Draws of the starting densities, with shape (k, n, d).
        log_start: Logs of the starting densities at ``start``; these must be positive wherever exp(f) is.
        temperatures: Temperatures in descending order.
        rng: Random numbers.

    Returns:
        One array with shape (k, n, d) per temperature. A density that vanishes at all its starting points keeps them.
    """
    x = start.copy()
    f = np.where(np.isfinite(value := log_density(x)), value, -np.inf)
    hopeless = ~np.isfinite(f).any(1)
    f[hopeless] = 0.0
    out, previous = [], None
    base = log_start(x)
    for temperature in temperatures:
        beta = np.where(hopeless, 1.0, 0.0)[:, None]
        for bridge in range(_MOST_BRIDGES + 1):
            source = base if previous is None else f / previous
            increment = np.where(np.isfinite(f), f / temperature - source, -np.inf)
            for i in np.flatnonzero(beta[:, 0] < 1.0):
                left = 1.0 - float(beta[i, 0])
                step = next_step(increment[i], left, _ESS_FRACTION) if bridge < _MOST_BRIDGES else left
                index = systematic_resample(step * increment[i], x.shape[1], rng)
                x[i], f[i] = x[i, index], f[i, index]
                beta[i] = 1.0 if beta[i, 0] + step > 1.0 - 1e-9 else beta[i, 0] + step

            def target(p: Array, b: Array = beta, t: float = temperature, before: float | None = previous) -> Array:
                value = log_density(p)
                if (b == 1.0).all():
                    return value / t
                rest = log_start(p) if before is None else value / before
                return np.where(b == 1.0, value / t, b * value / t + (1.0 - b) * np.where(b == 1.0, 0.0, rest))

            arrived, current = bool((beta == 1.0).all()), target(x)
            current[hopeless] = 0.0
            for _ in range(_FINAL_SWEEPS if arrived else _BRIDGE_SWEEPS):
                _sweep(x, current, target, rng)
            f = np.where(hopeless.reshape(-1, 1), 0.0, log_density(x))
            if arrived:
                break
            base = log_start(x) if previous is None else base
        previous = temperature
        out.append(x.copy())
    return out
