"""Undeclared noise of the values, estimated by evidence as an additional hyperparameter.

A process without noise explains scatter by a residual with short lengthscales, so the run never converges. Therefore
the same structure is also fitted with a common noise sd v, and replaces the first if its score is higher by several
nats. If the values turn out to be smooth, v falls and is dropped.
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
"""Noise sd in nats below which noise is negligible for a posterior."""

_POINTS_PER_COEFFICIENT = (
    3  # points per coefficient of a quadratic below which a curved density, such as a ring, looks noisy
)
_LITTLE, _MUCH = (
    0.3,
    1.0,
)  # initial noise sds in nats: a little noise besides the residual, and noise that explains all scatter
_CALM = 2.5  # decrease of the residual's log amplitude if noise replaces it: to a twelfth
_EVALUATIONS = 30  # evaluations from each start: half of a full fit, because the start is already fitted


def choose_noise(problem: FitProblem, present: SurrogateParameters, *, margin: float = 8.0) -> SurrogateParameters:
    """The parameters with or without a common noise sd, whichever explain the data better.

    On a Gaussian with noise of sd 1 in four dimensions the score of the noisy surrogate is 5 to 9 nats higher with 30
    to 46 points and then grows by about 0.6 a point. With fewer than three points per coefficient of a quadratic no
    decision is made, because twelve points of a ring look like noise. A noise sd in the current surrogate is tested at
    each call and dropped if negligible.

    Args:
        problem: Data of the current fit. If some values have a declared noise sd, nothing is done.
        present: The fitted surrogate.
        margin: Nats by which noise must win.

    Returns:
        ``present`` or another fit of its structure, after at most one fit from three starts.
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
    """The hyperparameters with little noise, and with noise instead of most of the residual."""
    longest = np.maximum(hyper.log_lengthscale, np.log(2.0 * np.sqrt(len(hyper.log_lengthscale))))
    calm = replace(
        hyper, log_noise=float(np.log(_MUCH)), log_amplitude=hyper.log_amplitude - _CALM, log_lengthscale=longest
    )
    return replace(hyper, log_noise=float(np.log(_LITTLE))), calm


def _fit(problem: FitProblem, present: SurrogateParameters, starts: tuple[Hyperparameters, ...]) -> SurrogateParameters:
    return fit_structure(problem, present.structure, starts=starts, cold_start=True, max_evaluations=_EVALUATIONS)
