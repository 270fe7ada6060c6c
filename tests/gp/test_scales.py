from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from surrogate.gp.evidence.exact import ExactEvidence
from surrogate.gp.scales import Observations, ScalePrior, maximise, scale_terms
from surrogate.linalg.stationary import CORRELATIONS
from tests.gp.problems import dense, problem, slope


def test_penalty_is_a_density():
    prior, theta = ScalePrior(), np.array([-2.0, 0.3, 1.0])
    penalty = prior.priors(2).penalty
    other = theta + [1.0, -0.5, 0.2]
    centre, sd = prior.centre(2), [prior.eta_sd, prior.lengthscale_sd, prior.lengthscale_sd]
    expected = norm.logpdf(other, centre, sd).sum() - norm.logpdf(theta, centre, sd).sum()
    assert penalty(theta)[0] - penalty(other)[0] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(penalty(theta)[1], slope(lambda t: penalty(t)[0], theta), rtol=1e-7)


def test_rescue_raises_the_noise_and_says_so():
    x, y = problem(n=40)
    x = torch.cat([x, x])
    y = torch.cat([y, y])
    evidence, prior = ExactEvidence(CORRELATIONS["rbf"], Observations(x, y)), ScalePrior(eta_bounds=(1e-30, 1e3))
    fit = maximise(evidence.objective, np.array([-40.0, 3, 3, 3]), prior=prior, max_evaluations=1)
    assert math.isfinite(fit.value)
    assert len(fit.rescues) > 0
    with pytest.raises(FloatingPointError, match="are all inputs finite"):
        maximise(lambda t: (math.nan, t), np.zeros(3), prior=ScalePrior())


def test_noiseless_data_are_fitted_through_failures():
    x, _ = problem(n=80, d=2)
    y = torch.sin(x).sum(1)
    prior = ScalePrior(eta_bounds=(80 * 2.2e-16, 1e3))
    fit = maximise(ExactEvidence(CORRELATIONS["rbf"], Observations(x, y)).objective, prior.centre(2), prior=prior)
    assert fit.eta < 1e-9
    assert -fit.value < dense("rbf", x, y - y.mean(), np.array([math.log(1e-6), 0.0, 0.0])) - 50


@pytest.mark.parametrize("noise", [None, 0.3])
def test_scale_terms_are_a_normal_density_in_s(noise):
    q, n, eta = 7.0, 5, 0.1
    s2, value, slope_in_eta = scale_terms(q, n, eta, noise)
    assert s2 == pytest.approx(q / n if noise is None else noise / eta)
    assert value == pytest.approx(0.5 * (n * math.log(2 * math.pi * s2) + q / s2))
    other = scale_terms(q, n, eta * math.exp(1e-6), noise)[1]
    assert slope_in_eta == pytest.approx((other - value) / 1e-6, abs=1e-4)


def test_products_with_the_noise():
    data = Observations(torch.zeros(3, 1), torch.zeros(3), torch.tensor([1.0, 2.0, 0.0]))
    v = torch.arange(6.0).reshape(3, 2)
    torch.testing.assert_close(data.times_noise(v, 0.5), torch.diag(data.noise(0.5)) @ v)
    torch.testing.assert_close(data.add_noise(torch.zeros(3, 3), 0.5).diagonal(), data.noise(0.5))
    assert Observations(data.x, data.y).noise(0.5) == 0.5
