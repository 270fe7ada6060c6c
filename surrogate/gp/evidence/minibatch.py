"""Hyperparameters by stochastic gradients of the marginal likelihood of small batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.means import Trend
from surrogate.gp.process import GPRecipe, TrainingSet, negative_log_marginal
from surrogate.linalg.stationary import Stationary

__all__ = ["minibatch_fit"]


@dataclass(frozen=True)
class _Moments:
    """Running means of a gradient and of its square (Adam)."""

    mean: Array
    square: Array

    def step(self, gradient: Array, k: int) -> tuple[_Moments, Array]:
        mean, square = 0.9 * self.mean + 0.1 * gradient, 0.99 * self.square + 0.01 * gradient**2
        direction = mean / (1.0 - 0.9**k) / (np.sqrt(square / (1.0 - 0.99**k)) + 1e-12)
        return _Moments(mean, square), direction


def minibatch_fit(
    kernel: Stationary,
    x: Tensor,
    y: Tensor,
    theta: Array,
    *,
    scale: float,
    generator: torch.Generator,
    batch: int = 128,
    steps: int = 400,
) -> tuple[Array, float]:
    """Hyperparameters by stochastic gradients of the marginal likelihood of small batches: O(batch^3) a step.

    Every step takes the gradient for a new uniform batch as if it were all there is. It is biased, and goes where the
    full likelihood has its maximum all the same, for noisy data: noise within some per cent, lengthscales and scale
    less well, since a batch is sparser than the data. A start for more than 10,000 points, before ``maximise`` with
    ``NeighbourLikelihood``; not for exact values, of which a batch says too little.

    Steps are those of Adam with a rate of 0.1 / (1 + k / 50) instead of a / k, and the last quarter is averaged.

    Args:
        kernel: Correlation function.
        x: With shape (n, d), float64.
        y: With shape (n,).
        theta: (log eta, log l_1, ..., log l_d) to start from.
        scale: s to start from.
        generator: Draws the batches; on the CPU.
        batch: Points a batch.
        steps: Number of them.

    Returns:
        theta and s.

    References:
        Chen, Zheng, Al Kontar & Raskutti (2022), arXiv:2111.10461
    """
    recipe = GPRecipe(kernel, Trend("constant"), nugget=1.0, device=x.device)
    d, zero = x.shape[1], y.new_zeros(min(batch, len(y)))
    # The vector of surrogate.gp.process with the noise as the unit: (log a, log c, log l, log noise sd).
    vector = np.concatenate([[-0.5 * theta[0], -300.0], theta[1:], [math.log(scale) + 0.5 * theta[0]]])
    moments, tail = _Moments(np.zeros(d + 3), np.zeros(d + 3)), []
    for k in range(1, steps + 1):
        rows = torch.randperm(len(y), generator=generator)[: len(zero)].to(x.device)
        _, gradient = negative_log_marginal(recipe, TrainingSet(x[rows], y[rows], zero, zero), vector)
        moments, direction = moments.step(gradient, k)
        vector = vector - 0.1 / (1.0 + k / 50.0) * direction
        if k > 0.75 * steps:
            tail.append(vector)
    mean = np.mean(tail, axis=0)
    return np.concatenate([[-2.0 * mean[0]], mean[2 : d + 2]]), math.exp(mean[d + 2] + mean[0])
