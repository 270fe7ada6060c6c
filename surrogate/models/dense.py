"""The marginal likelihood of few points on the CPU: the formulas of ``surrogate.models.gp`` by LAPACK's own routines.

A fit takes thousands of values for matrices of fifty rows, where each torch operation costs more than its arithmetic.
Matrices are kept column by column, as LAPACK has them, and of symmetric ones the upper triangle alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dgeqrf, dorgqr, dpotrf, dpotri, dtrtrs

from surrogate.linalg.stationary import Stationary

__all__ = ["DENSE_ROWS", "DensePoints", "log_marginal", "negative_log_marginal_and_gradient"]

Array = NDArray[np.float64]

DENSE_ROWS = 400
"""Number of points up to which this is faster than the same in torch."""


@dataclass(frozen=True, eq=False)
class DensePoints:
    """Points in whitened coordinates, without derivatives.

    Attributes:
        u: With shape (n, d).
        sides: y and the basis functions of the trend, with shape (n, 1 + p).
        gap: With shape (n,), see ``surrogate.models.gp.TrainingSet``; so are the others.
        noise_variance: Of the noise that came with the values, with shape (n,).
        unit_variance: Square of the unit of common noise, with shape (n,).
    """

    u: Array
    sides: Array
    gap: Array
    noise_variance: Array
    unit_variance: Array

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.u)

    def variance(self, theta: Array) -> Array:
        """Noise variances without the nugget in units of s^2, with shape (n,)."""
        d = self.u.shape[1]
        shaped = np.square(np.exp(theta[1]) * self.gap)
        if len(theta) == d + 2:
            return shaped
        variance = shaped + self.noise_variance
        if len(theta) > d + 3:
            variance += np.exp(2.0 * theta[d + 3]) * self.unit_variance
        return variance * np.exp(-2.0 * theta[d + 2])


@dataclass(frozen=True, eq=False)
class _Solved:
    """K factored for one value of the hyperparameters, and y through it."""

    upper: Array  # U, (n, n), with U^T U = K_res
    trend: Array  # Q, (n, p): the top block of the stacked QR
    rest: Array  # U^-T y without what the trend explains
    slope: Array  # a^2 h, (n, n)
    covariance: Array  # a^2 k, (n, n); the slope itself where h = k
    z: Array  # u in units of the lengthscales
    value: float  # negative log marginal likelihood
    s2: float
    q: float  # y.K^-1 y


def _checked(info: int, name: str) -> None:
    if info != 0:
        msg = f"the kernel matrix is not positive definite in floating point (LAPACK {name}: {info})"
        raise torch.linalg.LinAlgError(msg)


def _correlations(kernel: Stationary, z: Array) -> tuple[Array, Array]:
    """k and h between all points, which may be one array."""
    square = (z * z).sum(1)
    r2 = z @ z.T
    r2 *= -2.0
    r2 += square
    r2 += square[:, None]
    np.maximum(r2, 0.0, out=r2)
    r2.flat[:: len(z) + 1] = 0.0
    k, h = kernel.evaluate(torch.from_numpy(r2))
    values = k.numpy()
    return values, values if h is k else h.numpy()


def _solved(kernel: Stationary, points: DensePoints, theta: Array, nugget: float) -> _Solved:
    """O(n^3 / 3 + n^2 (p + d) + n p^2)."""
    n, d = points.u.shape
    z = points.u / np.exp(theta[2 : d + 2])
    covariance, slope = _correlations(kernel, z)
    same, a2 = slope is covariance, np.exp(2.0 * theta[0])
    covariance *= a2
    if not same:
        slope = slope * a2
    k_res = covariance.copy()
    k_res.flat[:: n + 1] += nugget + points.variance(theta)
    upper, info = dpotrf(k_res.T, lower=0, clean=1, overwrite_a=1)  # symmetric: its rows are its columns
    _checked(info, "dpotrf")
    solved, info = dtrtrs(upper, points.sides, lower=0, trans=1)
    _checked(info, "dtrtrs")
    v, p = solved[:, 0], solved.shape[1] - 1
    stacked = np.zeros((n + p, p), order="F")
    stacked[:n] = solved[:, 1:]
    stacked[n:].flat[:: p + 1] = 1.0
    reflectors, tau, _, _ = dgeqrf(stacked, overwrite_a=1)
    diagonal = np.abs(reflectors.diagonal())
    q_all, _, _ = dorgqr(reflectors, tau, overwrite_a=1)
    trend = q_all[:n]
    rest = v - trend @ (v @ trend)
    q = float(v @ rest)
    s2 = np.exp(2.0 * theta[d + 2]) if len(theta) > d + 2 else max(q / n, 1e-300)
    log_determinant = 2.0 * (np.log(upper.diagonal()).sum() + np.log(diagonal).sum())
    value = 0.5 * (log_determinant + n * np.log(2.0 * np.pi * s2) + q / s2)
    return _Solved(upper, trend, rest, slope, covariance, z, float(value), float(s2), q)


def log_marginal(kernel: Stationary, points: DensePoints, theta: Array, nugget: float) -> float:
    """Log marginal likelihood in nats; as ``surrogate.models.gp.condition`` has it.

    Raises:
        torch.linalg.LinAlgError: If the kernel matrix is not positive definite in floating point.
    """
    return -_solved(kernel, points, theta, nugget).value


def negative_log_marginal_and_gradient(
    kernel: Stationary, points: DensePoints, theta: Array, nugget: float
) -> tuple[float, Array]:
    """Value and gradient of ``surrogate.models.gp.negative_log_marginal``; O(n^3).

    Raises:
        torch.linalg.LinAlgError: If the kernel matrix is not positive definite in floating point.
    """
    n, d = points.u.shape
    s = _solved(kernel, points, theta, nugget)
    half, info = dtrtrs(s.upper, np.column_stack([s.trend, s.rest / np.sqrt(s.s2)]), lower=0, trans=0)
    _checked(info, "dtrtrs")
    inverse, info = dpotri(s.upper, lower=0, overwrite_c=1)
    _checked(info, "dpotri")
    w = dsyrk(-1.0, half, beta=1.0, c=inverse, lower=0, overwrite_c=1)  # zero below the diagonal, as the factor is
    diagonal = w.diagonal().copy()
    gradient = np.zeros_like(theta)
    if s.slope is not s.covariance:
        gradient[0] = 2.0 * np.vdot(w.T, s.covariance) - diagonal @ s.covariance.diagonal()
    g = np.multiply(w.T, s.slope)
    rows, columns = g.sum(1), g.sum(0)
    if s.slope is s.covariance:
        gradient[0] = 2.0 * rows.sum() - diagonal @ s.covariance.diagonal()
    inverse_square = np.exp(-2.0 * theta[d + 2]) if len(theta) > d + 2 else 1.0
    gradient[1] = diagonal @ np.square(np.exp(theta[1]) * points.gap) * inverse_square
    gradient[2 : d + 2] = (rows + columns) @ np.square(s.z) - 2.0 * (s.z * (g @ s.z)).sum(0)
    if len(theta) > d + 2:
        gradient[d + 2] = n - s.q / s.s2 - diagonal @ points.variance(theta)
    if len(theta) > d + 3:
        gradient[d + 3] = diagonal @ points.unit_variance * np.exp(2.0 * theta[d + 3]) * inverse_square
    return s.value, gradient
