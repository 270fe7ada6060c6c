"""Skews: logarithms of one parameter whose end is fitted."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.log_density.coordinates.skews import Skew
from surrogate.log_density.coordinates.warps import InputWarp

D, AXIS = 3, 1
STRENGTHS = [0.45, -0.3, 0.05, 1e-3, -1e-3, 2e-6, 0.0]


def skew(strength):
    return Skew(AXIS, 0.4, 0.2, (0.0, 1.0), strength)


def points(n=30):
    return np.random.default_rng(0).random((n, D))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_derivatives_are_those_of_differences(strength):
    w, slope, step = points(), np.random.default_rng(1).standard_normal((30, D)), 1e-4
    one = skew(strength)
    up, down = (skew(strength + sign * step).forward(w) for sign in (1.0, -1.0))
    difference = (slope * (up - down)).sum(1) / (2.0 * step)
    np.testing.assert_allclose(one.jacobian(w, slope)[:, 0], difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_it_is_one_at_the_unit_and_leaves_other_coordinates_alone(strength):
    w = points()
    z = skew(strength).forward(w)
    np.testing.assert_array_equal(np.delete(z, AXIS, 1), np.delete(w, AXIS, 1))
    assert (np.diff(z[np.argsort(w[:, AXIS]), AXIS]) > 0.0).all()
    near = np.full((2, D), 0.4) + np.array([[0.0], [1e-6]])
    np.testing.assert_allclose(np.diff(skew(strength).forward(near)[:, AXIS]), 1e-6 / 0.2, rtol=1e-4)


@pytest.mark.parametrize("strength", [100.0, 0.3, -0.3, -100.0])
def test_its_end_lies_beyond_the_support(strength):
    one = skew(0.0).at(np.array([strength]))
    assert one.end < 0.0 if strength > 0.0 else one.end > 1.0
    ends = np.full((2, D), 0.5)
    ends[:, AXIS] = 0.0, 1.0
    assert np.isfinite(one.forward(ends)).all()


@pytest.mark.parametrize("strength", [0.45, -0.3, 0.01, -0.01])
def test_it_is_a_logarithm_in_other_units(strength):
    one, w = skew(strength), points()
    warp = InputWarp.identity(np.zeros(D), np.ones(D)).with_end(AXIS, one.end)
    assert warp.n_shifted == 1
    np.testing.assert_allclose(one.logarithm(D).unwhiten(warp.forward(w)), one.forward(w), atol=1e-9 / abs(strength))


def test_a_straight_one_has_no_logarithm():
    assert skew(0.0).is_line
    assert not skew(0.1).is_line
    with pytest.raises(ValueError, match="a skew of strength 0 has no logarithm"):
        skew(0.0).logarithm(D)
