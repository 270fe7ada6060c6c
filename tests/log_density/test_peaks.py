"""Peaks are the logarithm of a sum of Gaussians, in any coordinates, and a fit finds them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.parameters import trend_size
from surrogate.log_density.peaks import Peaks, fit_peaks, fit_transformed
from surrogate.samplers.mixture import Mixture


def mixture_of(d, k=2, seed=0):
    rng = np.random.default_rng(seed)
    factors = np.stack([np.tril(0.03 * rng.standard_normal((d, d)), -1) + 0.1 * np.eye(d) for _ in range(k)])
    return Mixture(np.arange(1.0, k + 1.0) / np.arange(1.0, k + 1.0).sum(), 0.2 + 0.6 * rng.random((k, d)), factors)


def values(peaks, w):
    return logsumexp(peaks.values(w), axis=1)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_peaks_of_a_mixture_are_its_log_density_up_to_a_constant(d):
    mixture, w = mixture_of(d), np.random.default_rng(1).random((50, d))
    difference = values(Peaks.of_mixture(mixture), w) - mixture.log_density(w)
    np.testing.assert_allclose(difference, difference[0], atol=1e-9)


def test_shares_are_the_change_of_the_log_sum_with_each_peak():
    peaks, w = Peaks.of_mixture(mixture_of(3, 3)), np.random.default_rng(1).random((50, 3))
    np.testing.assert_allclose(peaks.log_sum(w), values(peaks, w), atol=1e-9)
    for k, share in enumerate(peaks.shares(w).T):
        step = 1e-5 * (np.arange(3) == k)
        up, down = (Peaks(peaks.constants + sign * step, peaks.linear, peaks.quadratic) for sign in (1.0, -1.0))
        np.testing.assert_allclose((up.log_sum(w) - down.log_sum(w)) / 2e-5, share, atol=1e-6)


def test_coordinates_do_not_matter():
    peaks, rng = Peaks.of_mixture(mixture_of(3)), np.random.default_rng(1)
    w = rng.random((50, 3))
    whitening = Whitening.of(w @ rng.standard_normal((3, 3)))
    np.testing.assert_allclose(peaks.whitened(whitening).values(whitening.whiten(w)), peaks.values(w), rtol=1e-9)
    again = Peaks.from_array(peaks.to_array())
    np.testing.assert_array_equal(again.values(w), peaks.values(w))


@pytest.mark.parametrize("array", [np.zeros(7), np.zeros((2, 8)), np.full((2, 7), np.nan)])
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match=r"peaks must be finite numbers with shape \(k, 1 \+ e \+ e\^2\)"):
        Peaks.from_array(array)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_fit_finds_the_peaks_from_a_start_nearby(d, seed):
    mixture, rng = mixture_of(d, seed=seed), np.random.default_rng(seed + 10)
    w = np.concatenate([mixture.sample(6 * trend_size(d), rng), rng.random((10, d))])
    y = mixture.log_density(w)
    moved = Mixture(np.full(2, 0.5), mixture.means + 0.03 * rng.standard_normal((2, d)), 1.2 * mixture.factors)
    found = fit_peaks(Peaks.of_mixture(moved), w, y - y.max(), 1.0 / (1.0 + y.max() - y))
    there = mixture.sample(100, rng)
    np.testing.assert_allclose(values(found, there) + y.max(), mixture.log_density(there), atol=1e-4)


def test_peaks_are_concave_whatever_the_values():
    rng = np.random.default_rng(0)
    w = rng.random((40, 2))
    found = fit_peaks(Peaks.of_mixture(mixture_of(2)), w, 5.0 * (w**2).sum(1), np.ones(40))
    assert (np.linalg.eigvalsh(found.quadratic) < 0.0).all()


@pytest.mark.parametrize("number", [1, 2])
def test_a_map_is_fitted_together_with_the_peaks(number):
    """A bend of the first coordinate by the second, from none to the true one."""
    mixture, rng = mixture_of(2, number), np.random.default_rng(3)
    none = Couplings.none(np.full(2, 0.5), np.eye(2)).only([("bend", 1, 0)])
    w = mixture.sample(40 * number, rng) - np.array([0.0, 0.1])
    true = none.at(np.array([1.5]))
    y = mixture.log_density(true.forward(w))
    weight = 1.0 / (1.0 + y.max() - y)
    peaks, found, error = fit_transformed(Peaks.of_mixture(mixture), none, w, y - y.max(), weight)
    assert error < 1e-9
    np.testing.assert_allclose(found.vector, true.vector, rtol=1e-6)
    np.testing.assert_allclose(peaks.log_sum(found.forward(w)), y - y.max(), atol=1e-6)
