"""The interface of a Gaussian process conditioned on data."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from surrogate.arrays import Array

__all__ = ["Inputs", "Posterior", "joint_normal"]

Inputs = TypeVar("Inputs", Array, Tensor)
"""Points as a numpy array or a tensor; the answer is of the same kind."""


class Posterior(Protocol):
    """Interface of a process given data. Points have shape (m, d); q outputs with a common kernel add a last axis.

    Attributes:
        log_evidence: Log marginal likelihood of the data in nats.
        status: How it was solved, as text: rescues and residuals; empty if there is nothing to report.
    """

    @property
    def log_evidence(self) -> float:
        """Log marginal likelihood of the data in nats."""

    @property
    def status(self) -> str:
        """How it was solved, as text: rescues and residuals; empty if there is nothing to report."""

    def mean(self, u: Inputs) -> Inputs:
        """Posterior mean at u, with shape (m,)."""

    def variance(self, u: Inputs) -> Inputs:
        """Posterior variance of the function without noise at u, with shape (m,)."""

    def covariance(self, u: Inputs) -> Inputs:
        """Joint posterior covariance of the function at u, with shape (m, m)."""

    def paths(self, u: Array, count: int, rng: np.random.Generator) -> Array:
        """Joint realisations of the function at u, with shape (count, m)."""

    def leave_one_out(self) -> Array:
        """Each datum minus its prediction from the others, with the shape of y."""


def joint_normal(covariance: Array, count: int, rng: np.random.Generator) -> Array:
    """Draws, with shape (count, m), with zero mean and a covariance (m, m) that may be singular; O(m^3)."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(rng.standard_normal((count, len(covariance))) @ root.T)
