"""The exact marginal likelihood, by a Cholesky factor."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.means import Trend
from surrogate.gp.process import GPRecipe, TrainingSet, negative_log_marginal
from surrogate.linalg.stationary import Stationary

__all__ = ["exact_marginal"]


def exact_marginal(
    kernel: Stationary, x: Tensor, y: Tensor, theta: Array, *, noise: float | None = None
) -> tuple[float, Array]:
    """Negative log marginal likelihood in nats and its gradient, by a Cholesky factor: O(n^3), five n x n matrices.

    The process of ``surrogate.gp.process`` with a nugget of one and an amplitude a = eta^-1/2: the same density, with
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
