"""The choice of a kernel and of its hyperparameters, for few points or a million."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.evidence.exact import exact_marginal
from surrogate.gp.evidence.neighbours import NeighbourLikelihood
from surrogate.gp.scales import Fit, Process, ScalePrior, maximise
from surrogate.linalg.stationary import CORRELATIONS

__all__ = ["choose_process"]


_PILOT = 800  # points that choose among kernels where there are more than EXACT_FIT
EXACT_FIT = 1500
"""Points up to which all count in full in the marginal likelihood."""
_TARGETS, _NEIGHBOURS = 1500, 64  # of the likelihood by neighbours
# Least noise variance of rough kernels, in units of the variance that is left at a point given its neighbours.
_FLOOR = {"matern12": 0.05, "matern32": 0.05}
CALIBRATION = 1024
"""Points whose errors set the scale."""


def choose_process(
    x: Tensor, y: Tensor, *, kernels: tuple[str, ...], noise: float | None, generator: torch.Generator
) -> Process:
    """The kernel with the most evidence and its hyperparameters, for standardised x and y.

    All kernels are fitted to a random subset of the points by the exact marginal likelihood. Up to 1,500 points the
    best is then fitted to all of them. Beyond that the two best go on with ``NeighbourLikelihood``, at the density of
    the full data set: a subset is sparser than the data, and where no kernel is quite right its lengthscales come out
    too long and its noise too large. On 3,000 points of a protein data set the negative log density of 2,000 others was
    0.98 nats a point from a subset of 1,000, 0.83 from neighbours, and 0.83 from the marginal likelihood of all, which
    took eight times as long.

    Noise that is estimated is not let below a twentieth of the variance that a point has given its neighbours where the
    kernel is Matern 1/2 or 3/2: less cannot be told from their roughness, and an input that repeats with another output
    would be out by tens of standard deviations. One such row in 4,000 of the protein data, at n = 3,000, made the mean
    negative log density 1.02 instead of 0.93, while a floor five times lower gained the others 0.01.

    Args:
        x: With shape (n, d), float64.
        y: With shape (n,).
        kernels: Names to choose from.
        noise: Noise variance where it is known, 0 for exact values.
        generator: Draws the subsets; on the CPU.

    Raises:
        FloatingPointError: If a kernel matrix cannot be factored with any noise.
    """
    n = len(y)
    least = max(n, 10) * torch.finfo(torch.float64).eps
    prior = ScalePrior(eta_bounds=(least, least if noise == 0.0 else 1e3))
    known = noise or None
    order = torch.randperm(n, generator=generator).to(x.device)
    pilot = order[: min(n, _PILOT if n > EXACT_FIT else max(n // 3, 200))]
    fits = {name: _fit_exact(name, x[pilot], y[pilot], prior, known) for name in kernels}
    ranked = sorted(kernels, key=lambda name: fits[name].value)
    if n > EXACT_FIT:
        process = _choose_by_neighbours(x, y, {name: fits[name] for name in ranked[:2]}, prior, known, order)
    else:
        name = ranked[0]
        fit = fits[name] if len(pilot) == n else _fit_exact(name, x, y, prior, known, start=_noisier(fits[name].theta))
        process = _process(name, fit, known, f"marginal likelihood of {n} points")
    return (
        process
        if noise is not None or n < 3 or process.kernel not in _FLOOR
        else _with_noise_floor(process, x, y, order)
    )


def _fit_exact(
    name: str, x: Tensor, y: Tensor, prior: ScalePrior, noise: float | None, start: Array | None = None
) -> Fit:
    """From ``start``, or from two starts, the second with more noise and longer lengthscales, where points are few."""
    centre = prior.centre(x.shape[1])
    starts = [centre, centre + np.array([3.0, *[1.0] * x.shape[1]])] if len(x) <= 200 else [centre]
    fits = [
        maximise(lambda theta: exact_marginal(CORRELATIONS[name], x, y, theta, noise=noise), begin, prior=prior)
        for begin in (starts if start is None else [start])
    ]
    return min(fits, key=lambda fit: fit.value)


def _noisier(theta: Array) -> Array:
    """Where to go on from a fit to fewer points: those may have had nothing to say of the noise.

    Noise falls within a few evaluations where it has to; from next to none the optimiser does not find back.
    """
    return np.concatenate([[max(theta[0], math.log(0.01))], theta[1:]])


def _process(name: str, fit: Fit, noise: float | None, origin: str) -> Process:
    scale = None if noise is None else math.sqrt(noise / fit.eta)
    rescued = f", {fit.n_rescues} evaluations with more noise" if fit.n_rescues else ""
    return Process(name, fit.eta, fit.lengthscale, scale, origin + rescued)


def _choose_by_neighbours(
    x: Tensor, y: Tensor, fits: dict[str, Fit], prior: ScalePrior, noise: float | None, order: Tensor
) -> Process:
    """Two rounds: neighbours by the lengthscales of the subset, then the better kernel by those of the first round."""
    m = min(_NEIGHBOURS, len(y) - 1)
    for k in range(2):
        targets = order.roll(-k * _TARGETS)[:_TARGETS]
        for name, fit in fits.items():
            likelihood = NeighbourLikelihood.of(
                CORRELATIONS[name], x, y, targets=targets, m=m, lengthscale=fit.lengthscale, noise=noise
            )
            start = _noisier(fit.theta)
            fits[name] = maximise(likelihood.objective, start, prior=prior, max_evaluations=30, tolerance=1e-6)
        best = min(fits, key=lambda each: fits[each].value)
        fits = {best: fits[best]}
    origin = f"predictions of {len(targets)} points from their {m} nearest of {len(y)}"
    return _process(best, fits[best], noise, origin)


def _with_noise_floor(process: Process, x: Tensor, y: Tensor, order: Tensor) -> Process:
    likelihood = NeighbourLikelihood.of(
        CORRELATIONS[process.kernel],
        x,
        y,
        targets=order[:CALIBRATION],
        m=min(_NEIGHBOURS, len(y) - 1),
        lengthscale=process.lengthscale,
    )
    theta = np.log([process.eta, *process.lengthscale])
    floor = _FLOOR[process.kernel] * float((likelihood.variance(theta) - process.eta).clamp(min=0.0).median())
    return replace(process, eta=max(process.eta, floor))
