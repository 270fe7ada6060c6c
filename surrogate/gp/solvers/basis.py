"""Posteriors by basis functions: linear regression on any number of points."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.bases import Features
from surrogate.gp.evidence.basis import BasisSums
from surrogate.gp.kernels import StationaryKernel
from surrogate.gp.optimise import rescue
from surrogate.gp.scales import Observations, ScaledProcess

__all__ = ["BasisPosterior", "basis_posterior"]


@dataclass(frozen=True, eq=False)
class BasisPosterior:
    """The posterior of a process made of basis functions with normal coefficients.

    Attributes:
        process: Kernel and hyperparameters.
        basis: The p functions.
        lower: Cholesky factor of Z = F^T R^-1 F + eta I, with shape (p, p), for functions F at the data and relative
            noise variances R.
        coefficients: Posterior mean, with shape (p,).
        constant: Constant of the mean.
        log_likelihood: Log marginal likelihood in nats.
        residual: Relative residual of the normal equations.
        status: How it was computed.
    """

    process: ScaledProcess
    basis: Features
    lower: Tensor
    coefficients: Tensor
    constant: float
    log_likelihood: float
    residual: float
    status: str

    def _features(self, new: Tensor) -> Tensor:
        return self.basis.features(new, _lengthscales(self.process))

    def mean(self, new: Tensor) -> Tensor:
        """Posterior mean, with shape (b,), for new points with shape (b, d): O(b p)."""
        return self.constant + self._features(new) @ self.coefficients

    def variance(self, new: Tensor) -> Tensor:
        """Posterior variance of the function without noise, with shape (b,): O(b p^2).

        Prior variance that the functions do not capture, such as all of it outside the box of sines, is added. Random
        features capture all of it, but if there are few their variance may be too small far from the data.
        """
        f = self._features(new)
        half = torch.linalg.solve_triangular(self.lower, f.T, upper=False)
        missing = (self.process.kernel.diagonal(new) - f.square().sum(1)).clamp(min=0.0)
        return self.process.noise_variance * half.square().sum(0) + self.process.variance * missing

    def covariance(self, new: Tensor) -> Tensor:
        """Posterior covariance at new points, with shape (b, b), from the p basis functions: O(b p^2 + b^2 p)."""
        half = torch.linalg.solve_triangular(self.lower, self._features(new).T, upper=False)
        return self.process.noise_variance * (half.T @ half)

    def paths(self, new: Tensor, count: int, *, generator: torch.Generator) -> Tensor:
        """Joint realisations of the p functions at new points, with shape (count, b): O(count p^2 + count b p).

        Args:
            new: New points, with shape (b, d).
            count: Number of realisations.
            generator: Random generator, on the device of the points.
        """
        normal = torch.randn(len(self.lower), count, dtype=new.dtype, device=new.device, generator=generator)
        draws = torch.linalg.solve_triangular(self.lower.T, normal, upper=True)
        deviation = math.sqrt(self.process.noise_variance) * (self._features(new) @ draws)
        return (self.mean(new)[:, None] + deviation).T


def basis_posterior(
    process: ScaledProcess, data: Observations, basis: Features, words: str, *, calibration: Tensor | None = None
) -> BasisPosterior:
    """The posterior given the points, in O(n p^2) time and O(p^2) memory; the constant is the mean of the values.

    If the factorisation fails eta is raised tenfold until it works, which the result's ``process`` and ``status`` show.

    Args:
        process: Kernel and hyperparameters. A missing scale is estimated from the data.
        data: Points and values, in float64.
        basis: The functions.
        words: Description of the functions, for the status.
        calibration: Indices of points whose leave-one-out errors set a missing scale, as in ``exact_posterior``; None
            for the scale of maximum likelihood.

    Raises:
        FloatingPointError: If the matrix cannot be factored with any noise.
    """
    constant = data.level(process.eta)
    rest = replace(data, y=data.y - constant)
    known = None if process.scale is None else process.noise_variance
    sums = BasisSums.of(basis, rest, _lengthscales(process))
    found = rescue(lambda factor: sums.solve(process.eta * factor, known))
    solution, eta = found.value, process.eta * found.factor
    s2 = solution.s2
    if process.scale is None and calibration is not None:
        s2 = _left_out_square(process, rest.rows(calibration), basis, solution.lower, solution.coefficients, eta)
    process = process.with_(eta=eta, scale=math.sqrt(max(s2, 1e-300)))
    left = sums.gram @ solution.coefficients + eta * solution.coefficients - sums.projection
    residual = float(left.norm() / sums.projection.norm().clamp(min=1e-300))
    status = f"{words}, eta = {eta:.3g}"
    return BasisPosterior(
        process, basis, solution.lower, solution.coefficients, constant, -solution.value, residual, status
    )


def _left_out_square(
    process: ScaledProcess, part: Observations, basis: Features, lower: Tensor, coefficients: Tensor, eta: float
) -> float:
    """Mean square of leave-one-out errors over their variances, alpha_i^2 / (K^-1)_ii, of some of the points.

    With h_i = |L^-1 F_i|^2 / R_i both follow from the residual: alpha_i = (y_i - F_i c) / (eta R_i) and (K^-1)_ii =
    (1 - h_i) / (eta R_i).
    """
    f = basis.features(part.x, _lengthscales(process))
    noise = part.noise(eta) * torch.ones_like(part.y)
    relative = noise / eta
    h = torch.linalg.solve_triangular(lower, f.T, upper=False).square().sum(0) / relative
    left = part.y - f @ coefficients
    return float((left.square() / (noise * (1.0 - h).clamp(min=1e-12))).mean())


def _lengthscales(process: ScaledProcess) -> Array:
    """Lengthscales of a stationary kernel; empty for a composed one, whose basis includes those of its parts."""
    return process.lengthscale if isinstance(process.kernel, StationaryKernel) else np.empty(0)
