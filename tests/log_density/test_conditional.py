"""Conditionals of a log-density whose trend is divided by a parameter."""

import numpy as np
import pytest

from surrogate.inference.draws import ScaledPrior, conditionals, draw
from surrogate.log_density.coordinates.warps import INPUT_WARPS, InputWarp
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Division, Structure
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.samplers.evidence import importance_sample

D = 4
SDS = np.array([0.1, 0.1, 0.1])
MEASURED = np.array([0.1, 0.0, 0.05])


def funnel(t):
    """Three effects with an unknown sd between them, 0 to 1, and a measurement of each: unbounded at an sd of 0."""
    effects, sd = t[:, :3] - 0.5, t[:, 3]
    return -0.5 * (effects**2).sum(1) / sd**2 - 3.0 * np.log(sd) - 0.5 * (((effects - MEASURED) / SDS) ** 2).sum(1)


def log_prior(t):
    return np.where(((t >= 0.0) & (t <= 1.0)).all(1), 0.0, -np.inf)


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    t = np.concatenate([rng.random((30, D)), 0.5 + 0.1 * rng.standard_normal((30, D))])
    t[:, 3] = np.exp(rng.uniform(np.log(0.03), 0.0, 60))
    data = Dataset.empty(D).append(t, [Evaluation(float(v), "ok") for v in funnel(t)], 0)
    kinds = np.array([0, 0, 0, INPUT_WARPS.index("log")])
    structure = Structure("rbf", "quadratic", 0.0, InputWarp(kinds, np.zeros(D), np.ones(D)), Division(3, -2, True))
    return build(data, t, fit_structure(FitProblem(data, t), structure))


POINTS = np.random.default_rng(1).uniform([0.3, 0.3, 0.3, 0.05], [0.7, 0.7, 0.7, 0.6], (200, D))


def prior():
    return ScaledPrior(np.zeros(D), np.ones(D), log_prior, lambda n, rng: rng.random((n, D)))


def marginal(sd):
    """Density of the sd with the effects integrated out, each of which is normal, up to a factor."""
    variance = SDS**2 + sd[:, None] ** 2
    return np.exp(-0.5 * (MEASURED**2 / variance + np.log(variance)).sum(1))


def test_the_mixture_is_close_to_the_posterior(model):
    assert model.exact
    mixture = model.conditional_mixture(POINTS, log_prior)
    sample = importance_sample(
        lambda t: funnel(np.maximum(t, 1e-9)) + log_prior(t),
        mixture.sample(500, np.random.default_rng(2)),
        8000,
        np.random.default_rng(3),
        known=mixture,
    )
    assert sample.ess > 0.4 * 8000
    sd = np.linspace(1e-4, 1.0, 4000)
    share = marginal(sd) / marginal(sd).sum()
    for limit in (0.02, 0.1, 0.3):
        assert sample.weights[sample.x[:, 3] < limit].sum() == pytest.approx(share[sd < limit].sum(), abs=0.03)


def test_draws_reach_the_neck(model):
    """Where the divisor is a fifth of what any evaluation had, at a rate that the integral over the effects gives."""
    draws = draw(model, prior(), POINTS, funnel(POINTS), None, np.random.default_rng(4), n=4000)
    sd = np.linspace(1e-4, 1.0, 4000)
    share = marginal(sd) / marginal(sd).sum()
    assert (draws.posterior[:, 3] < 0.02).mean() == pytest.approx(share[sd < 0.02].sum(), abs=0.03)
    assert draws.posterior[:, 3].mean() == pytest.approx(share @ sd, abs=0.03)
    assert draws.warm[:, 3].mean() > draws.posterior[:, 3].mean()


def test_a_trend_that_is_not_divided_has_none():
    t = np.random.default_rng(0).random((40, 2))
    data = Dataset.empty(2).append(t, [Evaluation(float(v), "ok") for v in -((t - 0.5) ** 2).sum(1) / 0.02], 0)
    plain = build(data, t, fit_structure(FitProblem(data, t), Structure.plain(np.zeros(2), np.ones(2))))
    unit = ScaledPrior(np.zeros(2), np.ones(2), log_prior, lambda n, rng: rng.random((n, 2)))
    assert conditionals(plain, unit, t) is None
