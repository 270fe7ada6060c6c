"""Marginal likelihoods of y = s (g(x) + sqrt(eta) e): exact, iterative, of basis functions, and by minibatches.

g is a stationary process of unit variance with one lengthscale per dimension and e is white, so that the covariance of
y is s^2 K with K = k(X, X) + eta I. The output scale s is profiled, s^2 = y.K^-1 y / n, which leaves

    theta = (log eta, log l_1, ..., log l_d),     NLL = n/2 (log 2 pi s^2 + 1) + 1/2 log|K|,

and turns the flat valleys that noise and output scale have together into one well-posed coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from surrogate.kernels.trend import Trend
from surrogate.linalg.stationary import Stationary
from surrogate.models.gp import GPRecipe, TrainingSet, negative_log_marginal

__all__ = [
    "Fit",
    "Objective",
    "ScalePrior",
    "exact_marginal",
    "maximise",
    "rescued",
]

Array = NDArray[np.float64]
Objective = Callable[[Array], tuple[float, Array]]


@dataclass(frozen=True)
class ScalePrior:
    """Weak independent normal priors on log eta and on the log-lengthscales, with bounds.

    Attributes:
        eta_sd: Of log eta, about log 0.01: twelve decades lie within three standard deviations.
        lengthscale_sd: Of log l, about log sqrt(d), for inputs of unit variance: a column that says nothing may get a
            lengthscale of a hundred for some five nats.
        eta_bounds: Of eta. The floor bounds the condition number of K by about n / eta.
        lengthscale_bounds: Of l.
    """

    eta_sd: float = 4.5
    lengthscale_sd: float = 1.5
    eta_bounds: tuple[float, float] = (1e-10, 1e3)
    lengthscale_bounds: tuple[float, float] = (5e-3, 1e3)

    def bounds(self, d: int) -> Array:
        """Bounds of theta, with shape (d + 1, 2)."""
        return np.log(np.array([self.eta_bounds, *([self.lengthscale_bounds] * d)]))

    def centre(self, d: int) -> Array:
        """The mean of the prior, with shape (d + 1,): where a fit starts cold."""
        return np.array([math.log(0.01), *([0.5 * math.log(d)] * d)])

    def penalty(self, theta: Array) -> tuple[float, Array]:
        """Negative log density up to a constant, and its gradient."""
        d = len(theta) - 1
        precision = np.array([self.eta_sd**-2, *([self.lengthscale_sd**-2] * d)])
        pull = precision * (theta - self.centre(d))
        return 0.5 * float(pull @ (theta - self.centre(d))), pull


def exact_marginal(
    kernel: Stationary, x: Tensor, y: Tensor, theta: Array, *, noise: float | None = None
) -> tuple[float, Array]:
    """Negative log marginal likelihood in nats and its gradient, by a Cholesky factor: O(n^3), five n x n matrices.

    The process of ``surrogate.models.gp`` with a nugget of one and an amplitude a = eta^-1/2: the same density, with
    the noise as the unit. A constant with a wide prior is added to the mean.

    Args:
        kernel: Correlation function.
        x: With shape (n, d), float64.
        y: With shape (n,).
        theta: (log eta, log l_1, ..., log l_d), natural logarithms.
        noise: Noise variance where it is known: then s^2 = noise / eta instead of the profiled one.

    Raises:
        torch.linalg.LinAlgError: If K is not positive definite in floating point.
    """
    zero = torch.zeros_like(y)
    recipe = GPRecipe(kernel, Trend("constant"), nugget=1.0, device=x.device)
    scale = [] if noise is None else [0.5 * math.log(noise)]
    vector = np.concatenate([[-0.5 * theta[0], -300.0], theta[1:], scale])
    value, gradient = negative_log_marginal(recipe, TrainingSet(x, y, zero, zero), vector)
    return value, np.concatenate([[-0.5 * gradient[0]], gradient[2 : len(theta) + 1]])


def rescued(objective: Objective, log: list[float]) -> Objective:
    """The objective with eta raised tenfold as often as the Cholesky factorisation needs it; the etas go into ``log``.

    An infinite value would end the line search of L-BFGS-B, which then reports convergence at a useless point.
    """

    def value(theta: Array) -> tuple[float, Array]:
        for power in range(13):
            raised = theta + np.eye(1, len(theta))[0] * power * math.log(10.0)
            try:
                out = objective(raised)
            except torch.linalg.LinAlgError:
                continue
            if math.isfinite(out[0]) and np.isfinite(out[1]).all():
                if power:
                    log.append(float(np.exp(raised[0])))
                return out
        msg = f"the covariance cannot be factored even with eta = {math.exp(raised[0]):g}: are all inputs finite?"
        raise FloatingPointError(msg)

    return value


@dataclass(frozen=True, eq=False)
class Fit:
    """Hyperparameters at a maximum of a marginal likelihood.

    Attributes:
        theta: (log eta, log l_1, ..., log l_d).
        value: The objective there, negative log posterior in nats.
        n_evaluations: How often it was evaluated.
        n_rescues: How many evaluations needed a raised eta.
        status: What the optimiser said.
    """

    theta: Array
    value: float
    n_evaluations: int
    n_rescues: int
    status: str

    @property
    def eta(self) -> float:
        """Noise variance in units of the squared output scale."""
        return math.exp(self.theta[0])

    @property
    def lengthscale(self) -> Array:
        """With shape (d,)."""
        return np.exp(self.theta[1:])


def maximise(
    objective: Objective,
    start: Array,
    *,
    prior: ScalePrior,
    max_evaluations: int = 60,
    tolerance: float = 1e-9,
) -> Fit:
    """The maximum a posteriori theta reached from ``start`` by L-BFGS-B with rescue.

    Args:
        objective: Negative log likelihood and gradient.
        start: With shape (d + 1,).
        prior: Prior and bounds of theta.
        max_evaluations: Limit of the optimiser.
        tolerance: Relative decrease of the objective at which to stop.

    Raises:
        FloatingPointError: If the objective is not finite with any noise.
    """
    bounds = prior.bounds(len(start) - 1)
    log: list[float] = []
    safe = rescued(objective, log)

    def posterior(theta: Array) -> tuple[float, Array]:
        value, gradient = safe(theta)
        penalty, pull = prior.penalty(theta)
        return value + penalty, gradient + pull

    result = minimize(
        posterior,
        np.clip(start, bounds[:, 0], bounds[:, 1]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxfun": max_evaluations, "maxcor": 20, "ftol": tolerance},
    )
    return Fit(np.asarray(result.x), float(result.fun), int(result.nfev), len(log), str(result.message))
