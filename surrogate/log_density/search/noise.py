"""Undeclared noise of the values, estimated by evidence as an additional hyperparameter.

A process without noise explains scatter by a residual with short lengthscales, and a run never converges. The same
structure with a common noise sd v is fitted as well, and replaces the first once its score is higher by several nats.
If the values turn out to be smooth after all, v falls and is dropped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from surrogate.gp.trended import Hyperparameters
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.parameters import SurrogateParameters, trend_size
from surrogate.log_density.training import FitProblem

__all__ = ["NEGLIGIBLE_NOISE", "choose_noise"]


NEGLIGIBLE_NOISE = 0.02
"""Noise sd in nats below which a posterior does not notice it."""

_POINTS_PER_COEFFICIENT = 3  # of a quadratic, with fewer of which a curved density looks noisy: a ring of twelve points
_LITTLE, _MUCH = 0.3, 1.0  # sds in nats from which a fit starts: a little beside the residual, and all that scatters
_CALM = 2.5  # by which the log amplitude of the residual is lowered where noise takes its place: a twelfth of it
_EVALUATIONS = 30  # marginal likelihoods from each start: half of a fit, as the start is a fit


def choose_noise(problem: FitProblem, present: SurrogateParameters, *, margin: float = 8.0) -> SurrogateParameters:
    """The surrogate with or without a common noise sd, whichever explains the data better.

    On a Gaussian with noise of sd 1 in four dimensions the score of the noisy surrogate is 5 to 9 nats higher with 30
    to 46 points and then grows by about 0.6 a point. With fewer than three points per
    coefficient of a quadratic nothing is decided: twelve points of a ring look like noise. A noise sd in the present
    surrogate is tested again at each call, and dropped once it is negligible.

    Args:
        problem: Data that it was fitted to. If some values come with a noise sd of their own, nothing is done.
        present: The fitted surrogate.
        margin: Nats by which noise must win.

    Returns:
        ``present`` or another fit of its structure. One fit from three starts, at most.
    """
    hyper, data = present.hyper, problem.data
    if hyper.log_noise is not None:
        smooth = _fit(problem, present, (replace(hyper, log_noise=None),))
        keep = hyper.log_noise > np.log(NEGLIGIBLE_NOISE) and present.score > smooth.score - margin
        return present if keep else smooth
    few = int(data.finite.sum()) < _POINTS_PER_COEFFICIENT * trend_size(present.structure.warp.size)
    if few or present.exact or present.temperature > 1.0 or data.noise.any():
        return present
    noisy = _fit(problem, present, _starts(hyper))
    log_noise = noisy.hyper.log_noise
    matters = log_noise is not None and log_noise > np.log(NEGLIGIBLE_NOISE)
    return noisy if matters and noisy.score > present.score + margin else present


def _starts(hyper: Hyperparameters) -> tuple[Hyperparameters, ...]:
    """The hyperparameters with little noise, and with noise in place of most of the residual."""
    longest = np.maximum(hyper.log_lengthscale, np.log(2.0 * np.sqrt(len(hyper.log_lengthscale))))
    calm = replace(
        hyper, log_noise=float(np.log(_MUCH)), log_amplitude=hyper.log_amplitude - _CALM, log_lengthscale=longest
    )
    return replace(hyper, log_noise=float(np.log(_LITTLE))), calm


def _fit(problem: FitProblem, present: SurrogateParameters, starts: tuple[Hyperparameters, ...]) -> SurrogateParameters:
    return fit_structure(problem, present.structure, starts=starts, cold_start=True, max_evaluations=_EVALUATIONS)
