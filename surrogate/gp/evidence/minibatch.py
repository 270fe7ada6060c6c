"""Hyperparameters by stochastic gradients of the marginal likelihood of small batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from surrogate.arrays import Array
from surrogate.gp.evidence.exact import marginal_with_noise
from surrogate.gp.scales import Observations, ScaleFit, ScalePrior
from surrogate.linalg.stationary import Stationary

__all__ = ["minibatch_fit"]

_RATE, _DECAY = 0.1, 50.0  # Adam's first step in a logarithm, and the number of steps in which it halves


@dataclass(frozen=True)
class _Moments:
    """Running means of a gradient and of its square, as in Adam."""

    mean: Array
    square: Array

    def step(self, gradient: Array, k: int) -> tuple[_Moments, Array]:
        mean, square = 0.9 * self.mean + 0.1 * gradient, 0.99 * self.square + 0.01 * gradient**2
        direction = mean / (1.0 - 0.9**k) / (np.sqrt(square / (1.0 - 0.99**k)) + 1e-12)
        return _Moments(mean, square), direction


def minibatch_fit(
    kernel: Stationary,
    data: Observations,
    theta: Array,
    *,
    generator: torch.Generator,
    prior: ScalePrior,
    noise: float | None = None,
    batch: int = 128,
    steps: int = 400,
) -> tuple[ScaleFit, float]:
    """Hyperparameters by stochastic gradients of the marginal likelihood of small batches: O(batch^3) per step.

    Each step uses the gradient of a new uniform batch as if it were all the data. This is biased, but for noisy data it
    leads to the maximum of the full likelihood: noise within a few per cent, lengthscales less accurately, because a
    batch is sparser than the data. Not suitable for exact values.

    Steps are those of Adam with a rate of 0.1 / (1 + k / 50) instead of the paper's a / k, and the last quarter is
    averaged.

    Args:
        kernel: Correlation function.
        data: Points and values, in float64.
        theta: Initial (log eta, log l_1, ..., log l_d).
        generator: Draws the batches; on the CPU.
        prior: Bounds of theta.
        noise: Mean noise variance if known; None to estimate it.
        batch: Points per batch.
        steps: Number of steps.

    Returns:
        A fit with the averaged theta, whose value is nan since the likelihood of all the data is never computed; and
        the noise variance.

    Raises:
        torch.linalg.LinAlgError: If the covariance of a batch is not positive definite in floating point.

    References:
        Chen, Zheng, Al Kontar & Raskutti (2022), arXiv:2111.10461
    """
    bounds = prior.priors(len(theta) - 1).bounds
    log_noise = float(theta[0] + data.y.var(correction=0).log()) if noise is None else math.log(noise)
    vector = np.append(np.clip(theta, bounds[:, 0], bounds[:, 1]), log_noise)
    moments, tail = _Moments(np.zeros_like(vector), np.zeros_like(vector)), []
    for k in range(1, steps + 1):
        part = data.rows(torch.randperm(len(data), generator=generator)[:batch].to(data.y.device))
        _, gradient = marginal_with_noise(kernel, part, vector[:-1], float(vector[-1]))
        moments, direction = moments.step(gradient, k)
        vector = vector - _RATE / (1.0 + k / _DECAY) * direction
        vector[:-1] = np.clip(vector[:-1], bounds[:, 0], bounds[:, 1])
        if noise is not None:
            vector[-1] = log_noise
        if k > 0.75 * steps:
            tail.append(vector)
    mean = np.mean(tail, axis=0)
    fit = ScaleFit(mean[:-1], math.nan, steps, (), f"{steps} batches of {min(batch, len(data))} points")
    return fit, math.exp(mean[-1])
