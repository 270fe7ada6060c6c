"""Error bars of networks: posterior variances, calibrated by errors on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from scipy.optimize import minimize
from scipy.special import digamma, gammaln
from torch import Tensor

from surrogate.arrays import Array
from surrogate.networks.posteriors import Member

__all__ = ["Calibration", "calibrate", "in_blocks", "spreads"]


def spreads(members: Sequence[Member], x: Tensor, *, disagree: bool) -> tuple[Tensor, Tensor]:
    """Mean of the networks' outputs, and variances that predict its error.

    Args:
        members: Networks of one output with their posteriors; two or more if ``disagree``.
        x: Scaled inputs, with shape (n, d).
        disagree: Whether to include the variance between networks as a column.

    Returns:
        The mean, with shape (n,), and a matrix with shape (n, 0), (n, 1) or (n, 2). Its columns are the mean of the
        members' variances, if they have any, and the variance of their means, if requested.
    """
    moments = [_moments(member, x) for member in members]
    means = torch.stack([mean for mean, _ in moments])
    own = [variance for _, variance in moments if variance is not None]
    columns = [torch.stack(own).mean(0)] if own else []
    if disagree:
        columns.append(means.var(0))
    return means.mean(0), torch.stack(columns, 1) if columns else means.new_empty((len(x), 0))


def _moments(member: Member, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """A member's mean and total variance over and within draws, each with shape (n,)."""
    outputs, around = member.outputs(x)
    draws = outputs.squeeze(-1)
    variance = None if around is None else around.squeeze(-1).mean(0)
    if len(draws) > 1:
        between = draws.var(0)
        variance = between if variance is None else variance + between
    return draws.mean(0), variance


def in_blocks(function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, *, block: int = 8192) -> tuple[Tensor, ...]:
    """Values of a function at x with shape (n, d), computed in blocks of rows to limit memory."""
    parts = zip(*(function(rows) for rows in x.split(block)), strict=True)
    return tuple(torch.cat(part) for part in parts)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A model of held-out errors: Student t with a scale that depends on the predicted variances.

    The size at x is sqrt(b + sum_j a_j u_j(x)) for the columns u_j of ``spreads``.

    Attributes:
        weights: a_j, not negative.
        noise: b, above 0.
        tail: Degrees of freedom; large for normal errors, at most 2 for errors without finite variance.
        ratios: Absolute errors divided by sizes, in ascending order, with shape (k,).
    """

    weights: Array
    noise: float
    tail: float
    ratios: Array

    def size(self, columns: Array) -> Array:
        """Scales of the errors, with shape (n,)."""
        return np.sqrt(self.noise + columns @ self.weights)

    def quantile(self, coverage: float) -> float:
        """Half-width, in units of the size, of an interval that contains this fraction of the errors.

        It is the conformal quantile, the ceil((k + 1) coverage)-th smallest of the k ratios, which for exchangeable
        rows has at least this coverage for any distribution. Beyond the largest ratio the fitted Student t is used.

        References:
            Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), https://arxiv.org/abs/1604.04173, section 5.2
        """
        rank = math.ceil((len(self.ratios) + 1) * coverage - 1e-9)
        if rank <= len(self.ratios):
            return float(self.ratios[rank - 1])
        return max(float(self.ratios[-1]), float(stats.t(self.tail).ppf(0.5 + coverage / 2)))


def calibrate(errors: Array, columns: Array) -> Calibration:
    """A calibration whose sizes and tail are fitted to errors by maximum likelihood.

    Args:
        errors: Errors on held-out rows, with shape (k,).
        columns: ``spreads`` of the same rows by the networks that made the errors, with shape (k, c).
    """
    scale = max(float(np.quantile(np.abs(errors), 0.75)), 1e-12 * max(1.0, float(np.abs(errors).max())), 1e-100)
    typical = np.maximum(columns.mean(0), 1e-300)
    z, u = errors / scale, columns / typical
    start = np.zeros(columns.shape[1] + 2)
    start[:-1] -= math.log(columns.shape[1] + 1)
    bounds = [(-12.0, 12.0)] * (len(start) - 1) + [(math.log(0.5), math.log(200.0))]
    found = minimize(_negative_log_likelihood, start, args=(z, u), jac=True, method="L-BFGS-B", bounds=bounds)
    weights = scale**2 * np.exp(found.x[1:-1]) / typical
    noise, tail = scale**2 * math.exp(found.x[0]), math.exp(found.x[-1])
    ratios = np.sort(np.abs(errors) / np.sqrt(noise + columns @ weights))
    return Calibration(weights, noise, tail, ratios)


def _negative_log_likelihood(theta: Array, z: Array, u: Array) -> tuple[float, Array]:
    """Negative log-likelihood of errors z, and its gradient; theta holds the logarithms of b, the a_j and t."""
    t, parts = math.exp(theta[-1]), np.exp(theta[:-1]) * np.column_stack([np.ones(len(u)), u])
    variance = parts.sum(1)
    ratio = z**2 / (t * variance)
    constant = gammaln(0.5 * t) - gammaln(0.5 * (t + 1.0)) + 0.5 * math.log(math.pi * t)
    value = len(z) * constant + 0.5 * np.log(variance).sum() + 0.5 * (t + 1.0) * np.log1p(ratio).sum()
    share = ratio / (1.0 + ratio)
    by_parts = (0.5 * (1.0 - (t + 1.0) * share) / variance) @ parts
    by_t = 0.5 * len(z) * (digamma(0.5 * t) - digamma(0.5 * (t + 1.0)) + 1.0 / t)
    by_t += 0.5 * np.log1p(ratio).sum() - 0.5 * (t + 1.0) / t * share.sum()
    return float(value), np.append(by_parts, t * by_t)
