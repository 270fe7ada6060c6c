"""The exact marginal likelihood, by a Cholesky factor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from surrogate.arrays import Array
from surrogate.gp.evidence.marginal import negative_log_evidence
from surrogate.gp.kernels import STATIONARY, Scaled
from surrogate.gp.means import Polynomial
from surrogate.gp.noise import Given, Noise, Nugget
from surrogate.gp.process import Data, Process
from surrogate.gp.scales import Observations
from surrogate.linalg.stationary import Stationary

__all__ = ["ExactEvidence", "marginal_with_noise"]


@dataclass(frozen=True, eq=False)
class ExactEvidence:
    """The exact marginal likelihood of all points, at O(n^3) per value and five n x n matrices.

    A constant with a wide normal prior is added to the mean.

    Attributes:
        kernel: Correlation function.
        data: Points and values, in float64.
        noise: Mean noise variance if known, so that s^2 = noise / eta; None to profile s.
    """

    kernel: Stationary
    data: Observations
    noise: float | None = None

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Negative log marginal likelihood in nats and its gradient.

        Raises:
            torch.linalg.LinAlgError: If K is not positive definite in floating point.
        """
        log_noise = None if self.noise is None else math.log(self.noise)
        value, gradient = marginal_with_noise(self.kernel, self.data, theta, log_noise)
        return value, gradient[: len(theta)]


def marginal_with_noise(
    kernel: Stationary, data: Observations, theta: Array, log_noise: float | None
) -> tuple[float, Array]:
    """Negative log marginal likelihood, and its gradient with respect to theta and then to the log noise variance.

    Internally the noise is the unit of variance, so the residual has the sd eta^-1/2.

    Args:
        kernel: Correlation function.
        data: Points and values, in float64.
        theta: (log eta, log l_1, ..., log l_d).
        log_noise: Logarithm of the mean noise variance; None to profile s, in which case the gradient ends with theta.

    Raises:
        torch.linalg.LinAlgError: If K is not positive definite in floating point.
    """
    scale = [] if log_noise is None else [0.5 * log_noise]
    process = _template(kernel.name, len(theta) - 1, data.relative_noise is None, log_noise is None)
    noise = torch.zeros_like(data.y) if data.relative_noise is None else data.relative_noise.sqrt()
    table = Data(data.x, data.y, torch.zeros_like(data.y), noise)
    vector = np.concatenate([scale, [-0.5 * theta[0]], theta[1:]])
    value, gradient = negative_log_evidence(process, table, vector)
    first = len(scale)
    return value, np.concatenate([[-0.5 * gradient[first]], gradient[first + 1 :], 0.5 * gradient[:first]])


@lru_cache(maxsize=64)
def _template(kernel: str, d: int, equal: bool, profiled: bool) -> Process:
    """A process with a constant mean, in units of the noise, as a template for vectors of hyperparameters."""
    noise: Noise = Nugget(1.0) if equal else Given(relative=True)
    residual = Scaled(STATIONARY[kernel](np.ones(d)), 1.0)
    return Process(residual, Polynomial("constant"), noise, scale=None if profiled else 1.0)
