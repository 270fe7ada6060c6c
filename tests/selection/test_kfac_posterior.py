import pytest
import torch
from torch import nn

from surrogate.selection.features import DenseFeatures
from surrogate.selection.gradients import FactoredFeatures, GradientFeatures
from surrogate.selection.transforms import PoolAndTrain, kfac_posterior, named_transform, posterior


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network():
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    for k, p in enumerate(model.parameters()):
        p.data = 0.7 * normal(*p.shape, seed=100 + k)
    return model


def test_kernel_by_whole_matrices():
    model, noise = network(), 0.3
    split = PoolAndTrain(GradientFeatures.of(model, normal(7, 3)), GradientFeatures.of(model, normal(9, 3, seed=1)))
    ours = kfac_posterior(noise)(split)
    pool, train = split.pool.stored(), split.train.stored()
    unit = float(train.diag().mean()) ** 0.5
    variance, expected = (noise * unit) ** 2, torch.zeros(7, 9).double()
    for (u, v), (s, t) in zip(pool.factors, train.factors, strict=True):
        a, g = s.T @ s / 9, t.T @ t / 9
        pi = (a.diagonal().mean() / g.diagonal().mean()).sqrt()
        root = (variance / 9) ** 0.5
        damped = torch.kron(a + pi * root * torch.eye(len(a)).double(), g + root / pi * torch.eye(len(g)).double())
        left, right = (FactoredFeatures(((x, y),)).dense() for x, y in ((u, v), (s, t)))
        expected += variance * left @ torch.linalg.solve(9 * damped, right.T)
    torch.testing.assert_close(ours.pool.gram(ours.train), expected, rtol=1e-9, atol=1e-12)


def test_one_linear_layer_is_the_exact_posterior_as_the_noise_vanishes():
    model = nn.Linear(3, 1).double()
    split = PoolAndTrain(GradientFeatures.of(model, normal(7, 3)), GradientFeatures.of(model, normal(50, 3, seed=1)))
    exact, ours = (t(split).pool.diag() for t in (posterior(1e-4), kfac_posterior(1e-4)))
    unit = float(split.train.stored().diag().mean())
    torch.testing.assert_close(ours / unit, exact, rtol=1e-3, atol=0)


def test_by_name_and_sketched():
    model = network()
    split = PoolAndTrain(GradientFeatures.of(model, normal(7, 3)), GradientFeatures.of(model, normal(9, 3, seed=1)))
    after = named_transform("posterior-kfac:0.1", None)(split)
    sketched = named_transform("sketch:6", torch.Generator().manual_seed(0))(after)
    assert sketched.pool.dense().shape == (7, 6)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="noise must be positive, got 0"):
        kfac_posterior(0.0)
    dense = DenseFeatures(normal(4, 3))
    with pytest.raises(ValueError, match="needs gradients of a network, got DenseFeatures"):
        kfac_posterior()(PoolAndTrain(dense, dense))
