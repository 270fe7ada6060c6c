"""The outputs of a simulator after a run: as functions of the parameters, and at draws of the posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.arrays import Array
from surrogate.log_density.composite.emulator import OutputEmulator, emulate_outputs
from surrogate.log_density.composite.model import CompositeLogDensity
from surrogate.problem.gaussian_data import GaussianData
from surrogate.rng import generator

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["data_of", "learned_outputs", "outputs_of", "predictive_draws"]


_DRAWS = 2000  # draws of the posterior, whose covariance defines the coordinates


def learned_outputs(result: Result) -> bool:
    """Whether the run learned the outputs of a simulator rather than the log-likelihood."""
    return isinstance(getattr(result.emulator, "model", None), CompositeLogDensity)


def data_of(result: Result) -> dict[str, tuple[Array, Array]]:
    """Data and their standard deviations by output, if a run used ``GaussianData``; otherwise empty.

    Also empty for a loaded run, which does not know its data.
    """
    likelihood = getattr(result.target, "log_likelihood", None)
    compare = getattr(getattr(likelihood, "target", likelihood), "compare", None)
    if not isinstance(compare, GaussianData) or not learned_outputs(result):
        return {}
    draws = predictive_draws(result, 1, 0)
    sizes = [np.size(draws[name] if name else draws) for name in compare.names]
    ends = np.cumsum(sizes)
    return {
        name: (compare.y[end - size : end], compare.sd[end - size : end])
        for name, size, end in zip(compare.names, sizes, ends.tolist(), strict=True)
    }


def outputs_of(result: Result) -> OutputEmulator:
    """All outputs as functions of the parameters, see ``Result.observables``.

    Raises:
        ValueError: If the run learned no outputs.
    """
    model: Any = getattr(result.emulator, "model", None)
    if not learned_outputs(result):
        msg = "this run has learned the log-likelihood, not the outputs of a simulator: use surrogate.Observables"
        raise ValueError(msg)
    rng = generator(0, "output emulator")
    rows = rng.choice(len(result.weights), _DRAWS, p=result.weights)
    return emulate_outputs(model, result.samples[rows], result.names)


def predictive_draws(result: Result, n: int, seed: int) -> Any:
    """Outputs at n draws of the posterior, see ``Result.posterior_predictive``."""
    emulator, rng = outputs_of(result), generator(seed, "posterior predictive")
    rows = rng.choice(len(result.weights), n, p=result.weights)
    return emulator.layout.split(np.asarray(emulator.draw(result.samples[rows], rng)))
