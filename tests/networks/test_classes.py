import numpy as np
import pytest
import torch

from surrogate.networks.classes import Logits, Temperature, fit_temperature


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_temperature_of_logits_that_are_too_sure_is_found():
    """Classes drawn from softmax(f), logits told as 3 f: T = 3 to the accuracy of the estimate."""
    found = []
    for seed in range(10):
        f = 1.5 * normal(1, 1000, 3, seed=seed)
        classes = torch.multinomial(f[0].softmax(1), 1, generator=torch.Generator().manual_seed(seed))[:, 0]
        found.append(fit_temperature([Logits(3 * f, torch.zeros_like(f))], [classes]).temperature)
    assert abs(np.mean(found) - 3) < 4 * np.std(found, ddof=1) / 10**0.5
    assert np.std(found) < 0.3


def test_variance_is_used_where_it_tells_which_logits_to_trust():
    f = 3.0 * normal(1, 3000, 2)
    doubtful = torch.rand(3000, generator=torch.Generator().manual_seed(1)) < 0.5
    p = torch.where(doubtful[:, None], torch.full_like(f[0], 0.5), f[0].softmax(1))
    classes = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(2))[:, 0]
    variance = doubtful.double()[None, :, None].expand(f.shape)
    with_variance = fit_temperature([Logits(f, variance)], [classes])
    assert with_variance.temperature == pytest.approx(1.0, abs=0.15)
    assert with_variance.inflation > 20
    assert fit_temperature([Logits(f, 0 * variance)], [classes]).inflation == 1.0


def test_probabilities_are_means_over_draws():
    logits = Logits(normal(4, 5, 3), normal(4, 5, 3, seed=1).square())
    p = Temperature(2.0, 0.5).log_probabilities(logits).exp()
    expected = (logits.mean / (2.0 * (1 + np.pi / 8 * 0.5 * logits.variance).sqrt())).softmax(2).mean(0)
    torch.testing.assert_close(p, expected, rtol=1e-12, atol=1e-12)
