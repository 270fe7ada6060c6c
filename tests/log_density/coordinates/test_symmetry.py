"""A symmetry maps all images of a point to one of them."""

import numpy as np
import pytest

from surrogate.log_density.coordinates.symmetry import Symmetry
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.problem.exchanges import exchanges, products

ALL = np.concatenate([np.arange(3)[None], products(exchanges([np.arange(3)], 3))[:]])
ALL = np.unique(ALL, axis=0)
BLOCKS = np.array([[0, 1, 2, 3], [2, 3, 0, 1]])


@pytest.mark.parametrize(("orders", "best"), [(ALL, [0.5, 0.2, 0.9]), (BLOCKS, [0.4, 0.2, 0.45, 0.8])])
def test_images_have_one_representative(orders, best, rng):
    t = rng.random((200, len(best)))
    found = Symmetry.about(orders, np.array(best), rng.random((100, len(best))))
    nearest = found.forward(t)
    for order in orders:
        np.testing.assert_array_equal(found.forward(t[:, order]), nearest)
    np.testing.assert_array_equal(np.sort(nearest, 1), np.sort(t, 1))


def test_it_is_the_image_nearest_to_the_reference(rng):
    t = rng.random((50, 4))
    found = Symmetry(BLOCKS, rng.random(4), np.array([1.0, 3.0, 1.0, 3.0]))
    images = np.stack([t[:, order] for order in BLOCKS])
    distance = (found.weights * (images - found.reference) ** 2).sum(-1)
    np.testing.assert_array_equal(found.forward(t), images[distance.argmin(0), np.arange(50)])


def test_single_parameters_take_the_order_of_the_best_point(rng):
    t = rng.random((100, 3))
    nearest = Symmetry.about(ALL, np.array([0.5, 0.2, 0.9]), None).forward(t)
    np.testing.assert_array_equal(nearest[:, [1, 0, 2]], np.sort(t, 1))


def test_a_reference_with_equal_parameters_still_tells_images_apart(rng):
    t = rng.random((100, 3))
    found = Symmetry.about(ALL, np.full(3, 0.5), None)
    np.testing.assert_array_equal(found.forward(t[:, [1, 2, 0]]), found.forward(t))


def test_components_are_told_apart_by_the_parameter_in_which_they_differ_most(rng):
    """Places at 0.3 and 0.7, known to 0.01, and widths that hardly differ: no draw is taken for the other component."""
    widths = rng.random((400, 2))
    draws = np.stack(
        [0.3 + 0.01 * rng.standard_normal(400), widths[:, 0], 0.7 + 0.01 * rng.standard_normal(400), widths[:, 1]], 1
    )
    swapped = np.where(rng.random((400, 1)) < 0.5, draws, draws[:, BLOCKS[1]])
    found = Symmetry.about(BLOCKS, np.array([0.3, 0.9, 0.7, 0.1]), swapped)
    np.testing.assert_array_equal(found.forward(swapped), draws)


def test_warps_come_after_it_and_refuse_derivatives(rng):
    warp = InputWarp(
        np.array([1, 1, 0, 0]), np.zeros(4), np.ones(4), symmetry=Symmetry(BLOCKS, np.arange(4.0), np.ones(4))
    )
    t = rng.random((20, 4))
    np.testing.assert_array_equal(warp.forward(t[:, BLOCKS[1]]), warp.forward(t))
    with pytest.raises(ValueError, match="cannot be used with a symmetry"):
        warp.slopes(t)
    assert warp.plain.symmetry is warp.symmetry


def test_arrays_hold_it_without_loss():
    symmetry = Symmetry(BLOCKS, np.arange(4.0), np.ones(4))
    again = Symmetry.of_array(symmetry.to_array())
    for name in ("orders", "reference", "weights"):
        np.testing.assert_array_equal(getattr(again, name), getattr(symmetry, name))
    with pytest.raises(ValueError, match="permutations"):
        Symmetry.of_array(np.zeros((3, 2)))
