"""The marginal likelihood of a process made of basis functions, from sums over the data.

    y = s (F b + sqrt(eta) e),    b ~ N(0, I),    e ~ N(0, R).

With F and y divided by the square roots of R, M = F^T F, Z = M + eta I and c = Z^-1 F^T y, of p basis functions,

    log|K| = (n - p) log eta + log|Z| + log|R|,    y.K^-1 y = (y.y - c.F^T y) / eta.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.bases import Basis, Features, HilbertBasis
from surrogate.gp.scales import Observations, scale_terms

__all__ = ["BasisEvidence", "BasisSolution", "BasisSums", "feature_blocks"]

_BLOCK = 4_000_000  # features computed at a time: 32 MB in float64


def feature_blocks(
    basis: Features, data: Observations, lengthscale: Array
) -> Iterator[tuple[Tensor, Tensor, Observations]]:
    """Blocks of rows of F and y, divided by the square roots of R, with their points."""
    for index in torch.arange(len(data), device=data.x.device).split(max(1, _BLOCK // basis.size)):
        part = data.rows(index)
        f, y = basis.features(part.x, lengthscale), part.y
        if part.relative_noise is not None:
            root = part.relative_noise.sqrt()
            f, y = f / root[:, None], y / root
        yield f, y, part


@dataclass(frozen=True, eq=False)
class BasisSolution:
    """The coefficients of the basis functions given the data, and the likelihood.

    Attributes:
        lower: Cholesky factor of Z, with shape (p, p).
        coefficients: c, with shape (p,): the posterior mean of s b, whose covariance is s^2 eta Z^-1.
        s2: Squared output scale.
        value: Negative log marginal likelihood in nats.
        by_eta: Its derivative with respect to log eta.
    """

    lower: Tensor
    coefficients: Tensor
    s2: float
    value: float
    by_eta: float


@dataclass(frozen=True, eq=False)
class BasisSums:
    """Sums over the data from which the marginal likelihood follows in O(p^3), for any number of points.

    Attributes:
        gram: M, with shape (p, p).
        projection: F^T y, with shape (p,).
        square: y.y.
        n: Number of points.
        log_relative_noise: log|R|.
    """

    gram: Tensor
    projection: Tensor
    square: float
    n: int
    log_relative_noise: float = 0.0

    @classmethod
    def of(cls, basis: Features, data: Observations, lengthscale: Array) -> BasisSums:
        """The sums, by one pass over the data: O(n p^2) time, O(p^2) memory plus a block of features."""
        gram = data.x.new_zeros(basis.size, basis.size)
        projection, square = data.x.new_zeros(basis.size), 0.0
        for f, y, _ in feature_blocks(basis, data, lengthscale):
            gram.addmm_(f.T, f)
            projection.addmv_(f.T, y)
            square += float(y.square().sum())
        log_noise = 0.0 if data.relative_noise is None else float(data.relative_noise.log().sum())
        return cls(gram, projection, square, len(data), log_noise)

    def weighted(self, w: Tensor) -> BasisSums:
        """The sums for features multiplied by w, with shape (p,)."""
        return BasisSums(w[:, None] * self.gram * w, w * self.projection, self.square, self.n, self.log_relative_noise)

    def solve(self, eta: float, noise: float | None = None) -> BasisSolution:
        """The coefficients at this noise: O(p^3).

        Args:
            eta: Noise variance in units of s^2.
            noise: Mean noise variance if known, so that s^2 = noise / eta; None to profile s.

        Raises:
            torch.linalg.LinAlgError: If Z is not positive definite in floating point.
        """
        p = len(self.projection)
        z = self.gram.clone()
        z.diagonal().add_(eta)
        lower = torch.linalg.cholesky(z)
        c = torch.cholesky_solve(self.projection[:, None], lower)[:, 0]
        q = (self.square - float(self.projection @ c)) / eta
        s2, terms, by_scale = scale_terms(q, self.n, eta, noise)
        log_determinant = (self.n - p) * math.log(eta) + 2.0 * float(lower.diagonal().log().sum())
        value = terms + 0.5 * (log_determinant + self.log_relative_noise)
        trace = float(torch.cholesky_inverse(lower).diagonal().sum())
        by_eta = 0.5 * (self.n - p + eta * trace + (float(c @ c) - q) / s2) + by_scale
        return BasisSolution(lower, c, s2, value, by_eta)


@dataclass(frozen=True, eq=False)
class BasisEvidence:
    """The marginal likelihood of basis functions, at O(n p^2) per value, or O(p^3) for sines on a box.

    Attributes:
        basis: The functions.
        data: Data with centred values.
        noise: Mean noise variance if known, so that s^2 = noise / eta; None to profile s.
        sums: Sums of unweighted functions, if only the weights depend on the lengthscales; None for other bases.

    References:
        Solin & Sarkka (2020), arXiv:1401.5508, section 3; Timonen & Lahdesmaki (2023), arXiv:2111.01931
    """

    basis: Basis
    data: Observations
    noise: float | None = None
    sums: BasisSums | None = None

    @classmethod
    def of(cls, basis: Basis, data: Observations, noise: float | None = None) -> BasisEvidence:
        """The evidence; for sines on a box this makes the only pass over the data."""
        sums = BasisSums.of(_Unweighted(basis), data, np.empty(0)) if isinstance(basis, HilbertBasis) else None
        return cls(basis, data, noise, sums)

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Negative log marginal likelihood and its gradient with respect to (log eta, log l_1, ..., log l_d).

        The derivative with respect to F is F Z^-1 - a c^T / s^2, a = K^-1 y; that with respect to the logarithm of a
        weight of one function is the same summed over its column, 1 - eta (Z^-1)_jj - c_j^2 / s^2.

        Raises:
            torch.linalg.LinAlgError: If Z is not positive definite in floating point.
        """
        eta, lengthscale = math.exp(theta[0]), np.exp(theta[1:])
        if self.sums is not None and isinstance(self.basis, HilbertBasis):
            log_weights, slopes = self.basis.log_weights(lengthscale)
            solution = self.sums.weighted(log_weights.exp()).solve(eta, self.noise)
            inverse = torch.cholesky_inverse(solution.lower).diagonal()
            by_weight = 1.0 - eta * inverse - solution.coefficients.square() / solution.s2
            return solution.value, np.append(solution.by_eta, (by_weight @ slopes).cpu().numpy())
        solution = BasisSums.of(self.basis, self.data, lengthscale).solve(eta, self.noise)
        return solution.value, np.append(solution.by_eta, self._slopes(solution, eta, lengthscale).cpu().numpy())

    def _slopes(self, solution: BasisSolution, eta: float, lengthscale: Array) -> Tensor:
        total, c = self.data.x.new_zeros(len(lengthscale)), solution.coefficients
        for f, y, part in feature_blocks(self.basis, self.data, lengthscale):
            weight = torch.cholesky_solve(f.T, solution.lower).T
            weight = weight - torch.outer((y - f @ c) / (eta * solution.s2), c)
            if part.relative_noise is not None:
                weight = weight / part.relative_noise.sqrt()[:, None]
            total += self.basis.pullback(part.x, lengthscale, weight)
        return total


@dataclass(frozen=True, eq=False)
class _Unweighted:
    """The sines of a box without weights, which do not depend on hyperparameters."""

    basis: HilbertBasis

    @property
    def size(self) -> int:
        return self.basis.size

    def features(self, x: Tensor, lengthscale: Array) -> Tensor:  # noqa: ARG002  # they do not depend on it
        return self.basis.values(x)

    def pullback(self, x: Tensor, lengthscale: Array, weight: Tensor) -> Tensor:  # noqa: ARG002
        return x.new_zeros(x.shape[1])
