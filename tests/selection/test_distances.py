"""Distances to the nearest centre against all distances."""

import pytest
import torch

from surrogate.selection.distances import kernel_distances
from surrogate.selection.features import DenseFeatures, KernelFeatures
from surrogate.selection.tangent import LaplaceKernel


def points(n=300, p=6, seed=0, dtype=torch.float64):
    return torch.randn(n, p, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("train", [0, 17])
def test_distances_and_owners_are_those_of_all_pairs(train):
    x, c = points(), points(train, seed=1)
    distances = kernel_distances(DenseFeatures(x), DenseFeatures(c) if train else None)
    added = [5, 200, 31, 5]
    for i in added[:3]:
        distances.add(i)
    exact = torch.cdist(x, torch.cat([c, x[added[:3]]])).square()
    torch.testing.assert_close(distances.squared, exact.min(1).values, rtol=1e-9, atol=1e-9)
    assert torch.equal(distances.owner.long(), exact.argmin(1))
    assert distances.centres == train + 3


def test_a_kernel_and_its_features_agree():
    x, c = points(), points(9, seed=1)
    by_features = kernel_distances(DenseFeatures(x), DenseFeatures(c))

    class Linear:
        def diag(self, x):
            return x.square().sum(1)

        def matrix(self, a, b):
            return a @ b.T

    by_kernel = kernel_distances(KernelFeatures(Linear(), x), KernelFeatures(Linear(), c))
    for distances in (by_features, by_kernel):
        distances.add(3)
    torch.testing.assert_close(by_features.squared, by_kernel.squared)
    assert torch.equal(by_features.owner, by_kernel.owner)


def test_distances_under_a_kernel_without_features():
    x, kernel = points(40), LaplaceKernel(2.0)
    distances = kernel_distances(KernelFeatures(kernel, x), None)
    distances.add(7)
    torch.testing.assert_close(distances.squared, 2.0 - 2.0 * kernel.matrix(x, x[7:8])[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_of_centres_are_at_distance_zero(dtype):
    """Although |a|^2 + |b|^2 - 2 a.b rounds to something else far from the origin."""
    x = points(50, dtype=dtype) + 100.0
    distances = kernel_distances(DenseFeatures(torch.cat([x, x])), DenseFeatures(x[:10]))
    for i in range(10, 50):
        distances.add(i)
    assert not bool(distances.squared.any())


def test_a_change_says_what_was_before():
    x = points()
    distances = kernel_distances(DenseFeatures(x), None)
    distances.add(0)
    before, owner = distances.squared.clone(), distances.owner.clone()
    change = distances.add(1)
    moved = torch.nonzero(distances.owner == 1).flatten()
    assert torch.equal(change.index, moved)
    assert torch.equal(change.before, before[moved])
    assert torch.equal(change.owner, owner[moved])


def test_guesses_change_nothing_right_or_wrong():
    x = points()
    plain, guessed = (kernel_distances(DenseFeatures(x), None) for _ in range(2))
    for i in (4, 9, 100, 7):
        plain.add(i)
        guessed.add(i, lambda: torch.tensor([9, 7, 250]))
    torch.testing.assert_close(plain.squared, guessed.squared)
    assert torch.equal(plain.owner, guessed.owner)
