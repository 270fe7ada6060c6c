"""Whole runs on hierarchies: effects with an unknown sd between them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import surrogate

Y, S = np.array([2.8, 0.8, -0.3, 0.7]), np.array([1.5, 1.0, 1.6, 1.1])
CENTRE, SCALE = stats.norm(0.0, 2.0), stats.halfcauchy(0.0, 1.0)
EDGE = 20.0
PRIOR = {**{f"effect{i}": (-EDGE, EDGE) for i in range(4)}, "centre": CENTRE, "sd": SCALE}


def log_likelihood(x):
    """Of four effects with a measurement each; their distribution given centre and sd is part of it, and unbounded."""
    effects, centre, sd = x[:4], x[4], x[5]
    return stats.norm.logpdf(Y, effects, S).sum() + stats.norm.logpdf(effects, centre, sd).sum() if sd > 0 else -np.inf


def exact():
    """Log evidence, and quantiles of the sd, by integrals over effects in closed form and a grid of the other two."""
    sd = np.geomspace(1e-4, 300.0, 1500)
    centre = np.linspace(-9.0, 9.0, 400)
    width = np.sqrt(S**2 + sd[:, None, None] ** 2)
    log_density = (
        stats.norm.logpdf(Y, centre[:, None], width).sum(2) + CENTRE.logpdf(centre) + SCALE.logpdf(sd)[:, None]
    )
    density = np.exp(log_density).sum(1) * (centre[1] - centre[0]) * sd * np.log(sd[1] / sd[0])
    return np.log(density.sum()) - 4 * np.log(2.0 * EDGE), np.interp(
        [0.1, 0.5, 0.9], density.cumsum() / density.sum(), sd
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_neck_of_a_funnel_is_sampled(seed):
    result = surrogate.infer(log_likelihood, PRIOR, seed=seed, max_evaluations=110, progress=False)
    log_evidence, quantiles = exact()
    assert result.converged
    assert result.log_evidence == pytest.approx(log_evidence, abs=max(0.1, 3.0 * result.log_evidence_error))
    sd = result.samples[:, result.names.index("sd")]
    found = np.array([np.mean(sd < quantile) for quantile in quantiles])
    np.testing.assert_allclose(found, [0.1, 0.5, 0.9], atol=0.03)
