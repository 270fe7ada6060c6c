"""A value above a quadratic that explains all others tells exactly how high a further mode is there."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.log_density.parameters import trend_size
from surrogate.log_density.peaks import Peaks
from surrogate.log_density.remainder import remainder
from surrogate.samplers.mixture import Mixture


def mixture_of(d, k):
    rng = np.random.default_rng(d)
    means = np.array([np.full(d, 0.3), np.full(d, 0.7), np.linspace(0.8, 0.2, d)])[:k]
    factors = np.stack([np.tril(0.02 * rng.standard_normal((d, d)), -1) + 0.07 * np.eye(d) for _ in range(k)])
    return Mixture(np.array([0.5, 0.3, 0.2])[:k] / np.array([0.5, 0.3, 0.2])[:k].sum(), means, factors)


def known(d, k, spare=8):
    """Points near all components but the last, and their log density without it, and with it."""
    mixture, rng = mixture_of(d, k + 1), np.random.default_rng(7)
    less = Mixture(mixture.weights[:k], mixture.means[:k], mixture.factors[:k])
    w = less.sample(k * (trend_size(d) + spare), rng)
    return w, less.log_density(w), mixture


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_exact_gaussians_leave_next_to_nothing(d, k):
    w, y, mixture = known(d, k)
    peaks = None if k == 1 else Peaks.of_mixture(Mixture(mixture.weights[:k], mixture.means[:k], mixture.factors[:k]))
    found = remainder(w, y, peaks)
    assert found is not None
    assert not found.hints.any()
    assert (found.log_likelihood < y).all()
    assert np.median(y - found.log_likelihood) > 5.0


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("d", [2, 4])
def test_hints_are_the_points_of_a_further_mode_and_have_its_values(d, k):
    w, y, mixture = known(d, k)
    between = 0.5 * (mixture.means[k] + mixture.means[0])
    w = np.concatenate([w, between[None], 0.8 * between[None] + 0.2 * mixture.means[k]])
    less = Mixture(mixture.weights[:k], mixture.means[:k], mixture.factors[:k])
    rows = np.array([len(w) - 2, len(w) - 1])
    y = less.log_density(w)
    y[rows], before = (
        mixture.log_density(w[rows]),
        y[rows],
    )  # the points near known modes are as if it were not there, to any number of digits
    found = remainder(w, y, None if k == 1 else Peaks.of_mixture(less))
    assert found is not None
    np.testing.assert_array_equal(np.flatnonzero(found.hints), rows)
    np.testing.assert_allclose(found.log_likelihood[rows], y[rows] + np.log1p(-np.exp(before - y[rows])), atol=1e-3)


def test_a_curved_or_rough_function_leaves_nothing_that_can_be_told():
    rng = np.random.default_rng(0)
    w = rng.random((30, 2))
    banana = -0.5 * ((w[:, 0] - 0.5) / 0.2) ** 2 - 0.5 * ((w[:, 1] - 3.0 * (w[:, 0] - 0.5) ** 2 - 0.2) / 0.05) ** 2
    assert remainder(w, banana) is None
    assert remainder(w, rng.standard_normal(30)) is None


def test_too_few_values_say_nothing():
    w, y, _ = known(2, 1)
    assert remainder(w[: trend_size(2) + 3], y[: trend_size(2) + 3]) is None


def test_what_goes_unnoticed_is_less_near_the_best_point():
    w, y, _ = known(3, 1)
    found = remainder(w, y)
    assert found is not None
    unseen = found.unseen(np.array([0.0, 10.0, 100.0, np.inf]))
    assert (np.diff(unseen[:3]) < 0.0).all()
    assert unseen[3] == unseen[0]


def test_a_value_of_any_depth_does_no_harm():
    """A sentinel far below is neither a hint nor in the way of others."""
    w, y, _ = known(2, 1)
    exact = remainder(w, y)
    y[y.argmin()] = -1e300
    found = remainder(w, y)
    assert exact is not None
    assert found is not None
    assert not found.hints.any()
    others = y > -1e300
    assert (found.log_likelihood[others] < y[others]).all()
