"""Probabilities of levels with their errors, by joint paths of the surrogate at draws of each level."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from surrogate.inference.mixed.sampling import LevelSamples
from surrogate.log_density.protocol import LogDensity
from surrogate.output.probabilities import Probabilities
from surrogate.samplers.smc import systematic_resample

__all__ = ["level_probabilities"]

_PATHS = 64  # joint paths: errors are accurate to 9 %
_POINTS = 900  # draws of all levels at which paths are evaluated jointly, O(n^3)
_FEWEST, _MOST = 15, 60  # of these, per level


def level_probabilities(
    model: LogDensity, samples: LevelSamples, y_max: float, rng: np.random.Generator, *, inflate: float = 1.0
) -> Probabilities:
    """Evidences of all levels, and their joint deviations over paths of the surrogate.

    Args:
        model: The surrogate at temperature 1.
        samples: Weighted draws of each relevant level.
        y_max: Reference of log densities.
        rng: Random numbers.
        inflate: Factor on the variance of the paths.
    """
    levels = samples.levels
    n = int(np.clip(_POINTS // len(samples.live), _FEWEST, _MOST))
    chosen, places = [], []
    for level, sample in zip(samples.live, samples.samples, strict=True):
        if len(sample.x) == 0:
            continue
        with np.errstate(divide="ignore"):
            rows = systematic_resample(np.log(sample.weights), n, rng)
        chosen.append(levels.points(sample.x[rows], int(level)))
        places.append(int(level))
    deviation = model.deviations(np.concatenate(chosen), _PATHS, rng, inflate=inflate).reshape(_PATHS, len(places), n)
    paths = np.zeros((_PATHS, len(levels)))
    paths[:, places] = logsumexp(np.maximum(deviation, -700.0), axis=2) - np.log(n)
    return Probabilities(levels, samples.log_evidence + y_max, samples.sampling_error, paths)
