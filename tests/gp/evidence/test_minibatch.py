from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from surrogate.gp.evidence.minibatch import minibatch_fit
from surrogate.gp.scales import Observations, ScalePrior
from surrogate.linalg.stationary import CORRELATIONS
from tests.gp.problems import problem


def test_minibatches_find_the_hyperparameters():
    """Noise within 10 %, lengthscale within 20 %, variance within 35 % of the realised one, at n = 10,000."""
    rng = np.random.default_rng(0)
    x = 10.0 * torch.tensor(rng.random((10_000, 2)))
    frequency, phase = torch.tensor(rng.standard_normal((2, 2000))), 2 * math.pi * torch.tensor(rng.random(2000))
    amplitude = torch.tensor(rng.standard_normal(2000)) * math.sqrt(2.0 / 2000)
    f = math.sqrt(2.5) * torch.cos(x @ frequency + phase) @ amplitude
    y = f + 0.5 * torch.tensor(rng.standard_normal(10_000))
    y = y - y.mean()
    start = np.log([1.0, 0.3, 0.3])
    generator = torch.Generator().manual_seed(0)
    fit, noise = minibatch_fit(CORRELATIONS["rbf"], Observations(x, y), start, generator=generator, prior=ScalePrior())
    assert noise == pytest.approx(0.25, rel=0.10)
    assert fit.lengthscale == pytest.approx([1.0, 1.0], rel=0.20)
    assert noise / fit.eta == pytest.approx(float(f.var()), rel=0.35)


def test_known_noise_is_kept():
    data = Observations(*problem(n=500))
    fit, noise = minibatch_fit(
        CORRELATIONS["rbf"],
        data,
        np.log([0.1, 1.0, 1.0, 1.0]),
        generator=torch.Generator().manual_seed(0),
        prior=ScalePrior(),
        noise=0.02,
        steps=5,
    )
    assert noise == pytest.approx(0.02, rel=1e-12)
    assert math.isnan(fit.value)
    assert fit.status == "5 batches of 128 points"
