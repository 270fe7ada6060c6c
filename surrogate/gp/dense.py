"""The marginal likelihood of few points on the CPU: the formulas of ``surrogate.gp.process`` by LAPACK's own routines.

A fit takes thousands of values for matrices of fifty rows, where each torch operation costs more than its arithmetic.
Matrices are kept column by column, as LAPACK has them, and of symmetric ones the upper triangle alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dgeqrf, dorgqr, dpotrf, dpotri, dtrtrs

from surrogate.arrays import Array
from surrogate.linalg.stationary import Stationary

__all__ = ["DENSE_ROWS", "DensePoints", "log_marginals", "negative_log_marginal_and_gradient"]


DENSE_ROWS = 400
"""Number of points up to which this is faster than the same in torch."""


@dataclass(frozen=True, eq=False)
class DensePoints:
    """Points in whitened coordinates, without derivatives.

    Attributes:
        u: With shape (n, d).
        sides: The basis functions of the trend and y, with shape (n, p + 1).
        gap: With shape (n,), see ``surrogate.gp.process.TrainingSet``; so are the others.
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
class _Part:
    """Some leading points at one value of the hyperparameters."""

    upper: Array  # U, (n, n), with U^T U = K_res
    reflectors: Array  # the QR factorisation of [U^-T Phi, U^-T y; I, 0] as LAPACK leaves it
    tau: Array
    value: float  # negative log marginal likelihood
    s2: float
    q: float  # y.K^-1 y

    @property
    def n(self) -> int:
        return len(self.upper)


def _checked(info: int, name: str) -> None:
    if info != 0:
        msg = f"the kernel matrix is not positive definite in floating point (LAPACK {name}: {info})"
        raise torch.linalg.LinAlgError(msg)


def _correlations(kernel: Stationary, z: Array) -> tuple[Array, Array]:
    """k and h between all points z in units of the lengthscales; they may be one array."""
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


def _factored(correlation: Array, points: DensePoints, theta: Array, nugget: float) -> tuple[Array, Array]:
    """U, and U^-T (Phi, y) with shape (n, p + 1); the factor of the first points is in its first rows and columns."""
    k_res = np.exp(2.0 * theta[0]) * correlation
    k_res.flat[:: len(k_res) + 1] += nugget + points.variance(theta)
    upper, info = dpotrf(k_res.T, lower=0, clean=1, overwrite_a=1)  # symmetric: its rows are its columns
    _checked(info, "dpotrf")
    solved, info = dtrtrs(upper, points.sides, lower=0, trans=1)
    _checked(info, "dtrtrs")
    return upper, solved


def _part(upper: Array, solved: Array, n: int, log_scale: float | None) -> _Part:
    """The first n points: y.K^-1 y = min_b |U^-T (y - Phi b)|^2 + |b|^2, the last pivot of the QR squared."""
    p = solved.shape[1] - 1
    stacked = np.zeros((n + p, p + 1), order="F")
    stacked[:n] = solved[:n]
    stacked[n:].flat[:: p + 2] = 1.0
    reflectors, tau, _, _ = dgeqrf(stacked, overwrite_a=1)
    pivots = np.abs(reflectors.diagonal())
    q = float(pivots[p]) ** 2
    s2 = max(q / n, 1e-300) if log_scale is None else float(np.exp(2.0 * log_scale))
    half_log_determinant = np.log(upper.diagonal()[:n]).sum() + np.log(pivots[:p]).sum()
    value = half_log_determinant + 0.5 * (n * np.log(2.0 * np.pi * s2) + q / s2)
    return _Part(upper if n == len(upper) else upper[:n, :n], reflectors, tau, float(value), s2, q)


def _weights(part: _Part) -> Array:
    """The upper triangle of K^-1 - K^-1 y y^T K^-1 / s^2, and zeros below; uses up the part.

    The top blocks of the columns of the QR's orthogonal factor are those of the trend and the rest of y over its norm.
    """
    columns, _, _ = dorgqr(part.reflectors, part.tau, overwrite_a=1)
    columns[:, -1] *= np.sqrt(part.q / part.s2)
    half, info = dtrtrs(part.upper, columns[: part.n], lower=0, trans=0)
    _checked(info, "dtrtrs")
    inverse, info = dpotri(part.upper, lower=0)  # zero below the diagonal, as the factor is
    _checked(info, "dpotri")
    return np.asarray(dsyrk(-1.0, half, beta=1.0, c=inverse, lower=0, overwrite_c=1))


def _log_scale(points: DensePoints, theta: Array) -> float | None:
    d = points.u.shape[1]
    return float(theta[d + 2]) if len(theta) > d + 2 else None


def log_marginals(
    kernel: Stationary, points: DensePoints, thetas: Sequence[Array], nugget: float, *, given: int = 0
) -> list[float]:
    """Log marginal likelihoods in nats at several hyperparameters; O(n^3 / 3 + n p^2) each.

    Args:
        kernel: Correlation function.
        points: The data.
        thetas: As in ``surrogate.gp.process.negative_log_marginal``; neighbours in the list share the correlations
            where they have the same lengthscales.
        nugget: Noise variance in units of s^2.
        given: Number of leading points that are only conditioned on.

    Returns:
        One for each; -inf where the kernel matrix is not positive definite in floating point.
    """
    d, out = points.u.shape[1], []
    lengthscales, correlation = None, np.empty(0)
    for theta in thetas:
        if lengthscales is None or not np.array_equal(lengthscales, theta[2 : d + 2]):
            lengthscales = theta[2 : d + 2]
            correlation = _correlations(kernel, points.u / np.exp(lengthscales))[0]
        try:
            upper, solved = _factored(correlation, points, theta, nugget)
        except torch.linalg.LinAlgError:
            out.append(-np.inf)
            continue
        log_scale = _log_scale(points, theta)
        value = _part(upper, solved, points.n, log_scale).value
        out.append((_part(upper, solved, given, log_scale).value if given else 0.0) - value)
    return out


def negative_log_marginal_and_gradient(
    kernel: Stationary, points: DensePoints, theta: Array, nugget: float, *, given: int = 0
) -> tuple[float, Array]:
    """Value and gradient of ``surrogate.gp.process.negative_log_marginal``; O(n^3).

    Args:
        kernel: Correlation function.
        points: The data.
        theta: Logarithms of the hyperparameters.
        nugget: Noise variance in units of s^2.
        given: Number of leading points that are only conditioned on: what is theirs is subtracted.

    Raises:
        torch.linalg.LinAlgError: If the kernel matrix is not positive definite in floating point.
    """
    n, d = points.u.shape
    z, log_scale = points.u / np.exp(theta[2 : d + 2]), _log_scale(points, theta)
    k, h = _correlations(kernel, z)
    upper, solved = _factored(k, points, theta, nugget)
    whole = _part(upper, solved, n, log_scale)
    w, value, misfit = _weights(whole), whole.value, n - whole.q / whole.s2
    if given:
        less = _part(upper, solved, given, log_scale)
        w[:given, :given] -= _weights(less)
        value, misfit = value - less.value, misfit - given + less.q / less.s2
    return value, _gradient(points, theta, z, (k, h), w, misfit)


def _gradient(
    points: DensePoints, theta: Array, z: Array, correlations: tuple[Array, Array], w: Array, misfit: float
) -> Array:
    """Half of the sum of W times the derivatives of K; off the diagonal the upper triangle of W counts twice."""
    d = z.shape[1]
    k, h = correlations
    a2, diagonal = np.exp(2.0 * theta[0]), w.diagonal()
    gradient = np.zeros_like(theta)
    g = np.multiply(w.T, h)  # both by rows
    rows, columns = g.sum(1), g.sum(0)
    both = rows.sum() if h is k else np.vdot(w.T, k)
    gradient[0] = a2 * (2.0 * both - diagonal.sum())
    gradient[2 : d + 2] = a2 * ((rows + columns) @ np.square(z) - 2.0 * (z * (g @ z)).sum(0))
    inverse_square = np.exp(-2.0 * theta[d + 2]) if len(theta) > d + 2 else 1.0
    gradient[1] = diagonal @ np.square(np.exp(theta[1]) * points.gap) * inverse_square
    if len(theta) > d + 2:
        gradient[d + 2] = misfit - diagonal @ points.variance(theta)
    if len(theta) > d + 3:
        gradient[d + 3] = diagonal @ points.unit_variance * np.exp(2.0 * theta[d + 3]) * inverse_square
    return gradient
