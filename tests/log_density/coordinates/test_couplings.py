"""Couplings turn chains of parabolas and funnels into quadratics; their derivatives and their record are exact."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp

D = 4
PAIRS = [("bend", 0, 1), ("bend", 1, 2), ("scale", 0, 3), ("scale", 2, 3), ("bend", 1, 3)]


def empty(seed=0):
    rng = np.random.default_rng(seed)
    return Couplings.none(rng.standard_normal(D), np.diag(np.exp(rng.standard_normal(D))))


def some(seed=0):
    couplings = empty(seed).only(PAIRS)
    return couplings.at(0.3 * np.random.default_rng(seed).standard_normal(len(couplings.vector)))


def points(n=9):
    return np.random.default_rng(5).standard_normal((n, D))


def test_without_couplings_the_coordinates_are_centred_and_scaled():
    none = empty()
    np.testing.assert_allclose(none.forward(points()), (points() - none.centre) / (1.0 / np.diag(none.frame)))
    assert none.size == 0
    assert len(none.vector) == 0


def test_the_formula():
    c, w = some(), points(1)
    s = (w - c.centre) @ c.frame
    z2 = s[0, 2] - c.linear[1, 2] * s[0, 1] - c.bend[1, 2] * s[0, 1] ** 2
    shifted = s[0, 3] - c.offset[3] - c.linear[1, 3] * s[0, 1] - c.bend[1, 3] * s[0, 1] ** 2
    z3 = shifted * np.exp(-c.scale[0, 3] * s[0, 0] - c.scale[2, 3] * s[0, 2])
    np.testing.assert_allclose(c.forward(w)[0], [s[0, 0], s[0, 1] - c.bend[0, 1] * s[0, 0] ** 2, z2, z3])


def test_a_centre_is_fitted_where_the_source_is_a_target():
    assert len(some().vector) == len(PAIRS) + 2 + 1  # linear terms of 1 to 2 and to 3, the offset of 3


def test_the_vector_is_that_of_the_couplings():
    c = some()
    again = c.at(c.vector)
    np.testing.assert_array_equal(again.forward(points()), c.forward(points()))
    assert sorted(c.pairs) == sorted(PAIRS)
    assert c.same(again)
    assert not c.same(c.only(PAIRS[:2]))


def test_the_jacobian_is_that_of_finite_differences():
    c, w, slope = some(), points(), np.random.default_rng(6).standard_normal((9, D))
    jacobian, h = c.jacobian(w, slope), 1e-6
    for k, unit in enumerate(np.eye(len(c.vector))):
        change = (c.at(c.vector + h * unit).forward(w) - c.at(c.vector - h * unit).forward(w)) / (2 * h)
        np.testing.assert_allclose(jacobian[:, k], (slope * change).sum(1), rtol=1e-6, atol=1e-8)


def test_the_columns_of_couplings_at_work_are_those_of_the_jacobian():
    c, w, slope = some(), points(), np.random.default_rng(6).standard_normal((9, D))
    bends, scales = c.columns(w, slope)
    expected = np.stack([(bends if kind == "bend" else scales)[:, i, j] for kind, i, j in c.pairs], 1)
    np.testing.assert_allclose(c.jacobian(w, slope)[:, : len(PAIRS)], expected)


def test_what_a_clipped_scale_multiplies_does_not_move_it():
    c = empty().only([("scale", 0, 1)]).at(np.array([3.0, 0.0]))
    far = points(3) + np.array([50.0, 0.0, 0.0, 0.0])
    assert np.isfinite(c.forward(far)).all()
    assert not c.jacobian(far, np.ones((3, D)))[:, 0].any()


def test_parameters_that_are_dropped_take_their_couplings_along():
    kept = np.array([True, True, False, True])
    assert sorted(some().of_parameters(kept).pairs) == [("bend", 0, 1), ("bend", 1, 3), ("scale", 0, 3)]
    turned = Couplings.none(np.zeros(D), np.linalg.qr(np.random.default_rng(1).standard_normal((D, D)))[0]).only(PAIRS)
    assert turned.of_parameters(kept).size == 0


def test_numbers_survive_their_record():
    c = some()
    array = c.to_array()
    assert array.shape == (Couplings.rows(D), D)
    again = Couplings.of_array(array)
    np.testing.assert_array_equal(again.forward(points()), c.forward(points()))
    assert again.same(c)


def test_a_warp_couples_after_it_has_warped():
    kinds = np.array([0, 1, 0, 3])
    alone = InputWarp(kinds, np.zeros(D), np.ones(D))
    t = np.random.default_rng(2).random((6, D))
    np.testing.assert_array_equal(alone.with_couplings(some()).forward(t), some().forward(alone.forward(t)))
    assert alone.with_couplings(empty()).couplings is None


def test_a_warp_leaves_the_sine_of_a_circle_alone():
    alone = InputWarp(np.array([0, 0, 0, CIRCLE]), np.zeros(D), np.ones(D))
    t = np.random.default_rng(2).random((6, D))
    out = alone.with_couplings(empty().only([("bend", 0, 1)]).at(np.array([0.5]))).forward(t)
    np.testing.assert_array_equal(out[:, D], alone.forward(t)[:, D])


def test_other_kinds_drop_the_couplings_of_their_parameters():
    warp = InputWarp(np.zeros(D, dtype=np.int64), np.zeros(D), np.ones(D)).with_couplings(some())
    other = warp.with_kinds(np.array([0, 1, 0, 0]))
    assert other.couplings is not None
    assert sorted(other.couplings.pairs) == [("scale", 0, 3), ("scale", 2, 3)]
    assert warp.with_kinds(np.array([1, 1, 1, 1])).couplings is None


def test_derivatives_are_refused():
    warp = InputWarp(np.zeros(D, dtype=np.int64), np.zeros(D), np.ones(D)).with_couplings(some())
    with pytest.raises(ValueError, match="couplings"):
        warp.slopes(points())


@pytest.mark.parametrize("c", [some(), some(3), empty()], ids=["chain", "another", "none"])
def test_the_inverse_of_a_chain_leads_back(c):
    np.testing.assert_allclose(c.inverse(c.forward(points())), points(), atol=1e-9)


def test_points_without_an_inverse_are_nan():
    """A coordinate that bends along another, which bends along the first: d steps find no point, or the right one."""
    cycle = empty().only([("bend", 0, 1), ("bend", 1, 0)])
    cycle = cycle.at(np.full(len(cycle.vector), 0.8))
    z = cycle.forward(points())
    back = cycle.inverse(z)
    found = np.isfinite(back).all(1)
    assert not found.all()
    np.testing.assert_allclose(cycle.forward(back[found]), z[found], atol=1e-4)
