"""Exact Gaussian processes by a Cholesky factor, in torch on any device.

All results use L L^T = K_res (kernel and noise, without the mean) and a QR factorisation of the stacked matrix [L^-1
Phi; I]. This is universal kriging with a proper prior, without squaring the condition number of the basis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg.lapack import dpotrf, dpotri, dtrtri
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.kernels import Covariance
from surrogate.gp.noise import Variances
from surrogate.gp.posterior import Inputs, joint_normal
from surrogate.gp.process import Data, Process
from surrogate.gp.weights import FullWeights

__all__ = ["Cholesky", "CholeskyPosterior", "negative_log_evidence", "with_input_slopes"]


_TILE = 4_000_000  # kernel values computed at a time: memory stays below 100 MB
_LEAST_VARIANCE = 1e-14  # smallest variance in units of the squared output scale, given rounding


@dataclass(frozen=True, eq=False)
class _Factor:
    """K = s^2 (K_res + Phi Phi^T) factored for one value of the hyperparameters, in units of s."""

    lower: Tensor  # L, (n, n)
    q: Tensor  # (n, p): the top block of the stacked QR, so that L^-1 Phi A^-1 Phi^T L^-T = Q Q^T
    upper: Tensor  # R, (p, p), with R^T R = A = I + Phi^T K_res^-1 Phi
    covariance: Covariance
    variances: Variances
    log_scale: float | None

    @classmethod
    def of(cls, process: Process, data: Data, vector: Array) -> _Factor:
        """The factor at a vector of log-hyperparameters; O(n^3 / 3 + n^2 (p + d) + n p^2).

        Raises:
            torch.linalg.LinAlgError: If K_res is not positive definite in floating point.
        """
        log_scale, of_kernel, of_noise = process.split(vector)
        covariance = process.kernel.forward(of_kernel, data.points)
        variances = process.noise.forward(of_noise, data)
        k_res, absolute = covariance.matrix(), variances.absolute
        if absolute is None:
            k_res.diagonal().add_(variances.relative)
        else:
            scaled = absolute if log_scale is None else absolute * np.exp(-2.0 * log_scale)
            k_res.diagonal().add_(variances.relative + scaled)
        lower = cholesky_in_place(k_res)
        phi = data.basis(process.mean)
        v = torch.linalg.solve_triangular(lower, phi, upper=False)
        identity = torch.eye(phi.shape[1], dtype=v.dtype, device=v.device)
        q, upper = torch.linalg.qr(torch.cat([v, identity]))
        return cls(lower, q[: len(phi)], upper, covariance, variances, log_scale)

    def half_solve(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """v = L^-1 y, and its residual after removing the mean, v - Q Q^T v."""
        v = torch.linalg.solve_triangular(self.lower, y[:, None] if y.ndim == 1 else y, upper=False)
        v = v[:, 0] if y.ndim == 1 else v
        return v, v - self.q @ (self.q.T @ v)

    def misfit(self, v: Tensor, rest: Tensor) -> Tensor:
        """y.K^-1 y of each output as |v - Q Q^T v|^2 + |b|^2 with the coefficients b of the mean: never negative.

        The product of v and its residual is equal up to rounding, which may exceed it if the mean explains everything.
        """
        b = _solve_upper(self.upper, self.q.T @ v)
        return rest.square().sum(0) + b.square().sum(0)

    def log_determinant(self) -> Tensor:
        return 2.0 * (self.lower.diagonal().log().sum() + self.upper.diagonal().abs().log().sum())


def cholesky_in_place(k: Tensor) -> Tensor:
    """Lower Cholesky factor of a symmetric matrix, which is overwritten.

    Raises:
        torch.linalg.LinAlgError: If it is not positive definite in floating point.
    """
    if k.device.type != "cpu" or k.dtype != torch.float64:
        return torch.linalg.cholesky(k)
    upper, info = dpotrf(k.numpy().T, lower=0, clean=1, overwrite_a=1)
    if info != 0:
        msg = f"the covariance is not positive definite in floating point (LAPACK dpotrf: {info})"
        raise torch.linalg.LinAlgError(msg)
    return torch.from_numpy(upper.T)


def _inverse_factor(lower: Tensor) -> Tensor:
    """L^-1 of a lower triangular L; n^3 / 3 on the CPU by LAPACK, a third of a solution with the identity."""
    if lower.device.type != "cpu" or lower.dtype != torch.float64:
        identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        return torch.linalg.solve_triangular(lower, identity, upper=False)
    upper, info = dtrtri(lower.contiguous().numpy().T, lower=0)
    if info != 0:
        msg = f"the covariance is singular in floating point (LAPACK dtrtri: {info})"
        raise torch.linalg.LinAlgError(msg)
    return torch.from_numpy(upper.T)


def _inverse_lower(lower: Tensor) -> Tensor:
    """A matrix with the lower triangle of (L L^T)^-1; the upper triangle is unspecified.

    Calls LAPACK directly on the CPU, which avoids copies that make torch twice as slow.
    """
    if lower.device.type != "cpu" or lower.dtype != torch.float64:
        return torch.cholesky_inverse(lower)
    # A row-major lower triangle is a column-major upper one.
    inverse, info = dpotri(lower.numpy().T if lower.is_contiguous() else lower.contiguous().numpy().T, lower=0)
    if info != 0:
        msg = f"the covariance is singular in floating point (LAPACK dpotri: {info})"
        raise torch.linalg.LinAlgError(msg)
    return torch.from_numpy(inverse.T)


def negative_log_evidence(process: Process, data: Data, vector: Array) -> tuple[float, Array]:
    """Negative log marginal likelihood and its gradient with respect to the log-hyperparameters: O(n^3).

    With W = K^-1 - alpha alpha^T / s^2 each derivative is half of the sum of W times that of K.

    Args:
        process: Kernel, mean and noise.
        data: One output, or several independent ones with a common kernel, whose log-likelihoods are added.
        vector: Log-hyperparameters, with shape (size,), used instead of the process's own.

    Returns:
        The value in nats and the gradient, with shape (size,).

    Raises:
        torch.linalg.LinAlgError: If the covariance is not positive definite in floating point.
    """
    value, gradient, _ = _evidence(process, data, vector, by_inputs=False)
    return value, gradient


def with_input_slopes(process: Process, data: Data, vector: Array) -> tuple[float, Array, Array]:
    """``negative_log_evidence``, and also its derivatives with respect to the inputs u, with shape (n, d).

    Raises:
        ValueError: If there are derivatives among the data.
        torch.linalg.LinAlgError: If the covariance is not positive definite in floating point.
    """
    if data.at is not None:
        msg = "derivatives with respect to inputs are not available for data with derivatives"
        raise ValueError(msg)
    value, gradient, slopes = _evidence(process, data, vector, by_inputs=True)
    return value, gradient, slopes.cpu().numpy()


def _evidence(process: Process, data: Data, vector: Array, *, by_inputs: bool) -> tuple[float, Array, Tensor]:
    """Value, gradient, and derivatives with respect to the inputs (zero unless requested)."""
    factor = _Factor.of(process, data, vector)
    n, outputs = len(data.y), 1 if data.y.ndim == 1 else data.y.shape[1]
    v, rest = factor.half_solve(data.y)
    q = factor.misfit(v, rest) if outputs > 1 else factor.misfit(v, rest).reshape(())
    s2 = torch.exp(2.0 * q.new_tensor(factor.log_scale)) if factor.log_scale is not None else (q / n).clamp(min=1e-300)
    spread, misfits = n * torch.log(2.0 * np.pi * s2).expand(outputs).sum(), (q / s2).expand(outputs).sum()
    value = 0.5 * (outputs * factor.log_determinant() + spread + misfits)

    right = rest[:, None] if rest.ndim == 1 else rest
    half = torch.linalg.solve_triangular(factor.lower.T, torch.cat([factor.q, right], 1), upper=True)
    p = factor.q.shape[1]
    inverse = _inverse_lower(factor.lower)
    inverse.addmm_(half[:, :p], half[:, :p].T, alpha=-1.0)
    if outputs == 1:
        alpha = half[:, -1] / s2.sqrt()
        inverse.addr_(alpha, alpha, alpha=-1.0)
    else:
        alphas = half[:, p:] / s2.sqrt()
        inverse.mul_(outputs).addmm_(alphas, alphas.T, alpha=-1.0)
    # The lower triangle with its strict part doubled is enough for sums with symmetric matrices.
    w = inverse.tril_().mul_(2.0)
    w.diagonal().mul_(0.5)

    misfit = float(n * outputs - misfits)
    gradient, moved = _gradient(process, data, factor, FullWeights(w), misfit, by_inputs=by_inputs)
    return float(value), gradient, moved


def _gradient(
    process: Process, data: Data, factor: _Factor, weights: FullWeights, misfit: float, *, by_inputs: bool
) -> tuple[Array, Tensor]:
    """The gradient, half of the sums of W times the derivatives of K; overwrites ``weights``."""
    gradient, scaled = np.zeros(process.size), int(factor.log_scale is not None)
    of_noise, diagonal = scaled + process.kernel.size, weights.matrix.diagonal()
    inverse_square = 1.0 if factor.log_scale is None else float(np.exp(-2.0 * factor.log_scale))
    for i, (column, weight) in enumerate(factor.variances.slopes, of_noise):
        total = diagonal.sum() if column is None else torch.dot(diagonal, column * inverse_square)
        gradient[i] = weight * float(total)
    if scaled and factor.variances.absolute is not None:
        misfit -= float(torch.dot(diagonal.clone(), factor.variances.absolute * inverse_square))
    moved = _mean_slopes(process, data.u, weights.matrix) if by_inputs else torch.zeros_like(data.u)
    by_kernel = torch.zeros_like(data.u) if by_inputs else None
    factor.covariance.contract(weights, gradient[scaled:of_noise], by_kernel)
    gradient *= 0.5
    gradient[:scaled] = misfit
    return gradient, moved if by_kernel is None else moved + 0.5 * by_kernel


def _mean_slopes(process: Process, u: Tensor, w: Tensor) -> Tensor:
    """Contribution of the mean to the derivatives with respect to the inputs, with w as in ``_evidence``."""
    symmetric = 0.5 * (w + w.T)
    return torch.einsum("np,ndp->nd", symmetric @ process.mean.basis(u), process.mean.slopes(u))


@dataclass(frozen=True, eq=False)
class Cholesky:
    """The exact solver: O(n^3 / 3 + n^2 p) time and two n x n matrices, where n includes derivatives."""

    def condition(self, process: Process, data: Data) -> CholeskyPosterior:
        """The process given the data.

        Raises:
            torch.linalg.LinAlgError: If the covariance is not positive definite in floating point.
        """
        factor = _Factor.of(process, data, process.vector())
        v, rest = factor.half_solve(data.y)
        n = len(data.y)
        q = np.atleast_1d(factor.misfit(v, rest).cpu().numpy())
        if factor.log_scale is None:
            scale = np.maximum(np.sqrt(q / n), 1e-150)
        else:
            scale = np.full(len(q), float(np.exp(factor.log_scale)))
        log_determinant = float(factor.log_determinant())
        value = -0.5 * float(np.sum(log_determinant + n * np.log(2.0 * np.pi * scale**2) + q / scale**2))
        alpha = _solve_upper(factor.lower.T, rest)
        coefficients = _solve_upper(factor.upper, factor.q.T @ v)
        size = float(scale[0]) if v.ndim == 1 else scale
        return CholeskyPosterior(process, data, size, value, alpha, coefficients, factor)


def _solve_upper(upper: Tensor, right: Tensor) -> Tensor:
    """The solution x of U x = right for an upper triangular U, with the shape of ``right``."""
    solution = torch.linalg.solve_triangular(upper, right[:, None] if right.ndim == 1 else right, upper=True)
    return solution[:, 0] if right.ndim == 1 else solution


@dataclass(frozen=True, eq=False)
class CholeskyPosterior:
    """A process conditioned on data exactly, with the interface of ``surrogate.gp.posterior.Posterior``.

    Attributes:
        process: The process with the hyperparameters used.
        data: The data.
        scale: Output scale s; with shape (q,) for several outputs.
        log_evidence: Log marginal likelihood in nats.
        alpha: K^-1 y in units of the squared output scale, with the shape of y.
        coefficients: Coefficients of the basis functions of the mean, with shape (p,) or (p, q).
    """

    process: Process
    data: Data
    scale: float | Array
    log_evidence: float
    alpha: Tensor
    coefficients: Tensor
    _factor: _Factor

    @property
    def status(self) -> str:
        """A description of how the linear system was solved."""
        nugget = float(torch.as_tensor(self._factor.variances.relative).max())
        return f"Cholesky factor of {self.size} numbers, nugget {nugget:.3g}"

    @property
    def u(self) -> Tensor:
        """Inputs of the data, with shape (n, d)."""
        return self.data.u

    @property
    def size(self) -> int:
        """Number of data, derivatives included."""
        return len(self.alpha)

    @property
    def polynomial(self) -> tuple[Tensor, Tensor, Tensor]:
        """The mean without the residual as c + b.u + u.C.u, with shapes (), (d,) and (d, d).

        Raises:
            ValueError: If it is not quadratic, or there are several outputs.
        """
        if self._polynomial is None:
            msg = "only a process with one output and a mean that is at most quadratic can be written as a polynomial"
            raise ValueError(msg)
        return self._polynomial

    @cached_property
    def _polynomial(self) -> tuple[Tensor, Tensor, Tensor] | None:
        return None if self.alpha.ndim > 1 else self.process.mean.polynomial(self.coefficients, self.u.shape[1])

    @cached_property
    def _residual(self) -> Callable[[Tensor], Tensor]:
        return self.process.kernel.interpolant(self.data.points, self.alpha)

    def _tensor(self, u: Array | Tensor) -> Tensor:
        return torch.as_tensor(u, dtype=self.u.dtype, device=self.u.device)

    def mean(self, u: Inputs) -> Inputs:
        """Posterior mean at u, with shape (m,) or (m, q): O(m (n d + d^2)), about 0.2 ms for 100 x 1000."""
        x = self._tensor(u)
        if self._polynomial is None:
            out = self.process.mean.basis(x) @ self.coefficients
        else:
            c, b, quadratic = self._polynomial
            out = (x * (x @ quadratic)).sum(1).add_(x @ b).add_(c)
        block = max(1, _TILE // max(1, self.size))
        for start in range(0, len(x), block):
            out[start : start + block] += self._residual(x[start : start + block])
        return _like(out, u)

    def _cross(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """L^-1 k(X, x), with shape (n, m), and R^-T (phi(x) - Phi^T K_res^-1 k(X, x))^T, with shape (p, m)."""
        k = self.process.kernel.cross(self.data.points, x)
        half = torch.linalg.solve_triangular(self._factor.lower, k, upper=False)
        left = torch.linalg.solve_triangular(self._factor.upper.T, self.process.mean.basis(x).T, upper=False)
        return half, left - self._factor.q.T @ half

    def features(self, u: Array | Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the posterior covariance at u: cov = s^2 (k(u, u) - A^T A + B^T B).

        Returns:
            A with shape (n, m) and B with shape (p, m). O(m n (n + p)).
        """
        return self._cross(self._tensor(u))

    def _in_units_of_y(self, variance: Tensor) -> Tensor:
        """s^2 times the variance, with a last axis of outputs if there are several."""
        if np.ndim(self.scale) == 0:
            return float(self.scale) ** 2 * variance
        return variance[..., None] * self._tensor(np.square(self.scale))

    def variance(self, u: Inputs) -> Inputs:
        """Posterior variance of the noise-free function at u, with shape (m,) or (m, q): O(m n (n + p))."""
        x = self._tensor(u)
        half, left = self._cross(x)
        variance = self.process.kernel.diagonal(x) - half.square().sum(0) + left.square().sum(0)
        return _like(self._in_units_of_y(variance.clamp(min=_LEAST_VARIANCE)), u)

    def covariance(self, u: Inputs) -> Inputs:
        """Joint posterior covariance at u, with shape (m, m) or (m, m, q): O(m n (n + p) + m^2 (n + p))."""
        x = self._tensor(u)
        half, left = self._cross(x)
        k = self.process.kernel.covariance(x, x)
        return _like(self._in_units_of_y(k - half.T @ half + left.T @ left), u)

    def paths(self, u: Array, count: int, rng: np.random.Generator) -> Array:
        """Joint realisations of the noise-free function at u, with shape (count, m) or (count, m, q): O(m^3)."""
        covariance, mean = self.covariance(u), self.mean(u)
        if mean.ndim == 1:
            return mean + joint_normal(covariance, count, rng)
        draws = [joint_normal(covariance[..., k], count, rng) for k in range(mean.shape[1])]
        return mean + np.stack(draws, axis=-1)

    def leave_one_out(self) -> Array:
        """Each training datum minus its prediction from the others, with the shape of y: O(n^3).

        These are alpha_i / (K^-1)_ii, with the hyperparameters of the process; Rasmussen & Williams (2006), eq. 5.12.
        """
        half = _inverse_factor(self._factor.lower)
        inverse_diagonal = half.square().sum(0) - (self._factor.q.T @ half).square().sum(0)
        if self.alpha.ndim > 1:
            inverse_diagonal = inverse_diagonal[:, None]
        return (self.alpha / inverse_diagonal).cpu().numpy()


def _like(out: Tensor, given: Inputs) -> Inputs:
    """The result as a tensor, or as a numpy array if the points were one."""
    return out if isinstance(given, Tensor) else out.cpu().numpy()
