"""Fits of components: which of them choose the kernel."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.gp.process import Data
from surrogate.log_density.composite.fit import fit_components
from surrogate.log_density.composite.reduction import principal_components


def waves(u: np.ndarray) -> np.ndarray:
    """Twelve outputs that are smooth, but have as many principal components as there are points."""
    rng = np.random.default_rng(1)
    directions, phases = 0.5 * rng.standard_normal((3, 12)), rng.uniform(0.0, 6.0, 12)
    return np.sin(u @ directions + phases)


def errors(leading: int | None) -> float:
    """Median error of the outputs at new points."""
    rng = np.random.default_rng(2)
    u, new = rng.standard_normal((14, 3)), rng.standard_normal((200, 3))
    centre = waves(u).mean(0)
    basis, scores = principal_components(waves(u) - centre)
    data = Data.of(u, scores)
    found = fit_components(data, (), cold_start=True, leading=leading, own=False)
    assert sum(len(group.columns) for group in found.groups) == scores.shape[1]
    mean = np.empty((len(new), scores.shape[1]))
    for group in found.groups:
        part = Data.of(u, scores[:, group.columns])
        mean[:, group.columns] = group.family.condition(part, group.hyper).mean(new).reshape(len(new), -1)
    return float(np.median(np.abs(centre + mean @ basis.T - waves(new))))


def test_small_components_do_not_spoil_the_kernel_of_large_ones() -> None:
    assert errors(5) < 0.3 * errors(None)


def test_all_components_choose_by_default() -> None:
    rng = np.random.default_rng(3)
    u = rng.standard_normal((10, 2))
    data = Data.of(u, np.sin(u @ rng.standard_normal((2, 3))))
    first, second = (fit_components(data, (), cold_start=True, leading=leading) for leading in (None, 3))
    assert first.score == second.score
    assert [g.hyper.vector().tolist() for g in first.groups] == [g.hyper.vector().tolist() for g in second.groups]


@pytest.mark.parametrize("leading", [1, 2])
def test_the_other_components_take_the_common_kernel(leading: int) -> None:
    rng = np.random.default_rng(4)
    u = rng.standard_normal((12, 2))
    data = Data.of(u, np.sin(u @ rng.standard_normal((2, 4))))
    found = fit_components(data, (), cold_start=True, leading=leading)
    assert sorted(np.concatenate([group.columns for group in found.groups])) == [0, 1, 2, 3]
    assert max(len(group.columns) for group in found.groups) >= 4 - leading
