"""The exact marginal likelihood of a process, by LAPACK for few points and by torch otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from surrogate.arrays import Array
from surrogate.gp.process import Data, Process
from surrogate.gp.solvers import cholesky, lapack

__all__ = ["log_evidences", "negative_log_evidence"]


def negative_log_evidence(
    process: Process, data: Data, vector: Array, *, given: Data | None = None
) -> tuple[float, Array]:
    """Negative log marginal likelihood and its gradient with respect to the log-hyperparameters: O(n^3).

    Args:
        process: Kernel, mean and noise.
        data: The data.
        vector: Log-hyperparameters, with shape (size,), used instead of the process's own.
        given: Subset of the data on which to condition: its own likelihood is divided out, leaving the density of the
            others given these. With few data it is cheaper if the subset comes first.

    Returns:
        The value in nats and the gradient, with shape (size,).

    Raises:
        torch.linalg.LinAlgError: If the covariance is not positive definite in floating point.
    """
    if data.is_small and (given is None or data.begins_with(given)):
        first = 0 if given is None else len(given.y)
        return lapack.negative_log_evidence(process, data.few(process.mean), vector, given=first)
    value, gradient = cholesky.negative_log_evidence(process, data, vector)
    if given is not None:
        less, slope = negative_log_evidence(process, given, vector)
        value, gradient = value - less, gradient - slope
    return value, gradient


def log_evidences(process: Process, data: Data, vectors: Sequence[Array], *, given: Data | None = None) -> list[float]:
    """Log marginal likelihoods of the data in nats, one for each vector of log-hyperparameters.

    Args:
        process: Kernel, mean and noise.
        data: The data.
        vectors: Vectors with shape (size,).
        given: See ``negative_log_evidence``.

    Returns:
        The values; -inf if a covariance cannot be factored.
    """
    if data.is_small and (given is None or data.begins_with(given)):
        first = 0 if given is None else len(given.y)
        return lapack.log_evidences(process, data.few(process.mean), vectors, given=first)
    return [_log_evidence(process.with_vector(vector), data, given) for vector in vectors]


def _log_evidence(process: Process, data: Data, given: Data | None) -> float:
    solver = cholesky.Cholesky()
    try:
        less = 0.0 if given is None else solver.condition(process, given).log_evidence
        return solver.condition(process, data).log_evidence - less
    except torch.linalg.LinAlgError:
        return -np.inf
