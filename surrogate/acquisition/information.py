"""Batches that tell most about a Gaussian process: largest determinant, and smallest variance afterwards (BAIT)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.acquisition.features import Features
from surrogate.linalg.lowrank import pivoted_cholesky

__all__ = ["bait", "max_determinant"]


@dataclass(frozen=True, eq=False)
class _NoisyGram:
    """K + noise^2 by columns."""

    features: Features
    variance: float

    def diag(self) -> Tensor:
        return self.features.diag() + self.variance

    def column(self, i: int) -> Tensor:
        point = self.features.subset(torch.tensor([i], device=self.features.device))
        column = self.features.gram(point)[:, 0]
        column[i] += self.variance
        return column


def max_determinant(features: Features, n: int, *, noise: float) -> Tensor:
    """Indices that greedily maximise det(K + noise^2), each the point with the largest variance given those before.

    O(m n p) with p explicit features, in place of m n^2 and n columns of the kernel without.

    Returns:
        At most n distinct indices; fewer when no variance above rounding is left.
    """
    if features.dim is None or features.dim > 4096:
        _, pivots = pivoted_cholesky(_NoisyGram(features.stored(), noise**2), n, tolerance=_floor(features.dtype))
        return pivots
    return _max_determinant(features.dense(), n, noise)


def _floor(dtype: torch.dtype) -> float:
    """Variance relative to the largest that counts as none."""
    return 10.0 * torch.finfo(dtype).eps


def _max_determinant(phi: Tensor, n: int, noise: float) -> Tensor:
    """Pivoted Cholesky factor L of Phi Phi^T + noise^2 as L = Phi W (off the pivots) with W of shape (p, n)."""
    variance = torch.linalg.vector_norm(phi, dim=1).square()
    floor = _floor(phi.dtype) * float(variance.max())
    w = phi.new_zeros(n, phi.shape[1])
    pivots: list[int] = []
    for k in range(n):
        i = int(variance.argmax())
        left = float(variance[i])
        if not left > floor:
            break
        direction = phi[i] - w[:k].T @ (w[:k] @ phi[i])
        w[k] = direction / (left + noise**2) ** 0.5
        variance -= (phi @ w[k]).square_()
        variance[i] = -torch.inf
        pivots.append(i)
    return torch.tensor(pivots, dtype=torch.int64, device=phi.device)


def bait(pool: Tensor, train: Tensor | None, n: int, *, noise: float, given: bool, overselect: float = 1.0) -> Tensor:
    """Indices that greedily minimise the summed posterior variance over the pool and the labelled points.

    Each step takes the point with the largest reduction phi.M C M phi / (phi.M phi + noise^2), with C the second moment
    of all features and M the posterior covariance of the weights; M and M C M are kept as p by p matrices, so that a
    step costs one product of the features with two vectors, O(n p). With ``overselect`` f the backward steps then drop
    the (f - 1) n points whose loss hurts least.

    Args:
        pool: Features, with shape (m, p), float64.
        train: Those of the labelled points, None if there are none.
        n: Size of the batch.
        noise: Sd of the noise of a label.
        given: Whether M starts from the labelled points (mode TP) or from the prior.
        overselect: f, at least 1.

    Returns:
        At most n distinct indices, in the order of selection; fewer when nothing is left to reduce.

    References:
        Ash et al. (2021), arXiv:2106.09675; Holzmueller et al. (2023), https://www.jmlr.org/papers/v24/22-0937.html.
    """
    state = _Bait(pool, train, noise, given)
    forward = min(round(overselect * n), len(pool))
    for _ in range(forward):
        if not state.take():
            break
    while len(state.chosen) > n and state.drop():
        pass
    return torch.tensor(state.chosen[:n], dtype=torch.int64, device=pool.device)


class _Bait:
    """M as 1 - W^T W plus what was dropped, variances phi.M phi and reductions phi.M C M phi."""

    def __init__(self, pool: Tensor, train: Tensor | None, noise: float, given: bool) -> None:
        self._phi = pool
        self._noise = noise**2
        self._moment = pool.T @ pool
        self._m = torch.eye(pool.shape[1], dtype=pool.dtype, device=pool.device)
        if train is not None:
            known = train.T @ train
            self._moment += known
            if given:
                self._m = self._noise * torch.cholesky_inverse(_factor(known, self._noise))
        half = pool @ self._m
        self._variance = (half * pool).sum(1)
        self._reduction = ((half @ self._moment) * half).sum(1)
        self._open = torch.ones(len(pool), dtype=torch.bool, device=pool.device)
        self.chosen: list[int] = []

    def take(self) -> bool:
        """Adds the best point; False if none reduces anything."""
        scores = self._reduction / (self._variance + self._noise + 1e-8)
        i = int(torch.where(self._open, scores, -torch.inf).argmax())
        if not (float(scores[i]) > 0 and bool(self._open[i])):
            return False
        self._update(i, 1.0 / (float(self._variance[i]) + self._noise))
        self._open[i] = False
        self.chosen.append(i)
        return True

    def drop(self) -> bool:
        """Removes the point whose loss costs least; False if rounding leaves none that can be removed."""
        index = torch.tensor(self.chosen, device=self._phi.device)
        spare = self._noise - self._variance[index]
        cost = torch.where(spare > 0, self._reduction[index].clamp(min=0.0) / spare, torch.inf)
        k = int(cost.argmin())
        if not bool(torch.isfinite(cost[k])):
            return False
        self._update(self.chosen[k], -1.0 / max(float(spare[k]), 1e-15))
        self._open[self.chosen.pop(k)] = True
        return True

    def _update(self, i: int, gain: float) -> None:
        """M <- M - gain m m^T with m = M phi_i, and what follows from it."""
        m = self._m @ self._phi[i]
        cm = self._moment @ m
        v = self._m @ cm
        along, through = (self._phi @ torch.stack([m, v], 1)).unbind(1)
        square = float(m @ cm)
        self._reduction += along * (gain**2 * square * along - 2.0 * gain * through)
        self._variance -= gain * along.square()
        self._m.addr_(m, m, alpha=-gain)


def _factor(known: Tensor, variance: float) -> Tensor:
    known = known.clone()
    known.diagonal().add_(variance)
    return torch.linalg.cholesky(known)
