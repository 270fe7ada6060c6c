"""Gaussian-process classification by expectation propagation: a latent f, and classes that are signs of f plus noise.

    P(class = +1 | f) = Phi(f),    f ~ GP(0, kernel).

Each class is replaced by a Gaussian factor of f, a *site*, whose moments are those of the exact class under the
posterior without it; all sites are updated at once, with damping. See Minka (2001) and Rasmussen & Williams (2006),
section 3.6, http://gaussianprocess.org/gpml.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.special import log_ndtr

from surrogate.arrays import Array
from surrogate.gp.kernels import Kernel, Points
from surrogate.gp.posterior import joint_normal

__all__ = ["ClassPosterior", "classify"]

_SWEEPS = 60  # largest number of updates of all sites
_DAMPING = 0.7  # damping of steps, because full steps of all sites at once may oscillate
_TOLERANCE = 1e-3  # change of a mean, in sds of its class, below which the sites have converged
_FIRST_PRECISION = 1e-6  # initial precision of the sites: almost no information
_LEAST_PRECISION = 1e-12  # smallest precision of a site or a cavity, which rounding may make negative
_LEAST_VARIANCE = 1e-10  # smallest variance of f at a point


@dataclass(frozen=True, eq=False)
class ClassPosterior:
    """A Gaussian process f given classes of points. New points u have shape (m, d).

    Attributes:
        kernel: Prior covariance of f.
        points: Points, with shape (n, d).
        weights: Weights with shape (n,), such that the mean of f is ``cross(u).T @ weights``.
        root: Matrix with shape (n, n), such that the classes reduce the covariance of f by H^T H, H = root @ cross(u).
        log_evidence: Natural log of the probability of the classes.
    """

    kernel: Kernel
    points: Array
    weights: Array
    root: Array
    log_evidence: float

    @cached_property
    def _rows(self) -> Points:
        return Points(torch.from_numpy(np.ascontiguousarray(self.points)))

    def cross(self, u: Array) -> Array:
        """Prior covariance of f at the points with f at u, with shape (n, m)."""
        return self.kernel.cross(self._rows, torch.as_tensor(u)).numpy()

    def mean(self, u: Array) -> Array:
        """Posterior mean of f, with shape (m,); O(m n d)."""
        return self.weights @ self.cross(u)

    def margin(self, u: Array) -> Array:
        """Mean of f divided by its sd including class noise, with shape (m,); Phi of it is the probability of +1.

        O(m n^2).
        """
        k = self.cross(u)
        prior = self.kernel.diagonal(torch.as_tensor(u)).numpy()
        variance = np.maximum(prior - ((self.root @ k) ** 2).sum(0), 0.0)
        return (self.weights @ k) / np.sqrt(1.0 + variance)

    def covariance_parts(self, u: Array) -> tuple[Array, Array]:
        """Prior covariance K of f at u, (m, m), and H, (n, m); the posterior is K - H^T H. O(m^2 d + m n^2)."""
        return self.kernel.covariance(torch.as_tensor(u)).numpy(), self.root @ self.cross(u)

    def paths(self, u: Array, count: int, rng: np.random.Generator) -> Array:
        """Joint realisations of f with the noise of the classes, with shape (count, m); O(m^2 (d + n) + m^3)."""
        prior, half = self.covariance_parts(u)
        noise = rng.standard_normal((count, len(u)))
        return self.mean(u) + noise + joint_normal(prior - half.T @ half, count, rng)


def classify(kernel: Kernel, u: Array, sign: Array, nuggets: Iterable[float]) -> ClassPosterior | None:
    """The posterior given classes, after about twenty factorisations of O(n^3).

    Args:
        kernel: Prior covariance of f, in units of the noise of the classes.
        u: Points, with shape (n, d).
        sign: Their classes, 1 or -1, with shape (n,).
        nuggets: Variances added at the points, tried in this order.

    Returns:
        The posterior with the first nugget for which all is finite; None if there is none.
    """
    K = kernel.covariance(torch.as_tensor(u)).numpy()
    for nugget in nuggets:
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # results that are not finite are skipped below
                sites = _propagate(K + nugget * np.eye(len(u)), sign)
                found = ClassPosterior(kernel, u, sites.weights, sites.root, sites.log_evidence(sign))
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(found.log_evidence) and np.isfinite(found.root).all():
            return found
    return None


@dataclass(frozen=True, eq=False)
class _Sites:
    """Gaussian factors that replace the classes: precisions tau, precision-weighted means nu, posterior of f."""

    K: Array
    tau: Array
    nu: Array

    @cached_property
    def root(self) -> Array:
        """L^-1 S with S = diag(sqrt(tau)) and L L^T = I + S K S, with shape (n, n)."""
        s = np.sqrt(self.tau)
        return np.asarray(solve_triangular(self.factor, np.diag(s), lower=True, check_finite=False))

    @cached_property
    def factor(self) -> Array:
        s = np.sqrt(self.tau)
        return np.asarray(np.linalg.cholesky(np.eye(len(s)) + s[:, None] * self.K * s))

    @cached_property
    def half(self) -> Array:
        return np.asarray(self.root @ self.K)

    @cached_property
    def variance(self) -> Array:
        """Posterior variances of f, with shape (n,)."""
        return np.maximum(np.diag(self.K) - (self.half**2).sum(0), _LEAST_VARIANCE)

    @cached_property
    def weights(self) -> Array:
        """Weights of prior covariances in the posterior mean, with shape (n,)."""
        return self.nu - self.root.T @ (self.half @ self.nu)

    @cached_property
    def cavity(self) -> tuple[Array, Array]:
        """Precisions and precision-weighted means without each site."""
        precision = 1.0 / self.variance
        return np.maximum(precision - self.tau, _LEAST_PRECISION), (self.K @ self.weights) * precision - self.nu

    def log_evidence(self, sign: Array) -> float:
        """Natural log of the probability of the classes."""
        tau_cavity, nu_cavity = self.cavity
        mean, variance = nu_cavity / tau_cavity, 1.0 / tau_cavity
        z = sign * mean / np.sqrt(1.0 + variance)
        s = self.tau + tau_cavity
        out = log_ndtr(z).sum() + 0.5 * np.log1p(self.tau / tau_cavity).sum() - np.log(np.diag(self.factor)).sum()
        out += 0.5 * (self.nu @ (self.K @ self.weights) - (self.nu**2 / s).sum())
        out += 0.5 * (nu_cavity * (self.tau * mean - 2.0 * self.nu) / s).sum()
        return float(out)

    def update(self, sign: Array) -> _Sites:
        """The sites after one update of all towards the exact moments at each point."""
        tau_cavity, nu_cavity = self.cavity
        mean, variance = nu_cavity / tau_cavity, 1.0 / tau_cavity
        z = sign * mean / np.sqrt(1.0 + variance)
        ratio = np.exp(-0.5 * z**2 - 0.5 * np.log(2.0 * np.pi) - log_ndtr(z))
        tilted_mean = mean + sign * variance * ratio / np.sqrt(1.0 + variance)
        tilted = variance - variance**2 * ratio * (z + ratio) / (1.0 + variance)
        tau = np.maximum(1.0 / tilted - tau_cavity, _LEAST_PRECISION)
        nu = tilted_mean * (tau + tau_cavity) - nu_cavity
        return _Sites(self.K, self.tau + _DAMPING * (tau - self.tau), self.nu + _DAMPING * (nu - self.nu))


def _propagate(K: Array, sign: Array) -> _Sites:
    """The sites at the fixed point of expectation propagation, or after the maximum number of sweeps, each O(n^3)."""
    sites = _Sites(K, np.full(len(sign), _FIRST_PRECISION), np.zeros(len(sign)))
    for _ in range(_SWEEPS):
        after = sites.update(sign)
        change = np.abs(after.K @ after.weights - sites.K @ sites.weights) / np.sqrt(1.0 + sites.variance)
        sites = after
        if change.max() < _TOLERANCE:
            break
    return sites
