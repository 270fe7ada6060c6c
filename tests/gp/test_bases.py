from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from surrogate.gp.bases import FourierBasis, HilbertBasis, choose_basis
from surrogate.linalg.operators import KernelOperator
from tests.gp.problems import KERNELS

LENGTHSCALE = np.array([0.8, 1.5])


def points(n=60, d=2):
    return torch.tensor(np.random.default_rng(0).uniform(-1.7, 1.7, (n, d)))


def kernel_matrix(kernel, x, lengthscale=LENGTHSCALE):
    return KernelOperator.of(kernel, x, lengthscale=torch.tensor(lengthscale)).dense()


@pytest.mark.parametrize(
    ("kernel", "error"), [("rbf", 2e-3), ("matern52", 5e-3), ("matern32", 0.02), ("matern12", 0.2)]
)
def test_sines_make_the_kernel(kernel, error):
    x = points()
    f = HilbertBasis.of(kernel, x, LENGTHSCALE, 1500).features(x, LENGTHSCALE)
    assert float((f @ f.T - kernel_matrix(kernel, x)).abs().max()) < error


@pytest.mark.parametrize("kernel", KERNELS)
def test_random_features_make_the_kernel_on_average(kernel):
    """Entries are means of p / 2 cosines, each of variance at most one half."""
    x, p = points(), 20_000
    basis = FourierBasis.of(kernel, x, p, generator=torch.Generator().manual_seed(0))
    f = basis.features(x, LENGTHSCALE)
    error = f @ f.T - kernel_matrix(kernel, x)
    assert float(error.abs().max()) < 5.0 * math.sqrt(0.5 / (p / 2))
    torch.testing.assert_close(f.square().sum(1), torch.ones(60, dtype=x.dtype))


@pytest.mark.parametrize("kernel", KERNELS)
def test_pullback_is_the_derivative(kernel):
    x = points(12)
    weight = torch.tensor(np.random.default_rng(1).standard_normal((12, 20)))
    for basis in (
        HilbertBasis.of(kernel, x, LENGTHSCALE, 20),
        FourierBasis.of(kernel, x, 20, generator=torch.Generator().manual_seed(0)),
    ):
        for k in range(2):
            step = np.exp(1e-5 * np.eye(2)[k])
            more, less = (basis.features(x, LENGTHSCALE * s) for s in (step, 1.0 / step))
            expected = float((weight * (more - less)).sum()) / 2e-5
            assert float(basis.pullback(x, LENGTHSCALE, weight)[k]) == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_functions_are_those_of_the_most_variance():
    x = points()
    few, many = (HilbertBasis.of("rbf", x, LENGTHSCALE, size) for size in (40, 400))
    weights = many.log_weights(LENGTHSCALE)[0]
    assert bool((weights.diff() <= 1e-12).all())
    torch.testing.assert_close(few.frequencies, many.frequencies[:40])
    assert len({tuple(row) for row in many.frequencies.tolist()}) == 400


def test_nothing_is_known_outside_the_box():
    x = points()
    basis = HilbertBasis.of("rbf", x, LENGTHSCALE, 300)
    edge = basis.center + basis.half
    assert float(basis.features((edge + 0.1)[None], LENGTHSCALE).abs().max()) == 0.0
    assert float(basis.features(basis.center[None], LENGTHSCALE).square().sum()) == pytest.approx(1.0, abs=0.02)


def test_sines_are_chosen_where_they_hold_the_variance():
    sines, words = choose_basis("rbf", points(), LENGTHSCALE, 300, seed=0)
    assert isinstance(sines, HilbertBasis)
    assert words.startswith("300 sines on a box, with ")
    assert isinstance(choose_basis("matern12", points(), 0.02 * LENGTHSCALE, 30, seed=0)[0], FourierBasis)
    assert isinstance(choose_basis("rbf", points(d=5), np.ones(5), 300, seed=0)[0], FourierBasis)
