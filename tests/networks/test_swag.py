import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from surrogate.networks.swag import Swag, SwagMoments


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def collected(rows, model, rank):
    moments = SwagMoments(model, rank=rank)
    for row in rows:
        vector_to_parameters(row, model.parameters())
        moments.collect()
    return moments.posterior()


def test_moments_are_those_of_the_snapshots():
    model, rows = nn.Linear(2, 1).double(), 100.0 + normal(9, 3)
    posterior = collected(rows, model, rank=4)
    torch.testing.assert_close(posterior.mean, rows.mean(0))
    torch.testing.assert_close(posterior.variance, rows.var(0, correction=0))
    expected = torch.stack([rows[k] - rows[: k + 1].mean(0) for k in range(5, 9)])
    torch.testing.assert_close(posterior.deviations, expected)


def test_mean_and_covariance_of_a_known_normal_distribution():
    n, root = 4000, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 0.6]]).double()
    mean, model = torch.tensor([1.0, -2.0, 3.0]).double(), nn.Linear(2, 1).double()
    posterior = collected(mean + normal(n, 3, seed=1) @ root.T, model, rank=n)
    covariance = root @ root.T
    variance = covariance.diagonal()
    assert bool(((posterior.mean - mean).abs() < 3 * (variance / n).sqrt()).all())
    # Both parts estimate the same matrix: the diagonal part its diagonal, the deviations all of it.
    d = posterior.deviations
    found = d.T @ d / (n - 1)
    error = ((variance[:, None] * variance + covariance.square()) / n).sqrt()  # of a sample covariance
    # The first deviations are from means of few: sum_k (1 - 1 / k) in the place of n - 1.
    assert bool(((found - covariance).abs() < 3 * error + 10 / n * covariance.abs()).all())
    assert bool(((posterior.variance - variance).abs() < 3 * error.diagonal() + 2 / n * variance).all())


def test_sample_covariance_is_half_of_both_parts():
    posterior = Swag(nn.Linear(2, 1), normal(3), normal(3, seed=1).square() + 0.5, normal(3, 3, seed=2))
    draws = posterior.sample(200_000, torch.Generator().manual_seed(0))
    expected = 0.5 * (posterior.variance.diag() + posterior.deviations.T @ posterior.deviations / 2)
    found = draws.T.cov()
    torch.testing.assert_close(draws.mean(0), posterior.mean, atol=4 * 0.005, rtol=0)
    assert float((found - expected).norm() / expected.norm()) < 0.05
    assert float((found.diagonal() / expected.diagonal() - 1).abs().max()) < 0.05


def test_outputs_at_once_are_those_of_each_network():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    posterior = collected(normal(5, 17), model, rank=3)
    draws, x = posterior.sample(4, torch.Generator().manual_seed(0)), normal(700, 2)
    together = posterior.outputs(x, draws)
    assert together.shape == (4, 700, 2)
    for row, network, output in zip(draws, posterior.networks(draws), together, strict=True):
        assert torch.equal(parameters_to_vector(network.parameters()), row)
        torch.testing.assert_close(network(x), output)


def test_batch_normalisation_is_renewed_for_each_draw():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
    size = sum(p.numel() for p in model.parameters())
    posterior = collected(normal(3, size), model, rank=2)
    x, draws = normal(50, 2, seed=5), posterior.sample(2, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="use networks"):
        posterior.outputs(x, draws)
    for network in posterior.networks(draws, [x]):
        torch.testing.assert_close(network[1].running_mean, network[0](x).mean(0).detach())


def test_misuse_is_refused():
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="rank must be at least 2, got 1"):
        SwagMoments(model, rank=1)
    moments = SwagMoments(model)
    moments.collect()
    with pytest.raises(ValueError, match="at least 2 snapshots, got 1"):
        moments.posterior()
    model.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        moments.collect()
