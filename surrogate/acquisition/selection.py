"""Selecting a batch from a kernel matrix over candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from surrogate.linalg.lowrank import ColumnAccess, pivoted_cholesky

__all__ = ["max_det"]


def max_det(gram: ColumnAccess, n: int) -> Tensor:
    """Indices of the batch that greedily maximises the determinant of its kernel matrix.

    With a posterior covariance as the kernel each point has the largest variance given those chosen before it; with
    the kernel scaled by weights, the largest weighted variance. Fewer than n indices come back when the rank of the
    kernel is exhausted; the caller decides what to do then.

    Args:
        gram: Access to the kernel matrix over m candidates.
        n: Number of points, in 1..m.

    Returns:
        At most n distinct indices in the order of selection. n columns of the kernel and O(m n^2).

    Raises:
        ValueError: If n is not in 1..m.
    """
    _, pivots = pivoted_cholesky(gram, n, tolerance=1e-15)
    return pivots.to(torch.int64)
