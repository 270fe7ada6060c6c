import numpy as np
import pytest

from surrogate.log_density.coordinates.warps import FOLDS, INPUT_WARPS, InputWarp, OutputWarp

LOW, HIGH = np.array([-1.0, 2.0, 0.0, 0.0]), np.array([3.0, 5.0, np.inf, 1e-3])
OUTPUTS = [OutputWarp(scale) for scale in (0.0, 0.5, 4.0, 30.0, -2.0, -16.0)]


@pytest.fixture(params=OUTPUTS, ids=lambda warp: f"o = {warp.scale:g}")
def output(request):
    return request.param


def depths(scale, n=50):
    """Log-densities from 0 down, as deep as an expansion stays finite."""
    deepest = 20 * abs(scale) if scale < 0 else 1e3
    return -np.concatenate([[0.0], np.geomspace(1e-6, deepest, n)])


def test_output_warp_and_its_inverse(output):
    y = depths(output.scale)
    np.testing.assert_allclose(output.inverse(output.forward(y)), y, rtol=1e-9, atol=1e-12)


def test_output_warp_keeps_the_order_and_the_mode(output):
    z = output.forward(depths(output.scale))
    assert z[0] == 0.0
    assert np.all(np.diff(z) < 0)


def test_output_warp_is_the_identity_to_first_order_at_the_mode(output):
    """So that widths near the mode keep their meaning."""
    y = np.array([-1e-6])
    np.testing.assert_allclose(output.forward(y), y, rtol=1e-5)
    assert output.slope(np.zeros(1))[0] == pytest.approx(1.0)


def test_slope_is_the_derivative_of_the_inverse(output):
    z = output.forward(depths(output.scale))[1:]
    step = 1e-6 * np.abs(z)
    difference = (output.inverse(z + step) - output.inverse(z - step)) / (2 * step)
    np.testing.assert_allclose(output.slope(z), difference, rtol=1e-5)


def test_log_jacobian_is_minus_the_log_slope(output):
    """Of dz/dy at y against dy/dz at z(y)."""
    y = depths(output.scale)
    assert output.log_jacobian(y) == pytest.approx(-np.log(output.slope(output.forward(y))).sum(), rel=1e-9, abs=1e-9)


def test_compressing_and_expanding():
    y = np.array([-10.0])
    assert OutputWarp(4.0).forward(y) > y
    assert OutputWarp(-4.0).forward(y) < y


def test_the_inverse_is_finite_for_any_process(output):
    """Paths of a process go anywhere: above the best value and far below the worst."""
    z = np.concatenate([-np.geomspace(1e-3, 1e5, 30), np.geomspace(1e-3, 1e5, 30)])
    assert np.isfinite(output.inverse(z)).all()
    assert np.isfinite(output.slope(z)).all()
    assert np.all(np.diff(output.inverse(np.sort(z))) >= 0)


def test_an_expanded_density_is_right_above_the_best_point():
    """By more than its scale; then the inverse goes on as a line with the slope that it has there."""
    warp, y = OutputWarp(-4.0), np.linspace(-30.0, 5.5, 50)
    np.testing.assert_allclose(warp.inverse(warp.forward(y)), y, atol=1e-9)
    z = np.array([3.0, 3.5, 4.0, 9.0])
    np.testing.assert_allclose(np.diff(warp.inverse(z)), warp.slope(z)[1:] * np.diff(z))


@pytest.mark.parametrize(("j", "allowed"), [(0, [0, 1, 2, 3]), (2, [0, 1])])
def test_kinds_that_a_support_admits(j, allowed):
    assert InputWarp.identity(LOW, HIGH).possible_kinds(j) == allowed


def test_no_warp_on_an_unbounded_axis():
    assert InputWarp.identity(np.array([-np.inf]), np.array([np.inf])).possible_kinds(0) == [0]


CASES = [(j, kind) for j in range(4) for kind in InputWarp.identity(LOW, HIGH).possible_kinds(j)]


@pytest.mark.parametrize(("j", "kind"), CASES, ids=[f"{j} {INPUT_WARPS[kind]}" for j, kind in CASES])
def test_input_warp_is_increasing_and_finite_on_the_closed_support(j, kind):
    kinds = np.zeros(4, dtype=np.int64)
    kinds[j] = kind
    top = HIGH[j] if np.isfinite(HIGH[j]) else LOW[j] + 1e3
    column = np.linspace(LOW[j], top, 101)
    t = np.full((101, 4), 2.0)
    t[:, j] = column
    out = InputWarp(kinds, LOW, HIGH).forward(t)
    assert np.isfinite(out).all()
    assert np.all(np.diff(out[:, j]) > 0)
    others = [k for k in range(4) if k != j]
    np.testing.assert_array_equal(out[:, others], t[:, others])


def test_input_warps_are_what_their_names_say():
    t = np.array([[0.5, 3.0, 7.0, 2.5e-4]])
    out = InputWarp(np.array([3, 2, 1, 3]), LOW, HIGH).forward(t)
    np.testing.assert_allclose(out, [[np.log(1.5 / 2.5), -np.log(2.0), np.log(7.0), np.log(1 / 3)]], rtol=1e-12)


def test_the_identity_copies_nothing():
    t = np.random.default_rng(0).random((5, 4))
    assert InputWarp.identity(LOW, HIGH).forward(t) is t


def test_a_warp_leaves_its_argument_alone():
    t = np.full((3, 4), 2.5)
    InputWarp(np.array([1, 0, 1, 0]), LOW, HIGH).forward(t)
    np.testing.assert_array_equal(t, 2.5)


@pytest.mark.parametrize("kind", FOLDS)
@pytest.mark.parametrize(("low", "high", "middle"), [(-1.0, 3.0, 1.0), (-np.inf, np.inf, 0.5)])
def test_folds_are_even_about_the_middle_of_the_support(kind, low, high, middle):
    warp = InputWarp(np.array([kind]), np.array([low]), np.array([high]))
    distance = np.linspace(0.0, 2.0, 21)[:, None]
    above, below = warp.forward(middle + distance), warp.forward(middle - distance)
    np.testing.assert_allclose(above, below, atol=1e-12)
    assert np.isfinite(above).all()
    assert np.all(np.diff(above[:, 0]) > 0)


@pytest.mark.parametrize("kind", FOLDS)
def test_slopes_of_folds_are_their_derivatives(kind):
    warp = InputWarp(np.array([kind]), np.array([-1.0]), np.array([3.0]))
    t, step = np.array([[-0.9], [0.3], [1.2], [2.8]]), 1e-6
    difference = (warp.forward(t + step) - warp.forward(t - step)) / (2 * step)
    np.testing.assert_allclose(warp.slopes(t), difference, rtol=1e-6)


@pytest.mark.parametrize(("low", "high", "kinds"), [(0.0, 1.0, FOLDS), (-np.inf, np.inf, FOLDS), (0.0, np.inf, ())])
def test_a_half_line_has_no_middle(low, high, kinds):
    assert InputWarp.identity(np.array([low]), np.array([high])).possible_folds(0) == kinds


def test_a_circle_is_not_folded():
    warp = InputWarp.identity(np.zeros(1), np.ones(1), np.ones(1, dtype=bool))
    assert warp.possible_folds(0) == ()


@pytest.mark.parametrize("kinds", [[0, 0, 0, 0], [1, 2, 1, 3], [3, 3, 0, 2]])
def test_the_inverse_of_a_warp_leads_back(kinds):
    warp = InputWarp(np.array(kinds), LOW, HIGH)
    t = LOW + np.random.default_rng(0).random((20, 4)) * np.minimum(HIGH - LOW, 5.0)
    assert warp.is_invertible
    np.testing.assert_allclose(warp.inverse(warp.forward(t)), t, rtol=1e-9, atol=1e-12)


def test_folds_have_no_inverse():
    warp = InputWarp(np.array([FOLDS[0], 0, 0, 0]), LOW, HIGH)
    with pytest.raises(ValueError, match="a warp with folds, circles or a symmetry has no inverse"):
        warp.inverse(np.zeros((1, 4)))


def test_the_end_of_a_logarithm_may_lie_beyond_the_support():
    plain = InputWarp.identity(LOW, HIGH)
    t = np.array([[0.0, 3.0, 1.0, 5e-4]])
    below, above = plain.with_end(0, -1.5), plain.with_end(1, 7.0)
    np.testing.assert_allclose(below.forward(t)[0, 0], np.log(1.5))
    np.testing.assert_allclose(above.forward(t)[0, 1], -np.log(4.0))
    np.testing.assert_allclose(below.slopes(t)[0, 0], 1.0 / 1.5)
    np.testing.assert_allclose(below.inverse(below.forward(t)), t)
    assert (below.n_shifted, plain.n_shifted) == (1, 0)


def test_a_shifted_end_is_lost_with_its_logarithm_alone():
    shifted = InputWarp.identity(LOW, HIGH).with_end(0, -1.5)
    other = shifted.kinds.copy()
    other[1] = INPUT_WARPS.index("log")
    assert shifted.with_kinds(other).ends[0, 0] == -1.5
    assert shifted.plain.n_shifted == 0
    assert shifted.plain.with_kinds(shifted.kinds).ends[0, 0] == LOW[0]
    assert not shifted.same(shifted.plain.with_kinds(shifted.kinds))
    assert shifted.same(InputWarp.identity(LOW, HIGH).with_end(0, -1.5))
