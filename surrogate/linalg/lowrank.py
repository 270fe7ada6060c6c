"""Low-rank factors of positive semi-definite matrices from a few of their columns."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["ColumnAccess", "pivoted_cholesky"]


class ColumnAccess(Protocol):
    """What a partial factorisation needs of a symmetric matrix K with shape (n, n)."""

    def diag(self) -> Tensor:
        """Diagonal, with shape (n,)."""

    def column(self, i: int) -> Tensor:
        """Column i, with shape (n,)."""


def pivoted_cholesky(gram: ColumnAccess, rank: int, *, tolerance: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Partial Cholesky factor of K with greedy pivots, L L^T ~ K.

    The pivots are the greedy maximiser of the determinant of K[pivots, pivots]: each is the point with the largest
    variance given those before it. Stops early when the largest remaining variance falls below ``tolerance`` times
    the largest at the start, so fewer columns than asked for may come back. Costs ``rank`` columns of K and
    O(n rank^2) further operations.

    Args:
        gram: Access to K, positive semi-definite (not checked).
        rank: Number of columns k, in 1..n.
        tolerance: Relative variance at which K counts as exhausted.

    Returns:
        The factor, with shape (n, k), and the pivots, with shape (k,).

    Raises:
        ValueError: If ``rank`` is not in 1..n.

    References:
        Harbrecht, Peters & Schneider (2012), doi:10.1016/j.apnum.2011.10.001
    """
    residual = gram.diag().clone()
    n = len(residual)
    if not 1 <= rank <= n:
        msg = f"rank must be in 1..{n}, got {rank}"
        raise ValueError(msg)
    factor = residual.new_zeros(n, rank)
    pivots: list[int] = []
    floor = tolerance * float(residual.max())
    for k in range(rank):
        i = int(residual.argmax())
        variance = float(residual[i])
        if not variance > floor:
            break
        column = gram.column(i) - factor[:, :k] @ factor[i, :k]
        factor[:, k] = column / variance**0.5
        residual = (residual - factor[:, k].square()).clamp_(min=0.0)
        residual[i] = 0.0
        pivots.append(i)
    return factor[:, : len(pivots)], torch.tensor(pivots, dtype=torch.int64, device=residual.device)
