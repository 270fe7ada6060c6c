"""Pareto-smoothed importance weights with their reliability diagnostic k-hat.

Vehtari, Simpson, Gelman, Yao & Gabry (2024), arXiv:1507.02646; the fit of the tail is that of Zhang & Stephens (2009),
doi:10.1198/tech.2009.08017, with the weak prior of the former.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array

__all__ = ["RELIABLE", "SmoothedWeights", "fit_generalised_pareto", "smooth_weights"]

RELIABLE = 0.7
"""Pareto shape below which weights are reliable for any number of draws."""


@dataclass(frozen=True, eq=False)
class SmoothedWeights:
    """Importance weights with a smoothed tail.

    Attributes:
        weights: Normalised weights, with shape (n,).
        k_hat: Shape of the generalised Pareto distribution of the largest ratios. Below 0.7 the weights are reliable;
            above, the draws miss part of the target. -inf if all ratios are equal, NaN for fewer than 25 draws.
        ess: Effective number of draws, 1 / sum w^2.
    """

    weights: Array
    k_hat: float
    ess: float

    @property
    def reliable(self) -> bool:
        """Whether k_hat is below min(0.7, 1 - 1 / log10(n))."""
        n = len(self.weights)
        return bool(self.k_hat < min(RELIABLE, 1.0 - 1.0 / np.log10(max(n, 11))))


def fit_generalised_pareto(excess: Array) -> tuple[float, float]:
    """Shape k and scale sigma of a generalised Pareto distribution, with k positive for heavy tails.

    Posterior means over a grid of the profile likelihood; the prior on k has the weight of ten observations of 0.5.

    Args:
        excess: Positive numbers in ascending order, with shape (n,).
    """
    n = len(excess)
    grid = 30 + int(np.sqrt(n))
    quartile = excess[int(n / 4 + 0.5) - 1]
    theta = 1.0 / excess[-1] + (1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3.0 * quartile)
    shape = np.log1p(-theta[:, None] * excess).mean(1)
    profile = n * (np.log(-theta / shape) - shape - 1.0)
    posterior = np.exp(profile - logsumexp(profile))
    best = float(posterior @ theta)
    k = float(np.log1p(-best * excess).mean())
    return (n * k + 10 * 0.5) / (n + 10), -k / best


def smooth_weights(log_ratios: Array) -> SmoothedWeights:
    """Importance weights exp(log_ratios), with the largest replaced by quantiles of a fitted tail.

    Args:
        log_ratios: Log of target over proposal at draws of the proposal, with shape (n,); -inf where the target
            vanishes.

    Raises:
        ValueError: If there are no ratios, if one is NaN or +inf, or if all are -inf.
    """
    log_w = np.asarray(log_ratios, dtype=np.float64)
    if log_w.ndim != 1 or not len(log_w) or np.isnan(log_w).any() or not np.isfinite(log_w.max(initial=-np.inf)):
        msg = f"log ratios must have shape (n,), be below infinity and not all be -inf; got shape {log_w.shape}"
        raise ValueError(msg)
    log_w = log_w - log_w.max()
    n = len(log_w)
    size = int(np.ceil(min(0.2 * n, 3.0 * np.sqrt(n))))
    order = np.argsort(log_w, kind="stable")
    tail = order[-size:]
    cut = np.exp(max(log_w[order[-size - 1]], -700.0)) if size < n else 0.0
    excess = np.exp(log_w[tail]) - cut
    if size < 5:
        return _normalise(log_w, np.nan)
    if excess[-1] <= 1e-12:
        return _normalise(log_w, -np.inf)
    k, sigma = fit_generalised_pareto(np.maximum(excess, 1e-300))
    p = (np.arange(1, size + 1) - 0.5) / size
    with np.errstate(over="ignore"):  # quantiles of a very heavy tail are bounded by the largest ratio
        smoothed = cut + (-sigma * np.log1p(-p) if abs(k) < 1e-12 else sigma * np.expm1(-k * np.log1p(-p)) / k)
    out = log_w.copy()
    out[tail] = np.minimum(np.log(smoothed), 0.0)
    return _normalise(out, k)


def _normalise(log_w: Array, k_hat: float) -> SmoothedWeights:
    weights = np.exp(log_w - logsumexp(log_w))
    return SmoothedWeights(weights, float(k_hat), float(1.0 / (weights**2).sum()))
