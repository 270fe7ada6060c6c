"""Coordinates of levels, and the kernels between levels that they stand for."""

import numpy as np
import pytest
import torch

from surrogate.gp import RBF, Overlap
from surrogate.gp.composition import Points
from surrogate.log_density.mixed.embedding import Embedding, coordinates_of, simplex
from surrogate.problem.prior import Prior

LEVELS = Prior.of({"kind": {"categories": ["a", "b", "c"]}, "x": (0, 1), "n": {"integers": (1, 5)}}).levels


@pytest.mark.parametrize("count", [2, 3, 7])
def test_corners_of_a_simplex_are_all_one_apart(count):
    corners = simplex(count)
    distance = np.linalg.norm(corners[:, None] - corners, axis=-1)
    np.testing.assert_allclose(distance, 1.0 - np.eye(count), atol=1e-12)
    np.testing.assert_allclose(corners.sum(0), 0.0, atol=1e-12)


def test_rbf_on_a_simplex_is_the_overlap_kernel():
    """exp(-1 / (2 l^2)) between any two categories: Overlap with the lengthscale 2 l^2."""
    codes = torch.arange(4, dtype=torch.float64)[:, None]
    corners = torch.as_tensor(simplex(4))
    mine = RBF(np.full(3, 0.8)).cross(Points(corners), corners)
    torch.testing.assert_close(mine, Overlap(4, 2.0 * 0.8**2).cross(Points(codes), codes))


def test_a_group_has_coordinates_for_what_varies_in_it():
    members = np.flatnonzero(LEVELS.codes[:, 0] == 1.0)
    table = coordinates_of(LEVELS, members)
    np.testing.assert_allclose(table[members, 0], [0.0, 0.25, 0.5, 0.75, 1.0])
    assert np.isnan(np.delete(table, members, 0)).all()
    assert coordinates_of(LEVELS, members[:1]).shape == (15, 0)
    assert coordinates_of(LEVELS, np.arange(15)).shape == (15, 3)


def test_points_of_an_embedding():
    embedding = Embedding.of(LEVELS, np.arange(15), LEVELS.continuous)
    t = LEVELS.points(np.array([[0.2], [0.7]]), np.array([3, 14]))
    z = embedding.forward(t, LEVELS.index(t))
    np.testing.assert_array_equal(z[:, 0], [0.2, 0.7])
    np.testing.assert_array_equal(z[:, 1:], embedding.table[[3, 14]])
    spread = embedding.spread(t)
    assert spread.shape == (30, 4)
    covariance = np.cov(spread.T)
    np.testing.assert_allclose(covariance[0, 1:], 0.0, atol=1e-12)
