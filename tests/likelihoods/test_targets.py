"""Laws of a target, over the table of all of them."""

import itertools
import pickle
from functools import cache

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from likelihoods import TARGETS, Target, desi

N = 10_000


@cache
def target(name):
    return TARGETS[name]()


@cache
def draws(name):
    return target(name).draw(N, np.random.default_rng(0))


@cache
def anywhere(name):
    """Uniform points, the corners of the box (in up to 8 dimensions), and posterior draws."""
    low, high = target(name).bounds.T
    corners = [p for p in itertools.islice(itertools.product(*target(name).bounds), 256)]
    return np.concatenate([np.random.default_rng(1).uniform(low, high, (2000, len(low))), corners, draws(name)[:200]])


def values(name, x):
    """Log-likelihood, with its noise where it has one."""
    y = target(name).log_likelihood(x)
    return y[0] if isinstance(y, tuple) else y


def noise_variance(name):
    return target(name).noise ** 2


def forbidden_by_geometry(x):
    """Beyond 0.7 along the diagonal of whitened space, or within 0.8 of -0.9 on it."""
    gaussian = target("forbidden3").log_likelihood.density.__self__.gaussian
    z = np.linalg.solve(gaussian.factor, (x - gaussian.mean).T).T
    along = z.sum(1) / np.sqrt(3)
    return (along > 0.7) | ((z**2).sum(1) - along**2 + (along + 0.9) ** 2 < 0.64)


FORBIDDEN = {
    "forbidden3": forbidden_by_geometry,
    "cliff3": lambda x: x.sum(1) > 2.25,
    "crescent": lambda x: x[:, 1] < x[:, 0] ** 2 - 1,
    "corridor": lambda x: np.abs(x[:, 1] - 0.8 * np.sin(1.5 * x[:, 0])) > 0.5,
    "lognormal4": lambda x: np.any(x[:, ::2] <= 0, axis=1),
    "desi_w0wacdm": lambda x: (
        (x[:, 2] + x[:, 3] >= 0) | (x[:, 1] * (x[:, 0] / 100) ** 2 - desi.OMEGA_NEUTRINO < x[:, 4])
    ),
}

every = pytest.mark.parametrize("name", TARGETS)


@every
def test_description_is_complete(name):
    one = target(name)
    assert isinstance(one, Target)
    assert len(one.names) == len(set(one.names)) == len(one.labels) == len(one.periodic) == one.d
    assert one.bounds.shape == (one.d, 2)
    assert np.all(one.bounds[:, 0] < one.bounds[:, 1])
    assert list(one.prior) == list(one.names)
    assert one.mean.shape == (one.d,)
    np.testing.assert_allclose(one.covariance, one.covariance.T, rtol=1e-12)
    assert np.linalg.eigvalsh(one.covariance).min() > 0


@every
def test_draws_lie_in_the_box_and_are_possible(name):
    x, (low, high) = draws(name), target(name).bounds.T
    assert x.shape == (N, target(name).d)
    assert np.all((x >= low) & (x <= high))
    assert np.isfinite(values(name, x)).all()


@every
def test_draws_repeat(name):
    again = [target(name).draw(n, np.random.default_rng(7)) for n in (50, 50, 0)]
    np.testing.assert_array_equal(again[0], again[1])
    assert again[2].shape == (0, target(name).d)


@every
def test_draws_have_the_moments(name):
    """Null: stated mean and covariance; 5 standard errors of each entry."""
    x, one = draws(name), target(name)
    assert np.all(np.abs(x.mean(0) - one.mean) < 5 * x.std(0) / np.sqrt(N))
    residual = x - one.mean
    products = residual[:, :, None] * residual[:, None, :]
    assert np.all(np.abs(products.mean(0) - one.covariance) < 5 * products.std(0) / np.sqrt(N))


@every
def test_likelihood_has_the_evidence_and_the_mean(name):
    """Importance sampling from a mixture fitted to other draws, a tenth of it uniform; 5 standard errors.

    Noise of variance v in the log-likelihood raises its exponential by v / 2.
    """
    one, rng = target(name), np.random.default_rng(2)
    scale = np.sqrt(np.diag(one.covariance))
    fitted = GaussianMixture(6, random_state=0, max_iter=50, tol=1e-2).fit((draws(name)[:3000] - one.mean) / scale)
    x = one.mean + scale * fitted.sample(9 * N // 10)[0]
    x = np.concatenate([x, rng.uniform(*one.bounds.T, (N // 10, one.d))])
    log_fitted = fitted.score_samples((x - one.mean) / scale) - np.log(scale).sum()
    inside = np.all((x >= one.bounds[:, 0]) & (x <= one.bounds[:, 1]), axis=1)
    log_proposal = np.logaddexp(np.log(0.9) + log_fitted, np.log(0.1) - one.log_volume)
    log_weight = np.full(N, -np.inf)
    log_weight[inside] = values(name, x[inside]) - noise_variance(name) / 2 - log_proposal[inside] - one.log_volume
    ratio = np.exp(log_weight - one.log_evidence)
    assert logsumexp(2 * log_weight) - 2 * logsumexp(log_weight) < -np.log(0.02 * N)
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(N)
    deviation = ratio[:, None] * (x - one.mean)
    assert np.all(np.abs(deviation.mean(0)) < 5 * deviation.std(0) / np.sqrt(N))


@every
def test_rows_are_points(name):
    x = anywhere(name)[::20]
    rows = target(name).log_likelihood(x)
    points = [target(name).log_likelihood(point) for point in x]
    if isinstance(rows, tuple):
        assert all(type(v) is float and type(s) is float for v, s in points)
        points = np.transpose(points)
    else:
        assert all(type(v) is float for v in points)
        assert rows.shape == (len(x),)
    np.testing.assert_allclose(rows, points, rtol=1e-10)


@every
def test_impossible_region_is_the_stated_one(name):
    """-inf there, and finite everywhere else in the box."""
    x = anywhere(name)
    y = values(name, x)
    expected = FORBIDDEN.get(name, lambda x: np.zeros(len(x), bool))(x)
    np.testing.assert_array_equal(np.isneginf(y), expected)
    assert np.isfinite(y[~expected]).all()


@every
def test_no_rows_and_a_wrong_shape(name):
    one = target(name)
    assert values(name, np.empty((0, one.d))).shape == (0,)
    with pytest.raises(ValueError, match=rf"x must have shape \({one.d},\) or \(m, {one.d}\), got"):
        one.log_likelihood(np.zeros(one.d + 1))


@every
def test_goes_to_another_process(name):
    """The likelihood and the sampler survive a round trip through pickle."""
    one = target(name)
    x = draws(name)[:5]
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(np.array(again.log_likelihood(x)), np.array(one.log_likelihood(x)))
    rng = np.random.default_rng
    np.testing.assert_array_equal(again.draw(5, rng(3)), one.draw(5, rng(3)))


def test_bounds_and_labels_must_fit_the_names():
    with pytest.raises(ValueError, match=r"bounds of t must have shape \(2, 2\), got \(1, 2\)"):
        Target("t", ("a", "b"), ("a", "b"), np.array([[0.0, 1.0]]), np.sum)
    with pytest.raises(ValueError, match="t must have 1 labels, got 2"):
        Target("t", ("a",), ("a", "b"), np.array([[0.0, 1.0]]), np.sum)
