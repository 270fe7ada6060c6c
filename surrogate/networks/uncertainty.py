"""Error bars of networks: posterior variances, calibrated by errors on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import stats
from scipy.optimize import minimize
from scipy.special import digamma, gammaln
from torch import Tensor

from surrogate.arrays import Array
from surrogate.networks.posteriors import Member

__all__ = ["Calibration", "NoiseTrend", "calibrate", "in_blocks", "spreads"]

_MOST = 2.0  # largest standardised mean in the trend of the noise
_EXPONENT = (
    0.16  # prior standard deviation of its exponents; 0.32 lowered the normal density of errors on pol and kegg25
)


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
class NoiseTrend:
    """Factor exp(c_1 z + c_2 z^2) of the noise variance; z is the standardised predicted mean, clipped to [-2, 2].

    Attributes:
        centre: Mean of the predicted means.
        spread: Standard deviation of the predicted means.
        exponents: c_1 and c_2.

    References:
        Davidian & Carroll (1987), https://doi.org/10.1080/01621459.1987.10478543, for such variance functions
    """

    centre: float
    spread: float
    exponents: tuple[float, float]

    def factor(self, means: Array) -> Array:
        """Factors, with shape (n,), at predicted means with shape (n,)."""
        return np.exp(_powers(means, self.centre, self.spread) @ np.array(self.exponents))


def _powers(means: Array, centre: float, spread: float) -> Array:
    """z and z^2 in columns, with shape (n, 2)."""
    z = np.clip((means - centre) / spread, -_MOST, _MOST)
    return np.stack([z, z**2], 1)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A model of held-out errors: Student t with a scale that depends on the predicted variances.

    The size at x is sqrt(b g(f(x)) + sum_j a_j u_j(x)) for the columns u_j of ``spreads`` and the predicted mean f.

    Attributes:
        weights: a_j, not negative.
        noise: b, above 0.
        tail: Degrees of freedom; large for normal errors, at most 2 for errors without finite variance.
        ratios: Absolute errors divided by sizes, in ascending order, with shape (k,).
        trend: g, None for 1.
        errors: The fitted errors, prediction minus target, with shape (k,); may be empty.
    """

    weights: Array
    noise: float
    tail: float
    ratios: Array
    trend: NoiseTrend | None = None
    errors: Array = field(default_factory=lambda: np.empty(0))

    def size(self, columns: Array, means: Array | None = None) -> Array:
        """Scales of the errors, with shape (n,); ``means``, with shape (n,), are needed if there is a trend."""
        factor = 1.0 if self.trend is None or means is None else self.trend.factor(means)
        return np.sqrt(self.noise * factor + columns @ self.weights)

    def log_density(self, errors: Array, sizes: Array) -> Array:
        """Log-density of errors of these scales, each with shape (n,)."""
        return stats.t.logpdf(errors / sizes, self.tail) - np.log(sizes)

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


def calibrate(errors: Array, columns: Array, means: Array | None = None) -> Calibration:
    """A calibration whose sizes and tail are fitted to errors by maximum likelihood.

    With ``means`` the noise is a function of the predicted mean. Its two exponents have a normal prior with standard
    deviation 0.16. Where the posterior variance explains the errors (kin40k, pol) they stay near 0; on *protein*, where
    it explains nothing, they lower the negative log-density of new errors by 0.01 to 0.02.

    Args:
        errors: Errors on held-out rows, with shape (k,).
        columns: ``spreads`` of the same rows by the networks that made the errors, with shape (k, c).
        means: Predicted means of these rows, with shape (k,); None for constant noise.
    """
    scale = max(float(np.quantile(np.abs(errors), 0.75)), 1e-12 * max(1.0, float(np.abs(errors).max())), 1e-100)
    typical = np.maximum(columns.mean(0), 1e-300)
    z, u = errors / scale, columns / typical
    start = np.append(np.full(u.shape[1] + 1, -math.log(u.shape[1] + 1)), 0.0)
    theta = _most_likely(start, z, u, np.empty((len(z), 0)))
    trend, factor, spread = None, np.ones(len(z)), 0.0 if means is None else float(means.std())
    if means is not None and spread > 0:
        centre = float(means.mean())
        theta = _most_likely(np.append(theta, (0.0, 0.0)), z, u, _powers(means, centre, spread))
        trend = NoiseTrend(centre, spread, (float(theta[-2]), float(theta[-1])))
        factor, theta = trend.factor(means), theta[:-2]
    weights = scale**2 * np.exp(theta[1:-1]) / typical
    noise, tail = scale**2 * math.exp(theta[0]), math.exp(theta[-1])
    ratios = np.sort(np.abs(errors) / np.sqrt(noise * factor + columns @ weights))
    return Calibration(weights, noise, tail, ratios, trend, errors)


def _most_likely(start: Array, z: Array, u: Array, powers: Array) -> Array:
    exponents = powers.shape[1]
    bounds = [(-12.0, 12.0)] * (u.shape[1] + 1) + [(math.log(0.5), math.log(200.0))] + [(-3.0, 3.0)] * exponents
    return minimize(_objective, start, args=(z, u, powers), jac=True, method="L-BFGS-B", bounds=bounds).x


def _objective(theta: Array, z: Array, u: Array, powers: Array) -> tuple[float, Array]:
    """Negative log-likelihood of errors z and negative log-prior of the exponents, and the gradient.

    theta holds the logarithms of b, the a_j and t, and then the exponents.
    """
    main = u.shape[1] + 2
    t, exponents = math.exp(theta[main - 1]), theta[main:]
    noise = np.exp(theta[0] + powers @ exponents)
    parts = np.column_stack([noise, np.exp(theta[1 : main - 1]) * u])
    variance = parts.sum(1)
    ratio = z**2 / (t * variance)
    constant = gammaln(0.5 * t) - gammaln(0.5 * (t + 1.0)) + 0.5 * math.log(math.pi * t)
    value = len(z) * constant + 0.5 * np.log(variance).sum() + 0.5 * (t + 1.0) * np.log1p(ratio).sum()
    share = ratio / (1.0 + ratio)
    by_variance = 0.5 * (1.0 - (t + 1.0) * share) / variance
    by_t = 0.5 * len(z) * (digamma(0.5 * t) - digamma(0.5 * (t + 1.0)) + 1.0 / t)
    by_t += 0.5 * np.log1p(ratio).sum() - 0.5 * (t + 1.0) / t * share.sum()
    by_exponents = (by_variance * noise) @ powers + exponents / _EXPONENT**2
    value += 0.5 * float(exponents @ exponents) / _EXPONENT**2
    return float(value), np.concatenate([by_variance @ parts, [t * by_t], by_exponents])
