import numpy as np
import pytest
from scipy.special import logsumexp

from surrogate.inference.divergence import gaussian_kl


def exact_kl(mean, covariance, other_mean, other_covariance):
    """Half of the sum of both Kullback-Leibler divergences of two normals."""
    shift, d = other_mean - mean, len(mean)
    trace = np.trace(np.linalg.solve(covariance, other_covariance) + np.linalg.solve(other_covariance, covariance))
    pull = shift @ (np.linalg.inv(covariance) + np.linalg.inv(other_covariance)) @ shift
    return 0.25 * (trace - 2 * d + pull)


def weighted_moments(x, log_w):
    w = np.exp(log_w - logsumexp(log_w))
    mean = w @ x
    return mean, (w[:, None] * (x - mean)).T @ (x - mean)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_divergence_is_that_of_the_weighted_moments(d, rng):
    x = rng.standard_normal((200, d)) @ rng.standard_normal((d, d))
    log_v, log_w = rng.standard_normal(200), rng.standard_normal((7, 200))
    exact = [exact_kl(*weighted_moments(x, log_v), *weighted_moments(x, w)) for w in log_w]
    np.testing.assert_allclose(gaussian_kl(x, log_v, log_w), exact, rtol=1e-5, atol=1e-7)


def test_divergence_from_oneself_is_nothing(rng):
    x, log_v = rng.standard_normal((100, 3)), rng.standard_normal(100)
    np.testing.assert_allclose(gaussian_kl(x, log_v, log_v[None]), 0, atol=1e-7)


def test_divergence_is_symmetric_positive_and_free_of_units(rng):
    x, log_v, log_w = rng.standard_normal((100, 3)), rng.standard_normal(100), rng.standard_normal((1, 100))
    forth, back = gaussian_kl(x, log_v, log_w), gaussian_kl(x, log_w[0], log_v[None])
    assert forth == pytest.approx(back, rel=1e-5)
    assert forth > 0
    other = gaussian_kl(1e6 + x @ np.diag([1e-5, 1.0, 1e4]), log_v + 7.0, log_w - 1e3)
    assert other == pytest.approx(forth, rel=1e-4)


def test_a_weighting_that_leaves_no_point_is_infinitely_far(rng):
    x = rng.standard_normal((50, 2))
    log_w = np.zeros((3, 50))
    log_w[1] = -np.inf
    out = gaussian_kl(x, np.zeros(50), log_w)
    assert out[1] == np.inf
    np.testing.assert_allclose(out[[0, 2]], 0.0, atol=1e-6)
