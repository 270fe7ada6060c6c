"""Variances given neighbours where rows repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogate.gp.evidence.neighbours import NeighbourLikelihood
from surrogate.linalg.stationary import CORRELATIONS


def likelihood(x):
    y = torch.sin(3.0 * x[:, 0])
    targets = torch.arange(len(x))
    return NeighbourLikelihood.of(
        CORRELATIONS["matern32"], x, y, targets=targets, m=8, lengthscale=np.ones(2), noise=None
    )


def points():
    return torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("copies", [2, 5])
def test_repeated_rows_have_next_to_no_variance_given_each_other(copies):
    """In place of an error: K of copies is singular at a noise below rounding."""
    x = points()
    theta = np.log([1e-18, 1.0, 1.0])
    apart, repeated = likelihood(x).variance(theta), likelihood(x.repeat(copies, 1)).variance(theta)
    assert float(apart.min()) > 1e-4
    assert repeated.shape == (40 * copies,)
    assert 0.0 < float(repeated.min()) <= float(repeated.max()) < 1e-10


def test_variance_is_the_schur_complement():
    x, theta = points(), np.log([1e-3, 0.7, 1.3])
    rows = likelihood(x).x[5] / torch.as_tensor([0.7, 1.3])
    k = CORRELATIONS["matern32"].correlation(torch.cdist(rows, rows).square()) + 1e-3 * torch.eye(9)
    expected = k[-1, -1] - k[-1, :-1] @ torch.linalg.solve(k[:-1, :-1], k[:-1, -1])
    torch.testing.assert_close(likelihood(x).variance(theta)[5], expected)
