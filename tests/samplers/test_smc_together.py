"""Several densities sampled by the same calls."""

import numpy as np
import pytest

from surrogate.samplers.smc_together import sample_tempered_together

MEAN, SD, N = np.array([[0.0, 0.0], [3.0, -2.0], [-1.0, 5.0]]), np.array([1.0, 0.3, 0.1]), 800


def log_density(x):
    return -0.5 * (((x - MEAN[:, None]) / SD[:, None, None]) ** 2).sum(-1)


def log_start(x):
    return -0.5 * (x**2).sum(-1) / 36.0


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(1)
    return sample_tempered_together(log_density, 6.0 * rng.standard_normal((3, N, 2)), log_start, (3.0, 1.0), rng)


@pytest.mark.parametrize("temperature", [3.0, 1.0])
def test_moments_of_each_density(draws, temperature):
    found, sd = draws[0 if temperature > 1.0 else 1], SD[:, None] * np.sqrt(temperature)
    effective = N / 4.0  # moves leave some correlation
    assert found.shape == (3, N, 2)
    assert (np.abs(found.mean(1) - MEAN) < 4.5 * sd / np.sqrt(effective)).all()
    assert (np.abs(found.std(1) / sd - 1.0) < 4.5 / np.sqrt(2.0 * effective)).all()


def test_a_density_that_vanishes_keeps_its_start_and_harms_no_other():
    rng = np.random.default_rng(2)
    start = rng.standard_normal((2, 100, 1))

    def half(x):
        return np.stack([np.full(x.shape[1], -np.inf), -0.5 * x[1, :, 0] ** 2])

    warm, cool = sample_tempered_together(half, start, lambda x: -0.5 * (x**2).sum(-1), (3.0, 1.0), rng)
    assert np.isfinite(warm).all()
    assert abs(cool[1].std() - 1.0) < 4.5 / np.sqrt(2.0 * 25.0)
