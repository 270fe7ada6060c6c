"""Processes in units of their output scale, for many points, and priors and fits of stationary ones.

    y = s (g(x / l) + sqrt(eta) e),    covariance s^2 K,    K = k(X, X) + eta R,

where R is the identity, or the diagonal of the points' noise variances divided by their mean.

The output scale s is profiled, s^2 = y.K^-1 y / n, which leaves

    theta = (log eta, log l_1, ..., log l_d),     NLL = n/2 (log 2 pi s^2 + 1) + 1/2 log|K|,

and replaces the flat valley of noise and output scale by a single well-determined coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp import optimise
from surrogate.gp.composition import Kernel
from surrogate.gp.kernels import STATIONARY, Points, stationary_part
from surrogate.gp.means import Polynomial
from surrogate.gp.noise import Nugget
from surrogate.gp.optimise import Fit
from surrogate.gp.parameters import Priors
from surrogate.gp.process import Process
from surrogate.linalg.stationary import Stationary

__all__ = [
    "CALIBRATION",
    "Evidence",
    "Objective",
    "Observations",
    "ScaleFit",
    "ScalePrior",
    "ScaledProcess",
    "as_tensor",
    "maximise",
    "scale_and_size",
    "scale_terms",
]

CALIBRATION = 1024
"""Number of points whose errors set the output scale if there are too many points."""


Objective = Callable[[Array], tuple[float, Array]]
"""Function of theta that gives a negative log likelihood in nats and its gradient."""


class Evidence(Protocol):
    """A marginal likelihood of given data, as a function of the hyperparameters."""

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Negative log likelihood in nats and its gradient with respect to (log eta, log l_1, ..., log l_d).

        Raises:
            torch.linalg.LinAlgError: If the covariance is not positive definite in floating point.
        """


@dataclass(frozen=True, eq=False)
class Observations:
    """Points with their values.

    Attributes:
        x: Points, with shape (n, d).
        y: Values, with shape (n,).
        relative_noise: Positive noise variance of each point divided by their mean, with shape (n,); None if all are
            equal.
        constant: Mean of the process if known; None to estimate it from the values.
    """

    x: Tensor
    y: Tensor
    relative_noise: Tensor | None = None
    constant: float | None = None

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, index: Tensor) -> Observations:
        """Some of the points."""
        relative = None if self.relative_noise is None else self.relative_noise[index]
        return Observations(self.x[index], self.y[index], relative, self.constant)

    def noise(self, eta: float) -> float | Tensor:
        """The diagonal of eta R: eta itself, or variances with shape (n,)."""
        return eta if self.relative_noise is None else eta * self.relative_noise

    def level(self, eta: float) -> float:
        """The constant if known, otherwise the mean of the values weighted by 1 / (1 + eta R)."""
        if self.constant is not None:
            return self.constant
        if self.relative_noise is None:
            return float(self.y.mean())
        weight = 1.0 / (1.0 + eta * self.relative_noise)
        return float((weight * self.y).sum() / weight.sum())

    def add_noise(self, k: Tensor, eta: float) -> Tensor:
        """Adds eta R to a stored matrix k(X, X), which is overwritten."""
        k.diagonal().add_(self.noise(eta))
        return k

    def times_noise(self, v: Tensor, eta: float) -> Tensor:
        """eta R v, for v with shape (n,) or (n, k)."""
        noise = self.noise(eta)
        return (noise[:, None] if isinstance(noise, Tensor) and v.ndim == 2 else noise) * v


class ScaledProcess(Process):
    """A process about an unknown constant whose noise is a nugget: y = s (g(x) + sqrt(eta) e).

    The solvers for many points take a process in this form, and find its constant and its scale from the data.

    Attributes:
        eta: Noise variance in units of s^2.
        scale: s; None before it has been found from the data.
        origin: How the hyperparameters were found, as text.
    """

    def __init__(self, kernel: Kernel, eta: float, scale: float | None, origin: str) -> None:
        """Sets the covariance function of g, the noise, the scale and their origin."""
        super().__init__(kernel, Polynomial("constant"), Nugget(eta), scale=scale)
        self.eta = eta
        self.scale = scale
        self.origin = origin

    def with_(self, **changes: Any) -> ScaledProcess:
        """A copy with another kernel, eta, scale or origin."""
        own: dict[str, Any] = {"kernel": self.kernel, "eta": self.eta, "scale": self.scale, "origin": self.origin}
        return ScaledProcess(**own | changes)

    def with_vector(self, vector: Array) -> ScaledProcess:
        """See ``Parametric``."""
        log_scale, of_kernel, _ = self.split(np.asarray(vector, dtype=np.float64))
        scale = None if log_scale is None else math.exp(log_scale)
        return self.with_(kernel=self.kernel.with_vector(of_kernel), scale=scale)

    def raised(self, factor: float) -> ScaledProcess:
        """See ``Process``."""
        return self.with_(eta=self.eta * factor)

    @classmethod
    def of(cls, name: str, eta: float, lengthscale: Array, scale: float | None, origin: str) -> ScaledProcess:
        """The process with a stationary kernel named in ``surrogate.gp.kernels.STATIONARY``."""
        return cls(STATIONARY[name](lengthscale), eta, scale, origin)

    @property
    def correlation(self) -> Stationary:
        """The correlation function of a stationary kernel.

        Raises:
            TypeError: If the kernel is not stationary.
        """
        return stationary_part(self.kernel).function

    @property
    def lengthscale(self) -> Array:
        """Lengthscales of a stationary kernel, with shape (d,).

        Raises:
            TypeError: If the kernel is not stationary.
        """
        return stationary_part(self.kernel).lengthscale

    def operator(self, x: Tensor) -> Any:
        """The kernel matrix of the points x, in units of s^2; see ``Kernel.operator``."""
        return self.kernel.operator(Points(x))

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
            msg = "the process has no output scale before it is conditioned on data: use posterior.process"
            raise ValueError(msg)
        return self.scale**2


@dataclass(frozen=True)
class ScalePrior:
    """Weak independent normal priors on log eta and on the log-lengthscales, with bounds.

    Attributes:
        eta_sd: Standard deviation of log eta, about log 0.01: twelve decades lie within three standard deviations.
        lengthscale_sd: Standard deviation of log l, about log sqrt(d), for inputs of unit variance; an irrelevant
            column may get a lengthscale of a hundred at a cost of about five nats.
        eta_bounds: Bounds of eta. The lower bound limits the condition number of K to about n / eta.
        lengthscale_bounds: Bounds of l.
    """

    eta_sd: float = 4.5
    lengthscale_sd: float = 1.5
    eta_bounds: tuple[float, float] = (1e-10, 1e3)
    lengthscale_bounds: tuple[float, float] = (5e-3, 1e3)

    def priors(self, d: int) -> Priors:
        """The priors and bounds of the entries of theta, log eta and d log-lengthscales, as arrays."""
        low, high = np.log(np.array([self.eta_bounds, *([self.lengthscale_bounds] * d)])).T
        precision = np.array([self.eta_sd**-2, *([self.lengthscale_sd**-2] * d)])
        return Priors(self.centre(d), precision, low, high)

    def centre(self, d: int) -> Array:
        """The mean of the prior, with shape (d + 1,), where a cold fit starts."""
        return np.array([math.log(0.01), *([0.5 * math.log(d)] * d)])


@dataclass(frozen=True, eq=False)
class ScaleFit(Fit):
    """A maximum of a marginal likelihood whose vector is theta = (log eta, log l_1, ..., log l_d)."""

    @property
    def eta(self) -> float:
        """Noise variance in units of the squared output scale."""
        return math.exp(self.vector[0])

    @property
    def lengthscale(self) -> Array:
        """Lengthscales, with shape (d,)."""
        return np.exp(self.vector[1:])


def maximise(
    objective: Objective,
    start: Array,
    *,
    prior: ScalePrior,
    max_evaluations: int = 60,
    tolerance: float = 1e-7,
) -> ScaleFit:
    """The maximum a posteriori fit reached from ``start`` by L-BFGS-B with rescue.

    Args:
        objective: Negative log likelihood and gradient.
        start: Initial theta, with shape (d + 1,).
        prior: Prior and bounds of theta.
        max_evaluations: Limit of the optimiser.
        tolerance: Relative decrease of the objective at which to stop.

    Raises:
        FloatingPointError: If the objective is not finite with any noise.
    """

    def noisier(theta: Array, factor: float) -> tuple[float, Array]:
        """The objective with eta times a factor."""
        return objective(theta if factor == 1.0 else np.append(math.log(math.exp(theta[0]) * factor), theta[1:]))

    priors = prior.priors(len(start) - 1)
    found = optimise.maximise(noisier, start, priors, max_evaluations=max_evaluations, tolerance=tolerance)
    return ScaleFit(**vars(found))


def scale_terms(q: float, n: int, eta: float, noise: float | None) -> tuple[float, float, float]:
    """The output scale and its terms in the negative log likelihood, for the quadratic form q = y.K^-1 y.

    Args:
        q: Quadratic form, with K in units of s^2.
        n: Number of points.
        eta: Noise variance in units of s^2.
        noise: Noise variance if known; None to profile s.

    Returns:
        s^2, which is q / n if profiled, otherwise noise / eta; n/2 log(2 pi s^2) + q / (2 s^2); and the derivative of
        the latter with respect to log eta through s^2, which is 0 if s is profiled.
    """
    s2 = max(q / n, 1e-300) if noise is None else noise / eta
    value = 0.5 * (n * math.log(2.0 * math.pi * s2) + q / s2)
    return s2, value, 0.0 if noise is None else 0.5 * (q / s2 - n)


def scale_and_size(
    errors: Tensor, variances: Tensor, noise: Tensor | float, *, scale: float | None
) -> tuple[float, float]:
    """The output scale and the factor on approximate variances that maximise the likelihood of held-out errors.

    For each factor on a grid from 1/100 to 1 the best scale makes the mean square of errors over sds equal to one.

    Args:
        errors: Errors of predictions, with shape (b,).
        variances: Variances of the function, in units of s^2, with shape (b,).
        noise: Noise variances, in units of s^2.
        scale: s, if known.
    """
    grid = torch.logspace(-2.0, 0.0, 41, dtype=errors.dtype, device=errors.device)
    spread = grid[:, None] * variances + noise
    s2 = (errors.square() / spread).mean(1) if scale is None else torch.full_like(grid, scale**2)
    cost = (s2[:, None] * spread).log().mean(1) + (errors.square() / spread).mean(1) / s2
    best = int(cost.argmin())
    return math.sqrt(max(float(s2[best]), 1e-300)), float(grid[best])


def as_tensor(values: Array, like: Tensor) -> Tensor:
    """The values with the dtype and on the device of ``like``."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)
