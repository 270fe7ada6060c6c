"""A stationary process with its hyperparameters in units of its output scale: their prior and their search.

    y = s (g(x / l) + sqrt(eta) e),    covariance s^2 K,    K = k(X, X) + eta I.

The output scale s is profiled, s^2 = y.K^-1 y / n, which leaves

    theta = (log eta, log l_1, ..., log l_d),     NLL = n/2 (log 2 pi s^2 + 1) + 1/2 log|K|,

and turns the flat valleys that noise and output scale have together into one well-posed coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from surrogate.arrays import Array
from surrogate.linalg.operators import KernelOperator

__all__ = ["Fit", "Objective", "Process", "ScalePrior", "as_tensor", "maximise", "rescued"]


Objective = Callable[[Array], tuple[float, Array]]


@dataclass(frozen=True, eq=False)
class Process:
    """y = s (g(x / l) + sqrt(eta) e) about an unknown constant, g with the named kernel.

    Attributes:
        kernel: Name in ``surrogate.linalg.stationary.CORRELATIONS``.
        eta: Noise variance in units of s^2.
        lengthscale: l, with shape (d,).
        scale: s; None before it has been found from the data.
        origin: How the hyperparameters were found, for people.
    """

    kernel: str
    eta: float
    lengthscale: Array
    scale: float | None
    origin: str

    def operator(self, x: Tensor) -> KernelOperator:
        """The kernel matrix of the points x, in units of s^2."""
        scale = torch.as_tensor(self.lengthscale, dtype=torch.float64, device=x.device)
        return KernelOperator.of(self.kernel, x, lengthscale=scale)

    @property
    def noise_variance(self) -> float:
        """s^2 eta.

        Raises:
            ValueError: If the process has no scale yet.
        """
        return self.eta * self.variance

    @property
    def variance(self) -> float:
        """s^2.

        Raises:
            ValueError: If the process has no scale yet.
        """
        if self.scale is None:
            msg = "a process has a scale once it is conditioned on data, got None: take that of the posterior"
            raise ValueError(msg)
        return self.scale**2


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


def rescued(objective: Objective, log: list[float]) -> Objective:
    """The objective with eta raised tenfold as often as the Cholesky factorisation needs it; the etas go into ``log``.

    An infinite value would end the line search of L-BFGS-B, which then reports convergence at a useless point.
    """

    def value(theta: Array) -> tuple[float, Array]:
        """The objective at theta, or at the least of the raised etas at which it is finite."""
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
    tolerance: float = 1e-7,
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


def as_tensor(values: Array, like: Tensor) -> Tensor:
    """The values with the dtype and on the device of ``like``."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)
