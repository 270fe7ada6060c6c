"""Pareto-smoothed weights against a slow obvious implementation, and where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from surrogate.samplers.psis import fit_generalised_pareto, smooth_weights


def slow_fit(x):
    """Zhang & Stephens (2009), the loops written out."""
    n = len(x)
    m = 30 + int(math.sqrt(n))
    star = x[int(n / 4 + 0.5) - 1]
    thetas, profiles = [], []
    for j in range(1, m + 1):
        theta = 1 / x[-1] + (1 - math.sqrt(m / (j - 0.5))) / (3 * star)
        k = sum(math.log(1 - theta * xi) for xi in x) / n
        thetas.append(theta)
        profiles.append(n * (math.log(-theta / k) - k - 1))
    weights = [1 / sum(math.exp(other - mine) for other in profiles) for mine in profiles]
    theta = sum(w * t for w, t in zip(weights, thetas, strict=True))
    k = sum(math.log(1 - theta * xi) for xi in x) / n
    return (k * n + 5) / (n + 10), -k / theta


def slow_weights(log_ratios):
    """The steps of section 2.1 of the paper one by one."""
    ratios = [math.exp(v - max(log_ratios)) for v in log_ratios]
    n = len(ratios)
    size = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    order = sorted(range(n), key=lambda i: ratios[i])
    cut = ratios[order[n - size - 1]]
    k, sigma = slow_fit([ratios[i] - cut for i in order[n - size :]])
    for z, i in enumerate(order[n - size :], start=1):
        p = (z - 0.5) / size
        ratios[i] = min(cut + sigma * ((1 - p) ** -k - 1) / k, 1.0)
    return np.array(ratios) / sum(ratios), k


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_is_what_the_slow_one_gives(rng, spread):
    log_ratios = spread * rng.standard_normal(500)
    weights, k = slow_weights(log_ratios.tolist())
    got = smooth_weights(log_ratios)
    np.testing.assert_allclose(got.weights, weights, rtol=1e-9)
    assert got.k_hat == pytest.approx(k, rel=1e-9)
    assert got.ess == pytest.approx(1 / (weights**2).sum())


@pytest.mark.parametrize("k", [0.0, 0.3, 0.7])
def test_shape_of_exact_draws(rng, k):
    draws = np.sort(stats.genpareto(k, scale=2.0).rvs(20_000, random_state=rng))
    got, sigma = fit_generalised_pareto(draws)
    assert abs(got - k) < 5 * (1 + k) / np.sqrt(20_000)  # Smith (1987): variance (1 + k)^2 / n
    assert sigma == pytest.approx(2.0, rel=0.05)


def test_equal_ratios_weigh_the_same():
    got = smooth_weights(np.full(100, -300.0))
    np.testing.assert_allclose(got.weights, 0.01)
    assert got.reliable
    assert got.ess == pytest.approx(100)


def test_good_proposal_is_trusted_and_bad_one_is_not(rng):
    x = rng.standard_normal(2000)
    wide = smooth_weights(stats.norm(0, 0.9).logpdf(x) - stats.norm.logpdf(x))
    narrow = smooth_weights(stats.norm(0, 3.0).logpdf(x) - stats.norm.logpdf(x))
    assert wide.reliable
    assert wide.ess > 1500
    assert not narrow.reliable
    assert narrow.k_hat > 0.7


def test_impossible_draws_get_no_weight(rng):
    log_ratios = 0.1 * rng.standard_normal(200)
    log_ratios[:20] = -np.inf
    got = smooth_weights(log_ratios)
    assert not got.weights[:20].any()
    assert got.weights.sum() == pytest.approx(1.0)


def test_few_draws_are_only_normalised():
    got = smooth_weights(np.log([1.0, 2.0, 1.0]))
    np.testing.assert_allclose(got.weights, [0.25, 0.5, 0.25])
    assert math.isnan(got.k_hat)
    assert not got.reliable


@pytest.mark.parametrize("bad", [[], [np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf], [[0.0]]])
def test_what_cannot_be_weighed_is_refused(bad):
    with pytest.raises(ValueError, match="log ratios must have shape"):
        smooth_weights(np.array(bad))
