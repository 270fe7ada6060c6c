"""Gaussian processes for tables with categories: kernels on categories instead of one-hot columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.labelling.lessons import Fitted, Lesson
from surrogate.rng import torch_generator

if TYPE_CHECKING:
    import torch

    from surrogate.gp.kernels import Kernel
    from surrogate.gp.mixed import MixedData
    from surrogate.gp.solvers.cholesky import CholeskyPosterior
    from surrogate.selection.features import Features

__all__ = ["fit_mixed"]

_FOLD_EVALUATIONS = 25  # evaluations in the fit of a fold, which starts at the hyperparameters of all labels


@dataclass(frozen=True, eq=False)
class _Coding:
    """A coding of model inputs as numbers of about unit variance and codes of categories.

    Attributes:
        numbers: Indices of numeric model inputs.
        centre: Medians of the numeric inputs.
        spread: Scales of the numeric inputs.
        blocks: Ranges (start, stop) of the one-hot columns, one for each categorical column.
    """

    numbers: tuple[int, ...]
    centre: Array
    spread: Array
    blocks: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, x: Array, blocks: tuple[tuple[int, int], ...]) -> _Coding:
        """The coding derived from rows x with shape (n, d)."""
        from surrogate.estimators.tables import robust_scale

        words = {j for start, stop in blocks for j in range(start, stop)}
        numbers = tuple(j for j in range(x.shape[1]) if j not in words)
        scales = np.array([robust_scale(x[:, j]) for j in numbers]).reshape(-1, 2)
        return cls(numbers, scales[:, 0], scales[:, 1], blocks)

    @property
    def counts(self) -> dict[int, int]:
        """Number of categories of each column, at least two because a covariance matrix needs two."""
        return {len(self.numbers) + k: max(2, stop - start) for k, (start, stop) in enumerate(self.blocks)}

    def __call__(self, x: Array) -> Array:
        """Numbers and codes of rows x with shape (n, d); unknown categories get -1."""
        parts = [np.arcsinh((x[:, list(self.numbers)] - self.centre) / self.spread)]
        for start, stop in self.blocks:
            block = x[:, start:stop]
            parts.append(np.where(block.any(axis=1), block.argmax(axis=1), -1.0)[:, None])
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, eq=False)
class _Units:
    """A kernel scaled to units of labels, for selection."""

    kernel: Kernel
    variance: float

    def diag(self, x: torch.Tensor) -> torch.Tensor:
        """The variance, with shape (n,)."""
        return self.variance * self.kernel.diagonal(x)

    def matrix(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Covariances, with shape (n, m)."""
        return self.variance * self.kernel.covariance(a, b)


@dataclass(frozen=True, eq=False)
class _MixedProcess:
    """A Gaussian process of numbers and categories."""

    coding: _Coding
    posterior: CholeskyPosterior
    centre: float
    unit: float

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance of the label; the effect of an unknown category has its prior variance."""
        from surrogate.gp.mixed import noise_variance

        u = self.coding(x)
        variance = self.posterior.variance(u) + noise_variance(self.posterior)
        return self.centre + self.unit * self.posterior.mean(u), self.unit**2 * variance

    def features(self, x: Array) -> Features:
        """The process's kernel as features: selection uses its kernel space, conditioned on the known rows."""
        import torch

        from surrogate.selection.features import KernelFeatures

        kernel = _Units(self.posterior.process.kernel, (self.unit * float(self.posterior.scale)) ** 2)
        return KernelFeatures(kernel, torch.as_tensor(self.coding(x), device=self.posterior.u.device))


def fit_mixed(lesson: Lesson) -> Fitted:
    """A process fitted to all labels, with held-out errors of processes refitted without each fold."""
    import torch

    from surrogate.gp.mixed import MixedData, chosen_process

    coding = _Coding.of(lesson.x, lesson.categories)
    centre, unit = float(lesson.y.mean()), float(lesson.y.std()) or 1.0
    u = torch.as_tensor(coding(lesson.x), device=lesson.device or "cpu")
    y = torch.as_tensor((lesson.y - centre) / unit, device=u.device)
    names = [str(j) for j in range(u.shape[1])]
    data = MixedData(u, y, coding.counts, names)
    whole = chosen_process(data, torch_generator(lesson.seed, "hyperparameters"))
    parts = lesson.parts()
    error, variance = np.full(len(lesson.y), math.nan), np.full(len(lesson.y), math.nan)
    for fold in np.unique(parts):
        away = parts == fold
        found = chosen_process(
            _centre(data, away),
            torch_generator(lesson.seed, "hyperparameters"),
            start=whole.process.vector(),
            max_evaluations=_FOLD_EVALUATIONS,
        )
        level = centre + unit * float(y[~torch.as_tensor(away)].mean())
        mean, variance[away] = _MixedProcess(coding, found, level, unit).predict(lesson.x[away])
        error[away] = lesson.y[away] - mean
    return Fitted((_MixedProcess(coding, whole, centre, unit),), error, variance, parts)


def _centre(data: MixedData, away: Flags) -> MixedData:
    """The rows that are not held out, with centred values."""
    import torch

    rest = data.rows(torch.as_tensor(np.flatnonzero(~away), device=data.u.device))
    return replace(rest, y=rest.y - rest.y.mean())
