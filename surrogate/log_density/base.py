"""Common base of all surrogates: properties of the fit, and a smooth mean combined with feasibility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from surrogate.arrays import Array
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.gp.trended import Hyperparameters
from surrogate.linalg.composed import Correlated, PosteriorAccess
from surrogate.linalg.stationary import CORRELATIONS
from surrogate.log_density.feasibility.protocol import Feasibility
from surrogate.log_density.protocol import Parameters

__all__ = ["LogDensityBase", "discounted", "limited", "posterior_access"]


P = TypeVar("P", bound=Parameters)

_HIGHEST_BEYOND = 3.0  # largest value, in nats above the best evaluation, where points are probably infeasible
_PROBABLY_INFEASIBLE = 0.5  # probability of being feasible below which this holds


def limited(value: Array, probability: Array) -> Array:
    """Values of a smooth mean, limited to 3 where the probability of being feasible is below 1/2, with shape (m,).

    Otherwise the mean of a process may rise without limit beyond a cliff. A quadratic through two narrow crescents rose
    by 60 nats between them; a feasibility of 1 % lowered it by only 5, and all draws lay there.
    """
    return np.where(probability < _PROBABLY_INFEASIBLE, np.minimum(value, _HIGHEST_BEYOND), value)


def discounted(value: Array, probability: Array, floor: float) -> Array:
    """The result of ``limited`` plus the log of the probability or of ``floor`` if that is larger, with shape (m,)."""
    with np.errstate(divide="ignore"):
        return limited(value, probability) + np.log(np.maximum(probability, floor))


def posterior_access(gp: CholeskyPosterior, kernel: str, hyper: Hyperparameters, u: Array) -> PosteriorAccess:
    """Posterior covariance of a process at u, with shape (m, m), in units of its squared scale; O(m n (n + p)) once.

    Args:
        gp: The process given the data.
        kernel: Name of the kernel of its residual.
        hyper: Its hyperparameters.
        u: Whitened coordinates, with shape (m, d).
    """
    half, left = gp.features(u)
    z = torch.as_tensor(u / np.exp(hyper.log_lengthscale), device=gp.u.device)
    return PosteriorAccess(Correlated(CORRELATIONS[kernel], z, float(np.exp(hyper.log_amplitude)) ** 2), half, left)


@dataclass(frozen=True, eq=False)
class LogDensityBase(Generic[P]):
    """Common base class of fitted surrogates.

    Attributes:
        parameters: Parameters that define the surrogate.
        feasibility: Classifier of feasible points, in whitened coordinates.
        y_max: Largest log-likelihood among the data.
        infeasible: Points that count as infeasible, with shape (k, e) in whitened coordinates.
    """

    parameters: P
    feasibility: Feasibility
    y_max: float
    infeasible: Array

    @property
    def temperature(self) -> float:
        """Values are (y - y_max) / temperature."""
        return self.parameters.temperature

    @property
    def exact(self) -> bool:
        """Whether polynomials alone explain the data."""
        return self.parameters.exact

    @property
    def coarse(self) -> bool:
        """Whether the fit explains deep points by noise of more than a tenth of their depth."""
        return self.parameters.coarse
