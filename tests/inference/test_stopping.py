from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.special import logsumexp

from surrogate.inference.stopping import (
    Signals,
    batch_error,
    gaussian_kl,
    hole_error,
    inflation,
    judge,
    moved,
)
from surrogate.problem.accuracy import Thresholds
from surrogate.samplers.evidence import ImportanceSample

GOOD = Signals(spread=0.001, warm=0.001, log_evidence=0.001, batch=0.01, moved=0.001, border=0.0, ess=3000.0)
LIMITS = {"spread": "spread", "warm": "warm", "log_evidence": "log_evidence", "batch": "batch"}


# The divergence


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


def importance(x):
    n = len(x)
    return ImportanceSample(x, -0.5 * (x**2).sum(1), np.full(n, 1 / n), 0.0, 0.0, float(n))


def test_what_has_not_moved(rng):
    sample = importance(rng.standard_normal((4000, 2)))
    assert moved(sample, sample.log_density + 3.0, sample.log_density, rng) == pytest.approx(0.0, abs=1e-7)


def test_what_has_moved(rng):
    """A shift by s of a unit normal is s^2 / 2 nats; 4,000 draws know it to a few percent."""
    sample = importance(rng.standard_normal((20_000, 2)))
    before = -0.5 * ((sample.x - [0.4, 0.0]) ** 2).sum(1)
    divergence = moved(sample, before, sample.log_density, rng, points=20_000)
    assert divergence == pytest.approx(0.08, rel=0.15)


def test_where_there_was_nothing_before_everything_moved(rng):
    sample = importance(rng.standard_normal((100, 2)))
    assert moved(sample, np.full(100, -np.inf), sample.log_density, rng) == np.inf


def test_a_region_that_was_impossible_before_counts(rng):
    sample = importance(rng.standard_normal((4000, 2)))
    before = np.where(sample.x[:, 0] > 0, sample.log_density, -np.inf)
    assert moved(sample, before, sample.log_density, rng) > 0.1


# The errors of predictions


def test_inflation_is_one_for_calibrated_errors_and_the_mean_square_in_the_end():
    assert inflation(np.empty(0)) == 1.0
    assert inflation(np.full(10, 0.3)) == 1.0
    assert inflation(np.full(100_000, 3.0)) == pytest.approx(9.0, rel=1e-3)
    assert 1.0 < inflation(np.array([3.0])) < 9.0


def test_batch_error():
    """|y - prediction| in units of 0.25 + 0.1 gap, the largest of the batch."""
    assert batch_error(np.empty(0), np.empty(0), 0.0) == 0.0
    assert batch_error(np.array([-1.0]), np.array([-1.0]), 0.0) == 0.0
    assert batch_error(np.array([0.0]), np.array([-0.5]), 0.0) == pytest.approx(2.0)
    y, predicted = np.array([-10.0, -0.1]), np.array([-11.0, -0.2])
    assert batch_error(y, predicted, 0.0) == pytest.approx(max(1.0 / 1.25, 0.1 / 0.26))


def test_a_prediction_above_the_best_value_is_measured_from_itself():
    """Otherwise the gap would be negative and the unit shrink to nothing."""
    assert batch_error(np.array([-1.0]), np.array([3.0]), 0.0) == pytest.approx(16.0)


# The verdict


def test_two_quiet_iterations_in_a_row_are_convergence():
    first = judge(GOOD, Thresholds(), armed=False)
    assert (first.stop, first.converged, first.armed) == (False, False, True)
    second = judge(GOOD, Thresholds(), armed=True)
    assert (second.stop, second.converged) == (True, True)
    assert second.reason.startswith("converged")


@pytest.mark.parametrize("name", LIMITS)
def test_each_signal_alone_can_refuse(name):
    limit = getattr(Thresholds(), LIMITS[name])
    for value in (10 * limit, np.inf, np.nan):
        verdict = judge(replace(GOOD, **{name: value}), Thresholds(), armed=False)
        assert (verdict.stop, verdict.converged, verdict.armed) == (False, False, False)
        assert "above" in verdict.reason


@pytest.mark.parametrize("name", ["spread", "batch", "moved"])
def test_each_signal_can_refuse_at_the_end(name):
    verdict = judge(replace(GOOD, **{name: np.inf}), Thresholds(), armed=True)
    assert not verdict.stop
    assert not verdict.converged


def test_few_draws_are_no_ground():
    verdict = judge(replace(GOOD, ess=10.0), Thresholds(), armed=False)
    assert not verdict.armed
    assert "effective size of the draws 10 below 300" in verdict.reason


def test_nothing_known_is_not_convergence():
    for armed in (False, True):
        verdict = judge(Signals(), Thresholds(), armed=armed)
        assert (verdict.stop, verdict.converged, verdict.armed) == (False, False, False)


def test_the_reason_names_the_worst_signal():
    assert judge(replace(GOOD, spread=0.1, batch=1e3), Thresholds(), armed=False).reason == "batch error 1e+03 above 1"


@pytest.mark.parametrize("name", [field.name for field in fields(Thresholds)])
def test_stricter_thresholds_never_stop_earlier(name, rng):
    """Over random signals of about the size of the limits."""
    strict = replace(Thresholds(), **{name: getattr(Thresholds(), name) / 3})
    for values in np.exp(rng.normal(-2.0, 2.0, (200, 6))):
        signals = Signals(*values, ess=1000.0)
        for armed in (False, True):
            ours, theirs = judge(signals, strict, armed=armed), judge(signals, Thresholds(), armed=armed)
            assert ours.stop <= theirs.stop
            assert (ours.stop or ours.armed) <= (theirs.stop or theirs.armed)


def test_the_error_from_an_unseen_hole_falls_with_the_labels():
    assert hole_error(9) == pytest.approx(0.1)


def test_a_weighting_that_leaves_no_point_is_infinitely_far(rng):
    x = rng.standard_normal((50, 2))
    log_w = np.zeros((3, 50))
    log_w[1] = -np.inf
    out = gaussian_kl(x, np.zeros(50), log_w)
    assert out[1] == np.inf
    np.testing.assert_allclose(out[[0, 2]], 0.0, atol=1e-6)
