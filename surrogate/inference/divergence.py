"""Divergences between posteriors given as weights on one set of draws."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array

__all__ = ["gaussian_kl"]


_TINY = 1e-300  # variance of equal points
_JITTER = 1e-12  # jitter of a correlation matrix
_FLOOR = 1e-9  # variance, relative to the reference, below which a weighting has hardly any points


def gaussian_kl(x: Array, log_v: Array, log_w: Array) -> Array:
    """Symmetrised Gaussian divergences between one weighting of points and several others.

    Args:
        x: Points, with shape (n, d).
        log_v: Log weights of the reference, with shape (n,).
        log_w: Log weights of the others, with shape (k, n).

    Returns:
        Divergences in nats, with shape (k,), infinite for a weighting without points. O(k n d^2).
    """
    d, some = x.shape[1], np.asarray(np.isfinite(log_w).any(1))
    if not some.all():
        out = np.full(len(log_w), np.inf)
        out[some] = gaussian_kl(x, log_v, log_w[some]) if some.any() else np.inf
        return out
    v = np.exp(log_v - logsumexp(log_v))
    mean = v @ x
    covariance = (v[:, None] * (x - mean)).T @ (x - mean) + _TINY * np.eye(d)
    scale = np.sqrt(np.diag(covariance))
    z = np.linalg.solve(
        np.linalg.cholesky(covariance / np.outer(scale, scale) + _JITTER * np.eye(d)), ((x - mean) / scale).T
    ).T
    w = np.exp(log_w - logsumexp(log_w, axis=1, keepdims=True))
    shift = w @ z
    second = np.einsum("kn,ni,nj->kij", w, z, z) - shift[:, :, None] * shift[:, None, :]
    second += _FLOOR * np.eye(d)
    inverse = np.linalg.inv(second)
    trace = np.trace(second, axis1=1, axis2=2) + np.trace(inverse, axis1=1, axis2=2) - 2 * d
    pull = (shift**2).sum(1) + np.einsum("ki,kij,kj->k", shift, inverse, shift)
    return 0.25 * (trace + pull)  # each divergence has a factor 1/2, and so has their mean
