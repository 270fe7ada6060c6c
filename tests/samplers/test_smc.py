import numpy as np
import pytest
from scipy.stats import kstest

from surrogate.samplers.smc import sample_tempered, systematic_resample

N = 2000


def normal(d):
    rng = np.random.default_rng(d)
    mean, a = rng.standard_normal(d), rng.standard_normal((d, d))
    covariance = a @ a.T / d + 0.1 * np.eye(d)
    inverse = np.linalg.inv(covariance)

    def log_density(x):
        return -0.5 * np.einsum("ni,ij,nj->n", x - mean, inverse, x - mean)

    return log_density, mean, covariance


def wide(d, width=4.0):
    """A starting cloud and its log density."""
    start = width * np.random.default_rng(0).standard_normal((N, d))
    return start, lambda x: -0.5 * ((x / width) ** 2).sum(1) - d * np.log(width)


@pytest.mark.parametrize("seed", range(3))
def test_every_index_comes_as_often_as_its_weight_says(seed):
    """Systematic resampling: the count is n w rounded down or up, whatever the random number."""
    rng = np.random.default_rng(seed)
    log_weights = 3.0 * rng.standard_normal(50)
    weights = np.exp(log_weights) / np.exp(log_weights).sum()
    counts = np.bincount(systematic_resample(log_weights, 1000, rng), minlength=50)
    assert counts.sum() == 1000
    assert np.all(np.abs(counts - 1000 * weights) < 1 + 1e-9)


def test_impossible_particles_are_never_taken(rng):
    log_weights = np.where(np.arange(20) % 3 == 0, -np.inf, 0.0)
    assert np.all(systematic_resample(log_weights, 500, rng) % 3 != 0)


def test_resampling_survives_weights_of_any_size(rng):
    assert np.all(systematic_resample(np.array([-1e4, -1e4 - 800.0, -np.inf]), 30, rng) == 0)
    assert np.all(systematic_resample(np.array([1e5, 0.0]), 30, rng) == 0)


@pytest.mark.parametrize("d", [1, 2, 6])
def test_tempered_normals_have_their_covariance_times_the_temperature(d):
    """Null: exact draws of which a quarter are independent; 5 standard errors."""
    log_density, mean, covariance = normal(d)
    start, log_start = wide(d)
    temperatures = (4.0, 2.0, 1.0)
    clouds = sample_tempered(log_density, start, log_start, temperatures, np.random.default_rng(1))
    for temperature, x in zip(temperatures, clouds, strict=True):
        sd, ess = np.sqrt(temperature * np.diag(covariance)), N / 4
        assert x.shape == (N, d)
        np.testing.assert_array_less(np.abs(x.mean(0) - mean) / sd, 5 / np.sqrt(ess))
        np.testing.assert_array_less(np.abs(x.std(0) / sd - 1), 5 / np.sqrt(2 * ess))


def test_edges_are_respected():
    """A half-normal: no particle outside, and the shape inside."""
    start, log_start = wide(1)
    log_density = lambda x: np.where(x[:, 0] >= 0, -0.5 * x[:, 0] ** 2, -np.inf)  # noqa: E731
    (x,) = sample_tempered(log_density, start, log_start, (1.0,), np.random.default_rng(2))
    assert x.min() >= 0
    assert kstest(x[::4, 0], "halfnorm").pvalue > 1e-4


def test_two_far_modes_keep_their_shares():
    """0.3 and 0.7; particles never cross, so that the error of the shares is that of the start: 5 of its sd."""
    start, log_start = wide(2, width=6.0)

    def log_density(x):
        low, high = (-0.5 * ((x - m) ** 2).sum(1) / 0.25 for m in (-5.0, 5.0))
        return np.logaddexp(np.log(0.3) + low, np.log(0.7) + high)

    (x,) = sample_tempered(log_density, start, log_start, (1.0,), np.random.default_rng(3))
    assert np.mean(x[:, 0] < 0) == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 100))


def test_a_start_that_is_the_target_stays():
    log_density, _, _ = normal(2)
    mean, covariance = normal(2)[1:]
    start = np.random.default_rng(4).multivariate_normal(mean, covariance, N)
    (x,) = sample_tempered(log_density, start, log_density, (1.0,), np.random.default_rng(5))
    np.testing.assert_allclose(x.mean(0), mean, atol=5 * np.sqrt(np.diag(covariance).max() * 4 / N))


def test_the_generator_alone_decides():
    log_density, _, _ = normal(2)
    start, log_start = wide(2)
    before = start.copy()
    first, second, third = (
        sample_tempered(log_density, start, log_start, (2.0, 1.0), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)
    np.testing.assert_array_equal(start, before)


def test_cost_in_calls():
    """About three sweeps per bridge and twelve at the end, two calls each."""
    log_density, _, _ = normal(2)
    calls = []

    def counted(x):
        calls.append(len(x))
        return log_density(x)

    start, log_start = wide(2)
    sample_tempered(counted, start, log_start, (1.0,), np.random.default_rng(6))
    assert sum(calls) < 80 * N


def test_a_start_without_finite_density_is_refused():
    start, log_start = wide(1)
    with pytest.raises(ValueError, match="none of the starting points has a finite log density"):
        sample_tempered(lambda x: np.full(len(x), -np.inf), start, log_start, (1.0,), np.random.default_rng(0))
