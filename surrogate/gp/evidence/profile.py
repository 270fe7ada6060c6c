"""The noise eta of y ~ N(X b, s^2 (K + eta I)) of largest restricted likelihood, for a fixed kernel matrix K.

The coefficients b of the trend are integrated out with a flat prior (restricted likelihood) and s^2 is maximised for
each eta. This leaves a function of one variable, with O(n) operations per value after one eigendecomposition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

__all__ = ["NoiseEstimate", "NoiseProfile"]


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise that maximises the profile likelihood.

    Attributes:
        eta: Noise variance over signal variance; inf if there is only noise.
        signal_variance: s^2; 0 if there is only noise.
        noise_variance: s^2 eta.
        log_likelihood: Restricted log-likelihood there, in nats.
        status: "interior", "least" if it is at the lower bound of the search, or "pure noise".
        candidates: All local maxima in the interior, as values of eta.
    """

    eta: float
    signal_variance: float
    noise_variance: float
    log_likelihood: float
    status: str
    candidates: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class NoiseProfile:
    """The restricted log-likelihood l(eta), with its maximum over s^2 taken, and its derivative.

    With N an orthonormal basis of the complement of the trend X, N^T X = 0, and N^T K N = U diag(lambda) U^T:

        l(eta) = -p/2 (log 2 pi s^2 + 1) - 1/2 sum_i log(lambda_i + eta),   s^2 = 1/p sum_i w_i^2 / (lambda_i + eta),

    w = U^T N^T y and p = n - m. It differs from -1/2 log|K_eta| - 1/2 log|X^T K_eta^-1 X| of the usual formula by
    1/2 log|X^T X|, which depends on neither eta nor y: the density is that of the contrasts N^T y.

    Attributes:
        eigenvalues: lambda, with shape (p,), ascending.
        rotated: w, with shape (p,).

    References:
        Ameli & Shadden (2022), arXiv:2206.09976; Patterson & Thompson (1971), doi:10.1093/biomet/58.3.545. They
        decompose K itself or solve for each eta; after decomposing N^T K N the trend adds no cost.
    """

    eigenvalues: Tensor
    rotated: Tensor

    @classmethod
    def of(cls, kernel: Tensor, y: Tensor, *, trend: Tensor | None = None) -> NoiseProfile:
        """The profile for K with shape (n, n), y with shape (n,) and X with shape (n, m): one eigendecomposition.

        Eigenvalues below n eps times the largest are rounding errors and are raised to that.

        Raises:
            ValueError: If the shapes do not fit, the trend has as many columns as points, or its columns are dependent.
        """
        n = len(y)
        if kernel.shape != (n, n):
            msg = f"kernel must have shape ({n}, {n}) for {n} values y, got {tuple(kernel.shape)}"
            raise ValueError(msg)
        if trend is not None:
            basis = _contrasts(trend, n)
            kernel, y = basis.T @ kernel @ basis, basis.T @ y
        eigenvalues, vectors = torch.linalg.eigh(kernel)
        least = n * torch.finfo(kernel.dtype).eps * float(eigenvalues[-1])
        return cls(eigenvalues.clamp(min=least), vectors.T @ y)

    def signal_variance(self, eta: float) -> float:
        """The s^2 with the largest likelihood at a given eta."""
        return float((self.rotated.square() / (self.eigenvalues + eta)).mean())

    def value(self, eta: float) -> float:
        """l(eta) in nats, O(n); at eta = inf the log-likelihood of noise alone."""
        p = len(self.rotated)
        if math.isinf(eta):
            return -0.5 * p * (math.log(2.0 * math.pi * float(self.rotated.square().mean())) + 1.0)
        s2 = self.signal_variance(eta)
        return -0.5 * p * (math.log(2.0 * math.pi * s2) + 1.0) - 0.5 * float((self.eigenvalues + eta).log().sum())

    def derivative(self, eta: float) -> float:
        """Derivative dl/deta: p/2 times the difference of a weighted and the plain mean of 1 / (lambda + eta)."""
        inverse = 1.0 / (self.eigenvalues + eta)
        weight = self.rotated.square() * inverse
        return 0.5 * len(inverse) * float((weight * inverse).sum() / weight.sum() - inverse.mean())

    def derivative_bound(self, eta: float) -> float:
        """Upper bound of |dl/deta|: two means of the same terms differ by at most the range of the terms."""
        low, high = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
        return 0.5 * len(self.rotated) * (1.0 / (eta + low) - 1.0 / (eta + high))

    def asymptote(self, eta: float) -> float:
        """Derivative dl/deta for large eta, -p/2 (a0 / eta^2 + a1 / eta^3), to a relative error of O(eta^-2).

        a0 = sum w^2 lambda / sum w^2 - mean(lambda): positive where y follows the kernel more than noise would, and
        then l falls at large eta. A negative a0 means that l rises towards pure noise.
        """
        weight = self.rotated.square() / self.rotated.square().sum()
        first, second = (float(weight @ self.eigenvalues**k) for k in (1, 2))
        plain, square = float(self.eigenvalues.mean()), float(self.eigenvalues.square().mean())
        a0 = first - plain
        a1 = square - 2.0 * second + first**2
        return -0.5 * len(self.rotated) * (a0 / eta**2 + a1 / eta**3)

    def maximise(self, *, bounds: tuple[float, float] | None = None, per_decade: int = 4) -> NoiseEstimate:
        """The eta with the largest likelihood, among the roots of the derivative on a grid and the ends of the range.

        The likelihood may have several maxima, or be largest without noise or with only noise.

        Args:
            bounds: Range of eta; None for 1e-14 to 1e6 times the mean eigenvalue.
            per_decade: Grid points per decade.
        """
        mean = float(self.eigenvalues.mean())
        low, high = (1e-14 * mean, 1e6 * mean) if bounds is None else bounds
        count = max(2, math.ceil(per_decade * math.log10(high / low)) + 1)
        grid = torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64).tolist()
        roots = _falling_roots(self.derivative, grid)
        places = [(self.value(eta), eta, "interior") for eta in roots]
        places += [(self.value(low), low, "least"), (self.value(math.inf), math.inf, "pure noise")]
        value, eta, status = max(places)
        if math.isinf(eta):
            return NoiseEstimate(eta, 0.0, float(self.rotated.square().mean()), value, status, tuple(roots))
        s2 = self.signal_variance(eta)
        return NoiseEstimate(eta, s2, s2 * eta, value, status, tuple(roots))


def _contrasts(trend: Tensor, n: int) -> Tensor:
    """Orthonormal basis of the complement of the trend's columns, with shape (n, n - m)."""
    if trend.ndim != 2 or len(trend) != n or trend.shape[1] >= n:
        msg = f"trend must have shape ({n}, m) with m < {n}, got {tuple(trend.shape)}"
        raise ValueError(msg)
    q, r = torch.linalg.qr(trend, mode="complete")
    diagonal = r.diagonal().abs()
    if float(diagonal.min()) <= n * torch.finfo(trend.dtype).eps * float(diagonal.max()):
        msg = f"the columns of the trend must be independent, got a QR diagonal of {diagonal.tolist()}"
        raise ValueError(msg)
    return q[:, trend.shape[1] :]


def _falling_roots(derivative: Callable[[float], float], grid: list[float]) -> list[float]:
    """Local maxima: roots at which the derivative falls through zero, by Brent's method in log eta."""
    values = [derivative(eta) for eta in grid]
    brackets = [(grid[i], grid[i + 1]) for i in range(len(grid) - 1) if values[i] > 0.0 >= values[i + 1]]
    return [
        math.exp(brentq(lambda t: derivative(math.exp(t)), math.log(a), math.log(b), xtol=1e-13, rtol=1e-14))
        for a, b in brackets
    ]
