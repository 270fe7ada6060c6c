import emcee.autocorr
import numpy as np
import pytest
from scipy.signal import lfilter

from surrogate.samplers.diagnostics import (
    autocorrelation,
    bulk_ess,
    effective_sample_size,
    integrated_autocorrelation_time,
    rank_rhat,
    split_rhat,
    tail_ess,
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


# Chains and what arviz-stats 1.3.3 says of them: rank-normalised R-hat, split R-hat, bulk and tail ESS.
ARVIZ = {
    "slow": (autoregressive(0.9, (400, 4), 1), 1.0610738892307396, 1.0615332590046502, 91.31937699873471, 283.4164543),
    "antithetic": (
        autoregressive(-0.6, (301, 3), 2),
        1.0044319189397763,
        0.9971021475799169,
        2658.8182584953925,
        812.6498693,
    ),
    "shifted": (
        autoregressive(0.5, (200, 4), 3) + np.array([0, 0, 0, 2.0]),
        1.2709146203135853,
        1.2781314164694264,
        11.842666265140945,
        42.66650279,
    ),
    "spread": (
        autoregressive(0.5, (200, 4), 4) * np.array([1, 1, 1, 4.0]),
        1.1638720112376655,
        1.015445832664111,
        287.56545171146416,
        45.28517796,
    ),
    "cauchy": (
        np.tan(np.pi * (np.random.default_rng(5).random((500, 4)) - 0.5)),
        1.001125410992998,
        1.0000078551142548,
        2170.2187778546777,
        1770.70485753,
    ),
}


@pytest.mark.parametrize("name", ARVIZ)
def test_rank_diagnostics_equal_those_of_arviz(name):
    chain, *expected = ARVIZ[name]
    found = [function(chain)[0] for function in (rank_rhat, split_rhat, bulk_ess, tail_ess)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_rank_diagnostics_do_not_see_a_monotone_map():
    chain = autoregressive(0.7, (300, 4, 2), 7)
    for function in (bulk_ess, tail_ess):
        np.testing.assert_allclose(function(np.exp(3.0 * chain)), function(chain), rtol=1e-12)


def test_parameters_are_looked_at_one_by_one():
    chain = autoregressive(0.7, (100, 3, 2), 8)
    for function in (rank_rhat, bulk_ess, tail_ess):
        apart = [function(chain[:, :, j])[0] for j in range(2)]
        np.testing.assert_allclose(function(chain), apart, rtol=1e-12)


@pytest.mark.parametrize("function", [rank_rhat, bulk_ess, tail_ess])
def test_a_constant_parameter_has_no_rank_diagnostics(function):
    assert np.isnan(function(np.ones((50, 4)))[0])


@pytest.mark.parametrize(("function", "least"), [(rank_rhat, 4), (bulk_ess, 8), (tail_ess, 8)])
def test_short_chains_are_told(function, least):
    with pytest.raises(ValueError, match=f"at least {least} steps"):
        function(np.zeros((least - 1, 2)))
