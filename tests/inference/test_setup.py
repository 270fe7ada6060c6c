import numpy as np
import pytest

from surrogate.inference.design import Reference
from surrogate.inference.setup import Setup, design_size, holes_to_fill, inner_box
from surrogate.problem.prior import Parameter, Prior


def box(d):
    return Prior(tuple(Parameter(f"x{i}", (-1.0, 3.0)) for i in range(d)))


@pytest.mark.parametrize(("d", "n"), [(1, 4), (2, 6), (4, 12), (8, 36), (16, 72), (30, 498)])
def test_the_initial_design_has_three_to_four_and_a_half_points_a_parameter(d, n):
    """And more than a quadratic has coefficients above twenty."""
    assert design_size(Setup(box(d))) == n


def test_a_design_about_a_known_width_determines_a_quadratic():
    setup = Setup(box(3), reference=Reference(np.zeros(3), np.eye(3)))
    assert setup.knows_width
    assert design_size(setup) == 12
    assert holes_to_fill(setup) == 0


@pytest.mark.parametrize("d", [2, 4, 8])
def test_design_and_holes_are_four_points_a_parameter(d):
    setup = Setup(box(d), n_initial=d + 2)
    assert design_size(setup) + holes_to_fill(setup) == 4 * d
    assert holes_to_fill(Setup(box(d), n_holes=3)) == 3


def test_with_gradients_designs_are_small():
    setup = Setup(box(4), gradient=True)
    assert (design_size(setup), holes_to_fill(setup)) == (6, 2)


def test_points_among_others_are_told_bit_by_bit(rng):
    setup = Setup(box(2))
    t = rng.random((6, 2))
    x = setup.scaled.from_unit(t)
    np.testing.assert_array_equal(setup.scaled.not_among(t, x[[1, 4]]), t[[0, 2, 3, 5]])
    np.testing.assert_array_equal(setup.scaled.not_among(t, np.nextafter(x, np.inf)), t)


def test_the_inner_box_leaves_out_the_faces():
    setup = Setup(box(2))
    low, high = inner_box(setup, setup.scaled)
    np.testing.assert_allclose(low, 0.005)
    np.testing.assert_allclose(high, 0.995)
