import numpy as np
import pytest

from surrogate.inference.checks.moved import distance_moved
from surrogate.samplers.evidence import ImportanceSample


def importance(x):
    n = len(x)
    return ImportanceSample(x, -0.5 * (x**2).sum(1), np.full(n, 1 / n), 0.0, 0.0, float(n))


def test_what_has_not_moved(rng):
    sample = importance(rng.standard_normal((4000, 2)))
    assert distance_moved(sample, sample.log_density + 3.0, sample.log_density, rng) == pytest.approx(0.0, abs=1e-7)


def test_what_has_moved(rng):
    """A shift by s of a unit normal is s^2 / 2 nats; 4,000 draws know it to a few percent."""
    sample = importance(rng.standard_normal((20_000, 2)))
    before = -0.5 * ((sample.x - [0.4, 0.0]) ** 2).sum(1)
    divergence = distance_moved(sample, before, sample.log_density, rng, points=20_000)
    assert divergence == pytest.approx(0.08, rel=0.15)


def test_where_there_was_nothing_before_everything_moved(rng):
    sample = importance(rng.standard_normal((100, 2)))
    assert distance_moved(sample, np.full(100, -np.inf), sample.log_density, rng) == np.inf


def test_a_region_that_was_impossible_before_counts(rng):
    sample = importance(rng.standard_normal((4000, 2)))
    before = np.where(sample.x[:, 0] > 0, sample.log_density, -np.inf)
    assert distance_moved(sample, before, sample.log_density, rng) > 0.1
