"""The result of a run from its folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from surrogate.arrays import default_float_errors
from surrogate.executors.blas import one_thread
from surrogate.inference.conclusion import conclude
from surrogate.inference.driving.saved import load_origin, load_prior, load_state
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.nuisances import with_amplitudes
from surrogate.inference.result import Result
from surrogate.inference.setup import Setup
from surrogate.inference.state import State
from surrogate.problem.nuisances import Nuisances
from surrogate.problem.observables import Observables
from surrogate.problem.prior import Prior
from surrogate.problem.target import Posterior
from surrogate.storage.folder import RunFolder

__all__ = ["load_result"]


@default_float_errors()
def load_result(
    folder: str | os.PathLike[str], *, n_samples: int = 10_000, prior: Any = None, target: Observables | None = None
) -> Result:
    """The result of a run in a folder, finished or not, by sampling its surrogate without calling the likelihood.

    Args:
        folder: Output folder of the run.
        n_samples: Effective number of independent draws.
        prior: The prior, needed only if it has distributions that are not from scipy.
        target: The ``Observables``, needed only for a run of them; the simulator is not called.

    Raises:
        ValueError: If the folder holds no run, a damaged one, a run without a surrogate yet, or a run of
            ``Observables`` and there is no target.
    """
    place = RunFolder(Path(folder).absolute())
    asked = Prior.of(prior) if prior is not None else load_prior(place) if place.state_path.exists() else None
    state = None if asked is None else load_state(place, asked)
    if asked is None or state is None:
        msg = f"{place.path} holds no run"
        raise ValueError(msg)
    posterior = None if target is None else Posterior(target, asked)
    nuisances = _integrated(place, state, asked, posterior)
    inner = posterior if nuisances is None else nuisances.marginal
    loop = PosteriorLoop(Setup(asked) if inner is None else Setup(inner.prior, observables=inner.observables))
    with one_thread():
        result = _concluded(place, loop, state, n_samples)
        result = with_amplitudes(nuisances, replace(result, target=posterior), state.seed)
    return replace(result, record=replace(result.record, origin=load_origin(place)))


def _integrated(place: RunFolder, state: State, prior: Prior, posterior: Posterior | None) -> Nuisances | None:
    """The amplitudes that the run has integrated out; None if there are none, or the run has sampled them."""
    if posterior is not None:
        return Nuisances.of(posterior) if state.data.d < prior.d else None
    of_outputs = state.parameters is not None and state.parameters.of_outputs
    if of_outputs or state.data.d < prior.d:
        msg = (
            f"{place.path} holds a run of a simulator's outputs: pass its Observables again, load_result(..., target=)"
        )
        raise ValueError(msg)
    return None


def _concluded(place: RunFolder, loop: PosteriorLoop, state: State, n_samples: int) -> Result:
    """The result, or ValueError if numbers of the state give none: damaged ones may have any size."""
    try:
        with np.errstate(all="ignore"):  # the result is checked instead
            result = conclude(loop, state, state.verdict.reason, n_samples)
        _check_numbers(result)
    except (ArithmeticError, torch.linalg.LinAlgError) as error:
        msg = f"no surrogate can be built from {place.state_path} ({error}): restore it from a copy, or remove it"
        raise ValueError(msg) from error
    return result


def _check_numbers(result: Result) -> None:
    """Raises FloatingPointError unless samples and their densities are finite, and a probability is one."""
    hidden = result.record.check.get("hidden_mode", np.nan)
    if hidden < 0.0 or hidden > 1.0:  # NaN without a search for further modes
        msg = f"{hidden:g} as the probability of a further mode"
        raise FloatingPointError(msg)
    if not (np.isfinite(result.samples).all() and np.isfinite(result.log_posterior).all()):
        msg = "samples that are not finite"
        raise FloatingPointError(msg)
