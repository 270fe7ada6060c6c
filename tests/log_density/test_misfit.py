import numpy as np
import pytest

from surrogate.log_density.misfit import NoiseScale, longest_line, models, of_line, suspected_scale


def misfit(theta):
    """A misfit with a minimum of 3 and values up to 1e3 in the unit square."""
    return 3.0 + 1e3 * ((theta - 0.4) ** 2).sum(-1)


def values(x, power, count=50.0, offset=-7.0):
    """A log-likelihood whose last parameter is the scale of the noise."""
    return offset - count * np.log(x[:, -1]) - misfit(x[:, :-1]) * x[:, -1] ** power


def points(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.random((n, 2)), np.exp(rng.normal(size=n))])


@pytest.mark.parametrize("power", [-2, -1])
def test_four_scales_tell_the_form(power):
    x = np.column_stack([np.full((4, 2), 0.7), [0.5, 1.0, 2.0, 4.0]])
    form = of_line(x[:, 2], values(x, power), 2)
    assert (form.parameter, form.power) == (2, power)
    assert form.offset == pytest.approx(-7.0)
    assert form.count == pytest.approx(50.0)
    assert form.misfit(x, values(x, power)) == pytest.approx(np.full(4, misfit(x[0, :2])))


def test_other_functions_of_a_positive_parameter_have_no_such_form():
    s = np.array([0.5, 1.0, 2.0, 4.0])
    assert of_line(s, -3.0 * np.log(s) - (np.log(s) - 1.0) ** 2, 0) is None
    assert of_line(s, -((s - 1.0) ** 2), 0) is None
    assert of_line(s, 50.0 * np.log(s) - s**-2.0, 0) is None  # the wrong sign of the slope


def test_the_form_must_hold_elsewhere():
    x = points(20)
    form = NoiseScale(2, -2, -7.0, 50.0)
    again = x.copy()
    again[:, 2] *= 2.0
    both = np.concatenate([x, again])
    label = models(both, 2)
    assert form.holds(both, values(both, -2), label)
    assert not form.holds(both, values(both, -2) + 0.1 * (both[:, 2] > 1.0), label)
    assert not form.holds(both, values(both, -2) + 1e6, label)  # misfits below zero


def test_the_most_likely_scale():
    form, s = NoiseScale(0, -2, 0.0, 50.0), np.linspace(0.1, 3.0, 2901)
    best = s[np.argmax(-50.0 * np.log(s) - 8.0 * s**-2.0)]
    assert form.best_scale(np.array([8.0]))[0] == pytest.approx(best, abs=1e-3)


def test_points_of_one_model_differ_in_the_scale_alone():
    t = np.array([[0.1, 0.2, 0.3], [0.1, 0.2 + 1e-15, 0.9], [0.1, 0.3, 0.3], [0.1, 0.2, 0.4], [0.1, 0.2, 0.5]])
    label = models(t, 2)
    np.testing.assert_array_equal(label == label[0], [True, True, False, True, True])
    np.testing.assert_array_equal(longest_line(label), [0, 1, 3, 4])
    assert longest_line(label[:4]) is None


def test_the_scale_is_suspected_among_other_positive_parameters():
    x = points(30)
    found = suspected_scale(x, x, values(x, -2), [0, 1, 2])
    assert found[1] == 2
    assert found[0] > 3.0
    assert suspected_scale(x, x, values(x, -2), [0, 1])[0] < -3.0
    assert suspected_scale(x, x, values(x, -2), []) is None
