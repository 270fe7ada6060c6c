"""Ascents from many starts: known maxima, corners of a box, and what is never lost."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.inference.ascent import ascend

D = 5
RNG = np.random.default_rng(0)
FACTOR = RNG.standard_normal((D + 2, D))
PRECISION = FACTOR.T @ FACTOR
CENTRE = RNG.uniform(-0.5, 0.5, D)
BOX = np.full(D, -2.0), np.full(D, 2.0)
SCALE = np.full(D, 0.1)


def quadratic(x: np.ndarray) -> np.ndarray:
    return -0.5 * np.einsum("mi,ij,mj->m", x - CENTRE, PRECISION, x - CENTRE)


def test_all_starts_reach_the_maximum_of_a_quadratic() -> None:
    ends, value = ascend(quadratic, RNG.uniform(-2.0, 2.0, (6, D)), *BOX, SCALE)
    assert np.allclose(ends, CENTRE, atol=0.02)
    assert (value > -1e-3).all()


def test_starts_find_their_own_maxima() -> None:
    def two(x: np.ndarray) -> np.ndarray:
        return np.logaddexp(-20.0 * ((x - 1.0) ** 2).sum(1), 3.0 - 20.0 * ((x + 1.0) ** 2).sum(1))

    ends, value = ascend(two, np.array([np.full(D, 0.7), np.full(D, -0.6)]), *BOX, SCALE)
    assert np.allclose(ends, np.array([[1.0] * D, [-1.0] * D]), atol=0.01)
    assert value == pytest.approx([0.0, 3.0], abs=1e-3)


def test_maximum_at_a_face_of_the_box() -> None:
    ends, _ = ascend(lambda x: x[:, 0] - ((x[:, 1:] - 0.1) ** 2).sum(1), np.zeros((1, D)), *BOX, SCALE)
    assert ends[0, 0] == pytest.approx(2.0)
    assert np.allclose(ends[0, 1:], 0.1, atol=0.01)


def test_no_end_is_lower_than_its_start_where_parts_are_forbidden() -> None:
    def cut(x: np.ndarray) -> np.ndarray:
        return np.where(x[:, 0] < 0.2, quadratic(x), -np.inf)

    starts = RNG.uniform(-2.0, 0.1, (8, D))
    ends, value = ascend(cut, starts, *BOX, SCALE)
    assert (value >= cut(starts)).all()
    assert np.array_equal(value, cut(ends))
