"""The marginal likelihood of a process made of basis functions, from sums over the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.scales import as_tensor

__all__ = ["BasisMarginal"]


@dataclass(frozen=True, eq=False)
class BasisMarginal:
    """The marginal likelihood of y = s (Phi W b + sqrt(eta) e), b ~ N(0, I), collapsed to sums over the data.

    K = Phi W^2 Phi^T + eta I of p basis functions with weights W = diag(w): after one pass over the data, O(n p^2), a
    value costs O(p^3) whatever n. With M = W Phi^T Phi W, Z = M + eta I and c = Z^-1 W Phi^T y,

        log|K| = (n - p) log eta + log|Z|,    y.K^-1 y = (y.y - c.W Phi^T y) / eta.

    Attributes:
        gram: Phi^T Phi, with shape (p, p).
        projection: Phi^T y, with shape (p,).
        square: y.y.
        n: Number of points.

    References:
        Solin & Sarkka (2020), arXiv:1401.5508, section 3; Timonen & Lahdesmaki (2023), arXiv:2111.01931
    """

    gram: Tensor
    projection: Tensor
    square: float
    n: int

    @classmethod
    def of(cls, features: Tensor, y: Tensor) -> BasisMarginal:
        """From Phi with shape (n, p) and y with shape (n,)."""
        return cls(features.T @ features, features.T @ y, float(y.square().sum()), len(y))

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Negative log marginal likelihood with s profiled, and its gradient with respect to (log eta, log w).

        Args:
            theta: With shape (1 + p,), natural logarithms.

        Raises:
            torch.linalg.LinAlgError: If Z is not positive definite in floating point.
        """
        p, eta = len(self.projection), math.exp(theta[0])
        w = as_tensor(np.exp(theta[1:]), self.gram)
        z = w[:, None] * self.gram * w
        z.diagonal().add_(eta)
        lower = torch.linalg.cholesky(z)
        b = w * self.projection
        c = torch.cholesky_solve(b[:, None], lower)[:, 0]
        q = max((self.square - float(b @ c)) / eta, 1e-300)
        s2 = q / self.n
        log_determinant = (self.n - p) * theta[0] + 2.0 * float(lower.diagonal().log().sum())
        inverse = torch.cholesky_inverse(lower).diagonal()
        # (Z^-1 M)_jj = 1 - eta (Z^-1)_jj.
        by_weight = 1.0 - eta * inverse - c.square() / s2
        by_eta = 0.5 * (self.n - p + eta * float(inverse.sum()) + (float(c @ c) - q) / s2)
        value = 0.5 * (self.n * (math.log(2.0 * math.pi * s2) + 1.0) + log_determinant)
        return value, np.concatenate([[by_eta], by_weight.cpu().numpy()])
