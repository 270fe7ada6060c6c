"""The marginal likelihood of few points on the CPU: the formulas of ``solvers.cholesky`` with direct LAPACK calls.

A fit needs thousands of values for matrices of fifty rows, for which the overhead of torch exceeds the arithmetic.
Matrices are stored in column-major order as in LAPACK, and symmetric ones as their upper triangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dgeqrf, dorgqr, dpotrf, dpotri, dtrtrs

from surrogate.arrays import Array
from surrogate.gp.kernels import Covariance, Points, Scaled
from surrogate.gp.weights import LowerWeights

if TYPE_CHECKING:
    from surrogate.gp.process import Process

__all__ = ["MOST_POINTS", "FewPoints", "log_evidences", "negative_log_evidence"]


MOST_POINTS = 400
"""Number of points up to which this is faster than torch."""


@dataclass(frozen=True, eq=False)
class FewPoints:
    """Data without derivatives as numpy arrays.

    Attributes:
        u: Inputs, with shape (n, d).
        sides: The basis functions of the mean, and y, with shape (n, p + 1), in column-major order.
        depth: Depths, with shape (n,), see ``surrogate.gp.noise.NoiseColumns``.
        noise_variance: Known noise variances, with shape (n,).
        unit_variance: Squared units of common noise, with shape (n,).
    """

    u: Array
    sides: Array
    depth: Array
    noise_variance: Array
    unit_variance: Array

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.u)


@dataclass(frozen=True, eq=False)
class _Part:
    """Results for some leading points at given hyperparameters."""

    upper: Array  # U, (n, n), with U^T U = K_res
    reflectors: Array  # the QR factorisation of [U^-T Phi, U^-T y; I, 0] in LAPACK's form
    tau: Array
    value: float  # negative log marginal likelihood
    s2: float
    q: float  # y.K^-1 y

    @property
    def n(self) -> int:
        return len(self.upper)


def _check(info: int, name: str) -> None:
    if info != 0:
        msg = f"the covariance is not positive definite in floating point (LAPACK {name}: {info})"
        raise torch.linalg.LinAlgError(msg)


def _factor(k_res: Array, variance: Any, sides: Array) -> tuple[Array, Array]:
    """U, and U^-T (Phi, y) with shape (n, p + 1); the first rows and columns of U factor the first points.

    Overwrites ``k_res``, the covariance without noise.
    """
    k_res.flat[:: len(k_res) + 1] += variance
    upper, info = dpotrf(k_res.T, lower=0, clean=1, overwrite_a=1)  # symmetric: its rows are its columns
    _check(info, "dpotrf")
    solved, info = dtrtrs(upper, sides, lower=0, trans=1)
    _check(info, "dtrtrs")
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
    """The upper triangle of K^-1 - K^-1 y y^T K^-1 / s^2, with zeros below; overwrites the part.

    The top blocks of the orthogonal factor's columns are those of the mean, and the normalised residual of y.
    """
    columns, _, _ = dorgqr(part.reflectors, part.tau, overwrite_a=1)
    columns[:, -1] *= np.sqrt(part.q / part.s2)
    half, info = dtrtrs(part.upper, columns[: part.n], lower=0, trans=0)
    _check(info, "dtrtrs")
    inverse, info = dpotri(part.upper, lower=0)  # zero below the diagonal, like the factor
    _check(info, "dpotri")
    return np.asarray(dsyrk(-1.0, half, beta=1.0, c=inverse, lower=0, overwrite_c=1))


def negative_log_evidence(process: Process, points: FewPoints, vector: Array, *, given: int = 0) -> tuple[float, Array]:
    """See ``solvers.cholesky.negative_log_evidence``: O(n^3).

    Args:
        process: Kernel, mean and noise.
        points: The data.
        vector: Log-hyperparameters, with shape (size,), used instead of the process's own.
        given: Number of leading points on which to condition: their own likelihood is divided out.

    Raises:
        torch.linalg.LinAlgError: If the covariance is not positive definite in floating point.
    """
    log_scale, of_kernel, of_noise = process.split(vector)
    covariance = process.kernel.forward(of_kernel, Points(points.u))
    relative, absolute, slopes = process.noise.forward(of_noise, points)
    inverse_square = 1.0 if log_scale is None else np.exp(-2.0 * log_scale)
    if absolute is not None and log_scale is not None:
        absolute = absolute * inverse_square
    variance = relative if absolute is None else relative + absolute
    upper, solved = _factor(covariance.matrix(), variance, points.sides)
    whole = _part(upper, solved, points.n, log_scale)
    w, value, misfit = _weights(whole), whole.value, points.n - whole.q / whole.s2
    if given:
        less = _part(upper, solved, given, log_scale)
        w[:given, :given] -= _weights(less)
        value, misfit = value - less.value, misfit - given + less.q / less.s2

    # Half of the sums of W times the derivatives of K.
    gradient, scaled, diagonal = np.empty(len(vector)), int(log_scale is not None), w.diagonal()
    end = len(vector) - len(slopes)
    covariance.contract(LowerWeights(w.T), gradient[scaled:end])
    for i, (column, weight) in enumerate(slopes, end):
        gradient[i] = diagonal.sum() * weight if column is None else (diagonal @ column) * weight * inverse_square
    gradient *= 0.5
    if scaled:
        gradient[0] = misfit if absolute is None else misfit - diagonal @ absolute
    return value, gradient


def log_evidences(process: Process, points: FewPoints, vectors: Sequence[Array], *, given: int = 0) -> list[float]:
    """Log marginal likelihoods in nats at several hyperparameters; O(n^3 / 3 + n p^2) each.

    Args:
        process: Kernel, mean and noise.
        points: The data.
        vectors: Vectors with shape (size,). Successive ones that differ only in the kernel's scale share its
            covariance.
        given: Number of leading points on which to condition.

    Returns:
        The values; -inf if a covariance is not positive definite in floating point.
    """
    memory, out = _Memory(process, points), []
    for vector in vectors:
        log_scale, of_kernel, of_noise = process.split(vector)
        relative, absolute, _ = process.noise.forward(of_noise, points)
        if absolute is not None and log_scale is not None:
            absolute = absolute * np.exp(-2.0 * log_scale)
        variance = relative if absolute is None else relative + absolute
        try:
            upper, solved = _factor(memory.matrix(of_kernel), variance, points.sides)
        except torch.linalg.LinAlgError:
            out.append(-np.inf)
            continue
        value = _part(upper, solved, points.n, log_scale).value
        out.append((_part(upper, solved, given, log_scale).value if given else 0.0) - value)
    return out


class _Memory:
    """Covariances of a kernel; caches the last one for others that differ only in scale."""

    def __init__(self, process: Process, points: FewPoints) -> None:
        kernel = process.kernel
        self._scaled = isinstance(kernel, Scaled)
        self._kernel = kernel.parts[0] if self._scaled else kernel
        self._points = Points(points.u)
        self._last: tuple[Array, Covariance] | None = None

    def matrix(self, vector: Array) -> Array:
        """The covariance at these hyperparameters, which may be overwritten."""
        inner = vector[1:] if self._scaled else vector
        if self._last is None or not np.array_equal(self._last[0], inner):
            self._last = inner, self._kernel.forward(inner, self._points)
        matrix = self._last[1].matrix()
        return np.multiply(np.exp(2.0 * vector[0]), matrix, out=matrix) if self._scaled else matrix
