"""The exact marginal likelihood, by a Cholesky factor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from surrogate.arrays import Array
from surrogate.gp.means import Trend
from surrogate.gp.process import GPRecipe, TrainingSet, negative_log_marginal
from surrogate.gp.scales import Observations
from surrogate.linalg.stationary import Stationary

__all__ = ["ExactEvidence", "marginal_with_noise"]


@dataclass(frozen=True, eq=False)
class ExactEvidence:
    """The marginal likelihood of all the points: O(n^3) a value, five n x n matrices.

    A constant with a wide normal prior is added to the mean.

    Attributes:
        kernel: Correlation function.
        data: In float64.
        noise: Mean noise variance where it is known: then s^2 = noise / eta; None to profile s.
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

    The process of ``surrogate.gp.process`` with the noise as the unit of variance, and so an amplitude a = eta^-1/2.

    Args:
        kernel: Correlation function.
        data: In float64.
        theta: (log eta, log l_1, ..., log l_d).
        log_noise: Of the mean noise variance; None to profile s, and then the gradient ends with theta.

    Raises:
        torch.linalg.LinAlgError: If K is not positive definite in floating point.
    """
    zero, d = torch.zeros_like(data.y), len(theta) - 1
    scale = [] if log_noise is None else [0.5 * log_noise]
    equal = data.relative_noise is None
    # Unequal noise is a gap of sqrt(R), with a coefficient that makes it R in units of the scale.
    coefficient = -300.0 if equal else sum(scale)
    gap = zero if data.relative_noise is None else data.relative_noise.sqrt()
    recipe = GPRecipe(kernel, Trend("constant"), nugget=float(equal), device=data.x.device)
    vector = np.concatenate([[-0.5 * theta[0], coefficient], theta[1:], scale])
    value, gradient = negative_log_marginal(recipe, TrainingSet(data.x, data.y, gap, zero), vector)
    tail = 0.5 * (gradient[d + 2 :] + (0.0 if equal else gradient[1]))
    return value, np.concatenate([[-0.5 * gradient[0]], gradient[2 : d + 2], tail])
