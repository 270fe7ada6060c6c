"""Reduction of an additive model to the components that predictions need, by cross-validation from sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from surrogate.arrays import Array
from surrogate.gp.additive_basis import AdditiveBasis, AdditivePosterior, Sums, fit_additive, posterior_at

__all__ = ["TOLERANCE", "Dropping", "Reduction", "reduced"]

TOLERANCE = 0.003
"""Allowed relative growth of the mean squared error over that of the full model, even if significant."""
_MOST = 0.01  # largest allowed growth if not significant, because a few gross errors make its standard error large


@dataclass(frozen=True)
class Dropping:
    """The test of leaving out one component.

    Attributes:
        name: The component.
        share: Its share of the variance of the data.
        growth: Relative growth of the cross-validated mean squared error without it and those dropped before.
        error: Standard error of the growth, from its scatter over the folds.
        dropped: Whether it was dropped.
    """

    name: str
    share: float
    growth: float
    error: float
    dropped: bool


@dataclass(frozen=True, eq=False)
class Reduction:
    """A reduced additive model, and the steps of the reduction.

    Attributes:
        posterior: Posterior of the remaining components, with refitted hyperparameters.
        kept: Positions of the remaining components in the full model.
        steps: The tests, in order.
    """

    posterior: AdditivePosterior
    kept: tuple[int, ...]
    steps: tuple[Dropping, ...]


def reduced(full: AdditivePosterior, folds: Sequence[Sums], *, tolerance: float = TOLERANCE) -> Reduction:
    """A model without the components that predictions do not need; those with the smallest share are tested first.

    A component is dropped if this raises the mean squared error on held-out folds, relative to the full model, by less
    than the tolerance, or by less than both one standard error and one percent. The effects of all dropped components
    are counted together. Hyperparameters are kept during the search, so a fold costs O(M^3) and no pass over the data.

    Args:
        full: The posterior of all components, whose sums are over all folds.
        folds: Sums over the points of each fold, at least two.
        tolerance: Relative growth of the mean squared error that is allowed in any case.

    Raises:
        ValueError: If there are fewer than two folds.
    """
    if len(folds) < 2:
        msg = f"reduction needs two folds or more, got {len(folds)}"
        raise ValueError(msg)
    basis, vectors = full.basis, full.basis.vectors(full.vector)
    shares = full.shares()[:-1]
    kept, steps = list(range(len(basis.components))), []
    errors = _errors(basis, full.vector, kept, folds)
    for candidate in np.argsort(shares).tolist():
        rest = [k for k in kept if k != candidate]
        if not rest:
            break
        vector = np.concatenate([*(vectors[k] for k in rest), full.vector[-1:]])
        without = _errors(basis, vector, rest, folds)
        growth = (without - errors) / errors.mean()
        error = float(growth.std(ddof=1)) / math.sqrt(len(folds))
        drop = float(growth.mean()) <= max(min(error, _MOST), tolerance)
        name = basis.components[candidate].name
        steps.append(Dropping(name, float(shares[candidate]), float(growth.mean()), error, drop))
        if drop:
            kept = rest
    if len(kept) == len(basis.components):
        return Reduction(full, tuple(kept), tuple(steps))
    start = np.concatenate([*(vectors[k] for k in kept), full.vector[-1:]])
    return Reduction(fit_additive(basis.only(kept), start=start), tuple(kept), tuple(steps))


def _errors(basis: AdditiveBasis, vector: Array, kept: Sequence[int], folds: Sequence[Sums]) -> Array:
    """Mean squared error on each fold of the model given the other folds, with shape (folds,)."""
    part = basis.only(kept)
    index = [np.arange(basis.slices[k].start, basis.slices[k].stop) for k in kept]
    rows = part.sums.gram.new_tensor(np.concatenate(index), dtype=torch.int64)
    out = []
    for fold in folds:
        away = fold.chosen(rows)
        out.append(posterior_at(AdditiveBasis(part.components, part.sums.without(away)), vector).squared_error(away))
    return np.array(out)
