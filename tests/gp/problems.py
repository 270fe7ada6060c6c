"""Regression problems, and their likelihoods by dense formulas."""

from __future__ import annotations

import math

import numpy as np
import torch

from surrogate.gp.scales import Observations
from surrogate.linalg.stationary import CORRELATIONS

KERNELS = ["rbf", "matern52", "matern32", "matern12"]


def problem(n=60, d=3, seed=0, noise=0.1):
    """Noisy values of a smooth function, about zero."""
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.standard_normal((n, d)))
    y = torch.sin(x).sum(1) + noise * torch.tensor(rng.standard_normal(n))
    return x, y - y.mean()


def covariance(kernel, x, theta, other=None):
    """k(X, X') / s^2 without noise, from differences: slow and obvious."""
    other = x if other is None else other
    z, w = (part / torch.tensor(np.exp(theta[1:])) for part in (x, other))
    return CORRELATIONS[kernel].correlation((z[:, None] - w[None]).square().sum(-1))


def dense(kernel, x, y, theta):
    """Negative log marginal likelihood with the scale profiled, by dense formulas."""
    k = covariance(kernel, x, theta) + math.exp(theta[0]) * torch.eye(len(y), dtype=x.dtype)
    s2 = float(y @ torch.linalg.solve(k, y)) / len(y)
    return 0.5 * float(len(y) * (math.log(2 * math.pi * s2) + 1) + torch.logdet(k))


def slope(function, theta, step=1e-5):
    """Central differences."""
    return np.array(
        [(function(theta + step * e) - function(theta - step * e)) / (2 * step) for e in np.eye(len(theta))]
    )


def uneven(n=60, d=3, seed=0):
    """Observations whose noise differs from point to point."""
    x, y = problem(n, d, seed)
    relative = 0.2 + torch.tensor(np.random.default_rng(seed + 1).random(n))
    return Observations(x, y, relative / relative.mean())


def dense_uneven(kernel, data, theta, noise=None):
    """Negative log marginal likelihood for unequal noise, by dense formulas."""
    n, eta = len(data), math.exp(theta[0])
    relative = torch.ones_like(data.y) if data.relative_noise is None else data.relative_noise
    k = covariance(kernel, data.x, theta) + eta * torch.diag(relative)
    q = float(data.y @ torch.linalg.solve(k, data.y))
    s2 = q / n if noise is None else noise / eta
    return 0.5 * (n * math.log(2 * math.pi * s2) + q / s2 + float(torch.logdet(k)))
