"""Mixtures of multivariate Student-t distributions: proposals for importance sampling and starting densities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from surrogate.arrays import Array

__all__ = ["Mixture", "fit_mixture"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture density sum_k w_k t_nu(x; m_k, C_k); its components are Gaussian if nu is infinite.

    Attributes:
        weights: Normalised weights, with shape (k,).
        means: Centres of the components, with shape (k, d).
        factors: Lower Cholesky factors of the scale matrices, with shape (k, d, d).
        dof: Degrees of freedom nu of all components.
    """

    weights: Array
    means: Array
    factors: Array
    dof: float = np.inf

    def log_density(self, x: Array) -> Array:
        """Log density at x, with shape (m,); O(m k d^2)."""
        joint = self._joint(x)
        if len(joint) == 1:
            return joint[0]
        top = joint.max(0)
        return top + np.log(np.exp(joint - top).sum(0))

    def _joint(self, x: Array) -> Array:
        """Log densities of the weighted components at x, with shape (k, m)."""
        d, columns = x.shape[1], np.ascontiguousarray(x.T)
        inverses = np.linalg.inv(self.factors)
        constants = np.log(np.maximum(self.weights, 1e-300))
        constants = constants - np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(1)
        out = np.empty((len(self.weights), len(x)))
        for k, (mean, inverse) in enumerate(zip(self.means, inverses, strict=True)):
            z = inverse @ (columns - mean[:, None])
            np.einsum("im,im->m", z, z, out=out[k])
        return _log_radial(out, d, self.dof) + constants[:, None]

    def responsibilities(self, x: Array) -> Array:
        """Posterior probabilities of the components at x, with shape (m, k)."""
        return self._shares(x).T

    def _shares(self, x: Array) -> Array:
        """Posterior probabilities of the components at x, with shape (k, m), contiguous by component."""
        joint = self._joint(x)
        share = np.exp(np.subtract(joint, joint.max(0), out=joint), out=joint)
        share /= share.sum(0)
        return share

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """n draws, with shape (n, d); the counts of the components are stratified."""
        edges = np.cumsum(self.weights)
        which = np.searchsorted(edges / edges[-1], (rng.permutation(n) + rng.random(n)) / n)
        which = np.minimum(which, len(self.weights) - 1)
        z = rng.standard_normal((n, self.means.shape[1]))
        if np.isfinite(self.dof):
            z /= np.sqrt(rng.chisquare(self.dof, n) / self.dof)[:, None]
        return self.means[which] + np.einsum("nij,nj->ni", self.factors[which], z)

    def widened(self, factor: float, *, dof: float | None = None) -> Mixture:
        """The mixture with scale matrices multiplied by ``factor`` squared and new degrees of freedom, if given."""
        return Mixture(self.weights, self.means, self.factors * factor, self.dof if dof is None else dof)

    def joined(self, other: Mixture, weight: float) -> Mixture:
        """The mixture (1 - weight) self + weight other; ``other`` takes the degrees of freedom of self."""
        return Mixture(
            np.concatenate([(1.0 - weight) * self.weights, weight * other.weights]),
            np.concatenate([self.means, other.means]),
            np.concatenate([self.factors, other.factors]),
            self.dof,
        )


def _log_radial(r2: Array, d: int, dof: float) -> Array:
    if not np.isfinite(dof):
        return -0.5 * (r2 + d * np.log(2.0 * np.pi))
    constant = gammaln(0.5 * (dof + d)) - gammaln(0.5 * dof) - 0.5 * d * np.log(np.pi * dof)
    return constant - 0.5 * (dof + d) * np.log1p(r2 / dof)


def _cholesky(covariance: Array, floor: Array) -> Array:
    """Cholesky factor of a possibly singular covariance; adds ``floor`` to the diagonal as needed."""
    for power in range(-8, 3):
        try:
            return np.asarray(np.linalg.cholesky(covariance + 10.0**power * np.diag(floor)), dtype=np.float64)
        except np.linalg.LinAlgError:
            continue
    return np.asarray(np.diag(np.sqrt(np.diag(covariance) + floor)), dtype=np.float64)


def _choleskys(covariances: Array, floor: Array) -> Array:
    """``_cholesky`` of each covariance, with shape (k, d, d)."""
    try:
        return np.asarray(np.linalg.cholesky(covariances + 1e-8 * np.diag(floor)), dtype=np.float64)
    except np.linalg.LinAlgError:
        return np.stack([_cholesky(c, floor) for c in covariances])


def fit_mixture(x: Array, components: int, rng: np.random.Generator, *, iterations: int = 25) -> Mixture:
    """A Gaussian mixture fitted by expectation-maximisation from a k-means++ start.

    Covariances are shrunk towards the pooled within-component covariance, which has the weight of d + 1 points, so that
    small components stay well conditioned.

    Args:
        x: Points, with shape (n, d).
        components: Number of components; fewer are returned if some lose all their points.
        rng: Random numbers for the start.
        iterations: Number of iterations of expectation-maximisation.

    Returns:
        The mixture, in O(iterations n k d^2) time.
    """
    n, d = x.shape
    floor = x.var(0) + 1e-300
    total = np.atleast_2d(np.cov(x.T, bias=True))
    if components == 1:
        return Mixture(np.ones(1), x.mean(0)[None], _cholesky(total, floor)[None])
    scaled = (x - x.mean(0)) / np.sqrt(floor)
    centres = [int(rng.integers(n))]
    distance = ((scaled - scaled[centres[0]]) ** 2).sum(1)
    while len(centres) < components and distance.max() > 0:
        centres.append(int(rng.choice(n, p=distance / distance.sum())))
        distance = np.minimum(distance, ((scaled - scaled[centres[-1]]) ** 2).sum(1))
    nearest = ((scaled[:, None] - scaled[centres][None]) ** 2).sum(-1).argmin(1)
    r = np.eye(len(centres))[:, nearest]
    mixture, columns = None, np.ascontiguousarray(x.T)
    for _ in range(iterations):
        mass = r.sum(1)
        if not (mass > 1.0).any():
            return fit_mixture(x, 1, rng)
        r, mass = r[mass > 1.0], mass[mass > 1.0]
        means = (r @ x) / mass[:, None]
        scatter = np.stack([_scatter(columns, share, mean) for share, mean in zip(r, means, strict=True)])
        shrunk = (scatter + (d + 1) * scatter.sum(0) / n) / (mass + d + 1)[:, None, None]
        mixture = Mixture(mass / n, means, _choleskys(shrunk, 1e-6 * floor))
        r = mixture._shares(x)
    return mixture if mixture is not None else fit_mixture(x, 1, rng)


def _scatter(columns: Array, share: Array, mean: Array) -> Array:
    """Weighted scatter matrix about a mean, with shape (d, d), of points with shape (d, m)."""
    away = columns - mean[:, None]
    return (away * share) @ away.T
