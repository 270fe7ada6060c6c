"""The outputs of a simulator at the end of a run: as functions of the parameters, and at draws of the posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.log_density.composite.emulator import OutputEmulator, emulate_outputs
from surrogate.log_density.composite.model import CompositeLogDensity
from surrogate.rng import generator

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["outputs_of", "predictive_draws"]


_DRAWS = 2000  # of the posterior, whose covariance sets the coordinates


def outputs_of(result: Result) -> OutputEmulator:
    """All outputs as functions of the parameters, see ``Result.observables``.

    Raises:
        ValueError: If the run learned no outputs.
    """
    model = getattr(result.emulator, "model", None)
    if not isinstance(model, CompositeLogDensity):
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
