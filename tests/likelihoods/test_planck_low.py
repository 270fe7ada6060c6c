"""The binned low multipoles against scipy's log-normal density."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from likelihoods.planck_low import EE_BINS, TT_BINS, log_likelihood


def test_is_a_product_of_log_normals(rng):
    tt, ee = rng.uniform(500, 1200, 40), rng.uniform(0.01, 0.08, 40)
    expected = 0.0
    for spectrum, bins in ((tt, TT_BINS), (ee, EE_BINS)):
        for first, last, mu, sigma, offset in bins:
            power = np.mean([spectrum[multipole] for multipole in range(first, last + 1)])
            expected += stats.lognorm(sigma, loc=offset, scale=np.exp(mu)).logpdf(power)
    assert log_likelihood(tt, ee) == pytest.approx(expected, rel=1e-12)


def test_bins_meet_and_end_at_29():
    for bins in (TT_BINS, EE_BINS):
        assert bins[0][0] == 2
        assert bins[-1][1] == 29
        assert all(a[1] + 1 == b[0] for a, b in zip(bins, bins[1:], strict=False))


def test_power_below_the_offset_is_impossible():
    assert log_likelihood(np.full(30, 800.0), np.full(30, -1.0)) == -np.inf
