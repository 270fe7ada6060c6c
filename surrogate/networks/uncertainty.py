"""How far off a network may be: the posterior of its last layer, and its size from errors on rows it has not seen."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from scipy.optimize import minimize
from scipy.special import digamma, gammaln
from torch import Tensor, nn

from surrogate.arrays import Array
from surrogate.networks.posteriors import Member

__all__ = ["Calibration", "LastLayer", "calibrate", "in_blocks", "spreads"]


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Bayesian linear regression on the last layer's inputs, the layers below taken as they are.

    With features phi(x) = (c_w h(x), c_b), scaled to a mean square length of 1 over the training rows, and a standard
    normal prior of the last layer, the variance is v(x) = s^2 phi(x)' (Phi'Phi + s^2 I)^-1 phi(x): 1 and more where
    nothing like x was seen, near s^2 / n within the data.

    Attributes:
        module: The network, in double precision.
        constants: (c_w, c_b) of the last layer, scaled.
        factor: Cholesky factor of Phi'Phi + s^2 I, with shape (w + 1, w + 1).
        noise: s, as a part of the prior standard deviation.

    References:
        Kristiadi, Hein & Hennig (2020), https://arxiv.org/abs/2002.10118
        Daxberger et al. (2021), https://arxiv.org/abs/2106.14806
    """

    module: nn.Sequential
    constants: tuple[float, float]
    factor: Tensor
    noise: float

    @classmethod
    def of(cls, module: nn.Sequential, constants: tuple[float, float], x: Tensor, *, noise: float = 0.1) -> LastLayer:
        """The posterior after the rows of x, with shape (n, d); O(n w^2 + w^3) time."""
        double = copy.deepcopy(module).double()
        phi = _features(double, constants, x.double())
        size = float(phi.square().sum(1).mean().sqrt())
        gram = phi.T @ phi / size**2
        gram.diagonal().add_(noise**2)
        return cls(double, (constants[0] / size, constants[1] / size), torch.linalg.cholesky(gram), noise)

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance as those of one draw, each with shape (1, n, 1)."""
        return self.mean(x)[None, :, None], self.variance(x)[None, :, None]

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """Output of the network, with shape (n,)."""
        return self.module(x.double()).squeeze(-1)

    def variance(self, x: Tensor) -> Tensor:
        """Posterior variance v(x) relative to the prior's, with shape (n,); O(n w^2) time."""
        phi = _features(self.module, self.constants, x.double())
        half = torch.linalg.solve_triangular(self.factor, phi.T, upper=False)
        return self.noise**2 * half.square().sum(0)


@torch.no_grad()
def _features(module: nn.Sequential, constants: tuple[float, float], x: Tensor) -> Tensor:
    hidden = module[:-1](x)
    return torch.cat([constants[0] * hidden, torch.full_like(hidden[:, :1], constants[1])], 1)


def spreads(members: Sequence[Member], x: Tensor, *, disagree: bool) -> tuple[Tensor, Tensor]:
    """Mean of the networks' outputs, and what may go with its error.

    Args:
        members: Networks of one output with their posteriors; two or more if ``disagree``.
        x: Scaled inputs, with shape (n, d).
        disagree: Whether the variance between the networks is a column.

    Returns:
        The mean, with shape (n,), and in columns the mean of the members' variances, if they have any, and the variance
        of their means, with shape (n, 0), (n, 1) or (n, 2).
    """
    moments = [_moments(member, x) for member in members]
    means = torch.stack([mean for mean, _ in moments])
    own = [variance for _, variance in moments if variance is not None]
    columns = [torch.stack(own).mean(0)] if own else []
    if disagree:
        columns.append(means.var(0))
    return means.mean(0), torch.stack(columns, 1) if columns else means.new_empty((len(x), 0))


def _moments(member: Member, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Mean, and variance over draws and around them, each with shape (n,)."""
    outputs, around = member.outputs(x)
    draws = outputs.squeeze(-1)
    variance = None if around is None else around.squeeze(-1).mean(0)
    if len(draws) > 1:
        between = draws.var(0)
        variance = between if variance is None else variance + between
    return draws.mean(0), variance


def in_blocks(function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, *, block: int = 8192) -> tuple[Tensor, ...]:
    """Values of a function of rows, block by block, so that memory does not grow with the rows; x with shape (n, d)."""
    parts = zip(*(function(rows) for rows in x.split(block)), strict=True)
    return tuple(torch.cat(part) for part in parts)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Errors on unseen rows as a Student t variable of variable size.

    The size at x is sqrt(b + sum_j a_j u_j(x)) for the columns u_j of ``spreads``.

    Attributes:
        weights: a_j, not negative.
        noise: b, above 0.
        tail: Degrees of freedom; a large number for normal errors, 2 and less for errors without a variance.
        ratios: Absolute errors over sizes, ascending, with shape (k,).
    """

    weights: Array
    noise: float
    tail: float
    ratios: Array

    def size(self, columns: Array) -> Array:
        """Sizes, with shape (n,)."""
        return np.sqrt(self.noise + columns @ self.weights)

    def quantile(self, coverage: float) -> float:
        """How many sizes to go to either side for an interval that holds this share of the errors.

        The conformal quantile, the ceil((k + 1) coverage)-th smallest of the k ratios, which for exchangeable rows
        covers at least that share whatever the distribution; beyond the largest ratio the fitted Student t.

        References:
            Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), https://arxiv.org/abs/1604.04173, section 5.2
        """
        rank = math.ceil((len(self.ratios) + 1) * coverage - 1e-9)
        if rank <= len(self.ratios):
            return float(self.ratios[rank - 1])
        return max(float(self.ratios[-1]), float(stats.t(self.tail).ppf(0.5 + coverage / 2)))


def calibrate(errors: Array, columns: Array) -> Calibration:
    """Fits sizes and tail to errors by maximum likelihood.

    Args:
        errors: On rows not seen in training, with shape (k,).
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
    """Of errors z, and its gradient; theta holds the logarithms of b, of the a_j and of the degrees of freedom t."""
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
