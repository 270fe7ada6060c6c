"""Batches that are most informative about a Gaussian process: largest determinant, or smallest variance (BAIT)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.linalg.lowrank import pivoted_cholesky
from surrogate.selection.features import Features

__all__ = ["bait", "max_determinant"]

_AHEAD = 16  # points for which products with all features are computed at once
_CROWD = 256  # points considered when guessing which
_ROWS = 8192  # rows per block where temporary copies are needed


@dataclass(frozen=True, eq=False)
class _NoisyGram:
    """Access to K + noise^2 I by columns."""

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
    """Indices that greedily maximise det(K + noise^2 I): each has the largest variance given those before it.

    Costs O(m n p) with p explicit features; otherwise O(m n^2) and n columns of the kernel.

    Returns:
        At most n distinct indices; fewer if all remaining variances are below rounding.
    """
    if features.dim is None or features.dim > 4096:
        _, pivots = pivoted_cholesky(_NoisyGram(features.stored(), noise**2), n, tolerance=_floor(features.dtype))
        return pivots
    return _max_determinant(features.dense(), n, noise)


def _floor(dtype: torch.dtype) -> float:
    """Variance relative to the largest below which a point counts as known."""
    return 10.0 * torch.finfo(dtype).eps


def bait(pool: Tensor, train: Tensor | None, n: int, *, noise: float, given: bool, overselect: float = 1.0) -> Tensor:
    """Indices that greedily minimise the summed posterior variance over the pool and the labelled points.

    Each step takes the point with the largest reduction phi.M C M phi / (phi.M phi + noise^2), with C the second moment
    of all features and M the posterior covariance of the weights. With ``overselect`` = f, f n points are chosen first;
    backward steps then drop the (f - 1) n whose removal raises the variance least.

    Args:
        pool: Features, with shape (m, p), float64.
        train: Features of the labelled points; None if there are none.
        n: Size of the batch.
        noise: Sd of the noise of a label.
        given: Whether M starts from the labelled points (mode TP) or from the prior.
        overselect: f, at least 1.

    Returns:
        At most n distinct indices, in the order of selection; fewer if no variance is left to reduce. Costs O(m p^2)
        once, then O(m p) per step.

    References:
        Ash et al. (2021), arXiv:2106.09675; Holzmueller et al. (2023), https://www.jmlr.org/papers/v24/22-0937.html.
    """
    moment, m = pool.T @ pool, None
    if train is not None:
        known = train.T @ train
        moment += known
        if given:
            m = noise**2 * torch.cholesky_inverse(_factor(known, noise**2))
    state = _Weights.of(pool, m, moment, noise**2)
    for _ in range(min(round(overselect * n), len(pool))):
        if not state.take():
            break
    chosen = state.chosen
    if len(chosen) > n:
        few = state.only(chosen)
        few.chosen = list(range(len(chosen)))
        while len(few.chosen) > n and few.drop():
            pass
        chosen = [chosen[k] for k in few.chosen]
    return torch.tensor(chosen[:n], dtype=torch.int64, device=pool.device)


def _max_determinant(phi: Tensor, n: int, noise: float) -> Tensor:
    state = _Weights.of(phi, None, None, noise**2)
    for _ in range(n):
        if not state.take():
            break
    return torch.tensor(state.chosen, dtype=torch.int64, device=phi.device)


def _factor(known: Tensor, variance: float) -> Tensor:
    known = known.clone()
    known.diagonal().add_(variance)
    return torch.linalg.cholesky(known)


class _Weights:
    """Posterior of linear weights: M, variances phi.M phi and, given a moment C, reductions phi.M C M phi.

    A step needs Phi M phi_i and Phi M C M phi_i. Reading Phi from memory costs more than multiplying it, so these pairs
    are computed for several points at once: the chosen one and those that would follow if only the best few points
    existed. A pair computed some steps ago is updated for the changes M <- M - g m m^T since then, at O(n) per step. A
    wrong guess costs time but does not change the result.
    """

    def __init__(self, phi: Tensor, m: Tensor, moment: Tensor | None, noise: float) -> None:
        self._phi, self._m, self._moment, self._noise = phi, m, moment, noise
        self._open = torch.ones(len(phi), dtype=torch.bool, device=phi.device)
        self._pairs: dict[int, Tensor] = {}
        self._steps: list[tuple[float, float]] = []  # g and m.C m of each step since pairs were computed
        self._history = phi.new_empty(0)  # the pairs of these steps
        self.chosen: list[int] = []
        self.variance = self.reduction = phi.new_empty(0)
        self.floor = 0.0

    @classmethod
    def of(cls, phi: Tensor, m: Tensor | None, moment: Tensor | None, noise: float) -> _Weights:
        """The state before the first step; by default M is the identity."""
        prior = torch.eye(phi.shape[1], dtype=phi.dtype, device=phi.device) if m is None else m
        state = cls(phi, prior, moment, noise)
        state.variance = phi.new_empty(len(phi))
        state.reduction = phi.new_empty(len(phi))
        for start in range(0, len(phi), _ROWS):
            part = slice(start, start + _ROWS)
            half = phi[part] if m is None else phi[part] @ m
            torch.linalg.vecdot(half, phi[part], out=state.variance[part])
            state.reduction[part] = 0.0 if moment is None else torch.linalg.vecdot(half @ moment, half)
        state.floor = _floor(phi.dtype) * float(state.variance.max())
        return state

    def take(self, *, preview: bool = True) -> bool:
        """Adds the most informative point; returns False if there is none."""
        i = int(torch.where(self._open, self._scores(), -torch.inf).argmax())
        gain = float(self.variance[i] if self._moment is None else self.reduction[i])
        if not (bool(self._open[i]) and gain > (self.floor if self._moment is None else 0.0)):
            return False
        self._update(i, 1.0 / (float(self.variance[i]) + self._noise), preview=preview)
        self._open[i] = False
        self.chosen.append(i)
        return True

    def drop(self) -> bool:
        """Removes the point whose removal raises the variance least; returns False if rounding prevents it."""
        index = torch.tensor(self.chosen, device=self._phi.device)
        spare = self._noise - self.variance[index]
        cost = torch.where(spare > 0, self.reduction[index].clamp(min=0.0) / spare, torch.inf)
        k = int(cost.argmin())
        if not bool(torch.isfinite(cost[k])):
            return False
        self._update(self.chosen.pop(k), -1.0 / max(float(spare[k]), 1e-15), preview=False)
        return True

    def only(self, index: Tensor | list[int]) -> _Weights:
        """A copy restricted to these points."""
        few = _Weights(self._phi[index], self._m.clone(), self._moment, self._noise)
        few.variance, few.reduction, few.floor = self.variance[index], self.reduction[index], self.floor
        few._open = self._open[index]
        return few

    def _scores(self) -> Tensor:
        return self.variance if self._moment is None else self.reduction / (self.variance + self._noise + 1e-8)

    def _update(self, i: int, gain: float, *, preview: bool) -> None:
        """Updates M <- M - gain m m^T with m = M phi_i, and the quantities derived from M."""
        m = self._m @ self._phi[i]
        along, through = self._pair(i, preview=preview)
        square = 0.0
        if self._moment is not None:
            square = float(m @ (self._moment @ m))
            self.reduction += along * (gain**2 * square * along - 2.0 * gain * through)
        self.variance -= gain * along.square()
        self._m.addr_(m, m, alpha=-gain)
        self._history[len(self._steps)] = torch.stack([along, through])
        self._steps.append((gain, square))

    def _pair(self, i: int, *, preview: bool) -> tuple[Tensor, Tensor]:
        """Phi M phi_i and Phi M C M phi_i (the first again if there is no C)."""
        if i not in self._pairs:
            self._compute([i, *(j for j in self._preview() if j != i)] if preview else [i])
        pair = self._pairs.pop(i)
        if not self._steps:
            return pair[0], pair[-1]
        gain, square = self._phi.new_tensor(self._steps).unbind(1)
        before, after = self._history[: len(self._steps)].unbind(1)
        x = gain * before[:, i]
        along = torch.addmv(pair[0], before.T, x, alpha=-1.0)
        if self._moment is None:
            return along, along
        y = gain * (after[:, i] - square * x)
        return along, torch.addmv(torch.addmv(pair[1], before.T, y, alpha=-1.0), after.T, x, alpha=-1.0)

    def _compute(self, wanted: list[int]) -> None:
        """Pairs for these points, computed from the current M."""
        m = self._phi[wanted] @ self._m
        rows = m if self._moment is None else torch.stack([m, m @ self._moment @ self._m], 1).flatten(0, 1)
        self._pairs = dict(zip(wanted, (rows @ self._phi.T).view(len(wanted), -1, len(self._phi)), strict=True))
        self._steps = []
        self._history = self._phi.new_empty(len(wanted), 2, len(self._phi))

    def _preview(self) -> list[int]:
        """Likely next points: those that the rule would choose among the points with the best current scores."""
        index = torch.where(self._open, self._scores(), -torch.inf).topk(min(_CROWD, len(self._phi))).indices
        few = self.only(index)
        while len(few.chosen) < _AHEAD and few.take(preview=False):
            pass
        return index[few.chosen].tolist()
