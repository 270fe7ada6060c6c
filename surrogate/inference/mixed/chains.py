"""The final draws of a run with categories and integers: a chain for each level, in proportion to its probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array
from surrogate.inference.mixed.sampling import LevelSamples
from surrogate.inference.mixed.slices import at_level
from surrogate.inference.view import View
from surrogate.samplers.bridge import Bridge
from surrogate.samplers.ensemble import Chain
from surrogate.samplers.evidence import ImportanceSample

__all__ = ["chain_of_levels"]

MakeChain = Callable[[View, ImportanceSample, int, float | None], Chain]
MakeBridge = Callable[[View, Chain], Bridge]

_CHAINED = 0.01  # probability above which a level has a chain; other levels are resampled from weighted draws
_LEAST_ESS = 400  # smallest effective number of draws of a chain: moments to 5 % of an sd


def chain_of_levels(
    view: View,
    samples: LevelSamples,
    n: int,
    make_chain: MakeChain,
    make_bridge: MakeBridge,
    *,
    max_seconds: float | None,
) -> tuple[Chain, Bridge]:
    """Draws of all levels as one chain, and the evidence by bridges from the chains of levels.

    Args:
        view: The last view of a run.
        samples: Weighted draws of the levels.
        n: Effective number of draws.
        make_chain: Function of a level's view, its weighted draws, an effective number and seconds that gives its
            chain.
        make_bridge: Function of a level's view and its chain that gives its evidence.
        max_seconds: Time limit of all chains together.
    """
    levels, p = samples.levels, samples.probability
    chains, bridges = {}, {}
    for level, sample in zip(map(int, samples.live), samples.samples, strict=True):
        if p[level] < min(_CHAINED, p.max()):
            continue
        own, shift = at_level(view, level), _shift(view, level)
        ess, seconds = (
            max(int(n * p[level]), _LEAST_ESS),
            None if max_seconds is None else max_seconds * float(p[level]),
        )
        chains[level] = make_chain(own, replace(sample, log_density=sample.log_density - shift), ess, seconds)
        bridge = make_bridge(own, chains[level])
        bridges[level] = replace(bridge, log_integral=bridge.log_integral + shift)
    total = min(len(chain.samples) / p[level] for level, chain in chains.items())
    rng, x, log_density = view.rng("final levels"), [], []
    for level, sample in zip(map(int, samples.live), samples.samples, strict=True):
        count = round(total * p[level])
        if level in chains:
            rows = rng.permutation(len(chains[level].samples))[:count]
            draws, heights = chains[level].samples[rows], chains[level].log_density[rows] + _shift(view, level)
        else:
            rows = rng.choice(len(sample.x), count, p=sample.weights) if len(sample.x) else np.empty(0, dtype=np.int64)
            draws, heights = sample.x[rows], sample.log_density[rows]
        x.append(levels.points(draws, level))
        log_density.append(heights + levels.log_prior[level])
    order = rng.permutation(sum(map(len, x)))
    combined = _combine(chains, p, len(levels.columns))
    chain = replace(combined, samples=np.concatenate(x)[order], log_density=np.concatenate(log_density)[order])
    return chain, _bridge_of(samples, bridges)


def _shift(view: View, level: int) -> float:
    """Reference log-likelihood of a level's view, minus that of all levels."""
    return at_level(view, level).model.y_max - view.model.y_max


def _combine(chains: dict[int, Chain], p: Array, k: int) -> Chain:
    """A chain with the diagnostics of all chains together, but not yet their draws."""
    longest = np.max([chain.autocorrelation_time for chain in chains.values()], axis=0)
    bad = [chain.reason for chain in chains.values() if not chain.converged]
    share = {level: float(p[level]) for level in chains}
    return Chain(
        np.empty((0, 0)),
        np.empty(0),
        np.concatenate([longest, np.ones(k)]),
        min(chain.ess / share[level] for level, chain in chains.items()),
        float(np.mean([chain.acceptance for chain in chains.values()])),
        max(chain.burn_in for chain in chains.values()),
        sum(chain.steps for chain in chains.values()),
        not bad,
        "; ".join(dict.fromkeys(bad)) if bad else next(iter(chains.values())).reason,
    )


def _bridge_of(samples: LevelSamples, bridges: dict[int, Bridge]) -> Bridge:
    """The evidence of all levels, by bridges if available and otherwise by importance sampling."""
    value, error = samples.log_evidence, samples.sampling_error
    for level, bridge in bridges.items():
        value[level], error[level] = bridge.log_integral, bridge.log_integral_error
    log_weights = value + samples.levels.log_prior
    total = float(logsumexp(log_weights))
    share = np.exp(log_weights - total)
    return Bridge(total, float(np.linalg.norm(np.where(share > 0.0, share * error, 0.0))))
