import emcee.autocorr
import numpy as np
import pytest
from scipy.signal import lfilter

from surrogate.samplers.diagnostics import (
    autocorrelation,
    effective_sample_size,
    integrated_autocorrelation_time,
    split_rhat,
)


def autoregressive(rho, shape, seed=0):
    """Stationary AR(1) with autocorrelation time (1 + rho) / (1 - rho)."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    noise[0] /= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=0)


@pytest.mark.parametrize("shape", [(1000, 4, 3), (777, 1, 1), (512, 30, 2)])
def test_times_equal_those_of_emcee(shape):
    chain = autoregressive(0.8, shape)
    np.testing.assert_allclose(
        integrated_autocorrelation_time(chain), emcee.autocorr.integrated_time(chain, tol=0), rtol=1e-10
    )


def test_function_of_one_walker_equals_that_of_emcee():
    chain = autoregressive(0.5, (300, 1, 1))
    np.testing.assert_allclose(autocorrelation(chain)[:, 0], emcee.autocorr.function_1d(chain[:, 0, 0]), atol=1e-12)


@pytest.mark.parametrize("centre", ["walker", "ensemble"])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_times_of_an_autoregressive_chain(centre, rho):
    exact = (1 + rho) / (1 - rho)
    times = integrated_autocorrelation_time(autoregressive(rho, (2000, 100, 2)), centre=centre)
    # Sokal (1996), equation 3.19: relative sd = sqrt(2 (2 M + 1) / n) with window M = 5 tau; truncation adds exp(-5).
    error = np.sqrt(2 * (10 * exact + 1) / 200_000)
    np.testing.assert_allclose(times, exact, rtol=5 * error + 0.02)


def test_ensemble_centre_is_right_for_a_short_chain_where_walker_centre_is_not():
    chain = autoregressive(0.95, (200, 2000, 1))  # 5 autocorrelation times
    assert integrated_autocorrelation_time(chain, centre="ensemble")[0] == pytest.approx(39.0, rel=0.1)
    assert integrated_autocorrelation_time(chain, centre="walker")[0] < 0.85 * 39.0


def test_walkers_stuck_in_modes_of_their_own_are_one_draw_each():
    rng = np.random.default_rng(0)
    chain = np.repeat(np.where(rng.random(100) < 0.5, -50.0, 50.0)[None, :], 300, axis=0)
    chain = chain + rng.standard_normal(chain.shape)
    times = integrated_autocorrelation_time(chain, centre="ensemble")
    assert 100 * 300 / times[0] < 100 * 1.01


def test_a_constant_parameter_counts_as_one_draw_a_walker():
    assert integrated_autocorrelation_time(np.ones((50, 4, 1)))[0] >= 50


@pytest.mark.parametrize(
    ("weights", "exact"), [(np.ones(7), 7.0), ([1.0, 0.0, 0.0], 1.0), ([0.0, 0.0], 0.0), ([1e-200, 1e-200], 2.0)]
)
def test_effective_sample_size(weights, exact):
    assert effective_sample_size(weights) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_must_be_finite_and_non_negative(bad):
    with pytest.raises(ValueError, match="finite and non-negative, got"):
        effective_sample_size([1.0, bad])


def test_split_rhat_is_one_for_independent_draws_and_large_for_drift_or_disagreement():
    rng = np.random.default_rng(0)
    still = rng.standard_normal((500, 8, 1))
    drift = still + np.linspace(0, 3, 500)[:, None, None]
    apart = still + np.arange(8)[None, :, None]
    values = split_rhat(np.concatenate([still, drift, apart], axis=2))
    assert abs(values[0] - 1) < 0.01
    assert np.all(values[1:] > 1.2)


def test_split_rhat_by_hand():
    chain = np.array([0.0, 1.0, 4.0, 7.0])[:, None]
    # halves (0, 1) and (4, 7): within = (0.5 + 4.5) / 2, between = 2 * var(0.5, 5.5) = 25
    assert split_rhat(chain)[0] == pytest.approx(np.sqrt(0.5 + 25 / 2.5 / 2), rel=1e-12)


def test_split_rhat_needs_four_steps():
    with pytest.raises(ValueError, match="at least 4 steps, got 3"):
        split_rhat(np.zeros((3, 2, 1)))


def test_a_chain_has_two_or_three_axes():
    with pytest.raises(ValueError, match="steps, walkers, parameters"):
        integrated_autocorrelation_time(np.zeros(5))
