"""Further modes in the coordinates in which the known ones are Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.inference.hidden_modes import draw_hypotheses
from surrogate.inference.hypothesis_space import STRAIGHT, HypothesisSpace
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp
from surrogate.samplers.mixture import Mixture

D = 2
LOW, HIGH = np.zeros(D), np.ones(D)
PLAIN = InputWarp.identity(LOW, HIGH)
BEND = Couplings.none(np.full(D, 0.5), np.eye(D)).only([("bend", 0, 1)])
SPACES = {
    "bend": HypothesisSpace(PLAIN.with_couplings(BEND.at(np.array([2.0])))),
    "logarithm": HypothesisSpace(PLAIN.with_end(0, -0.1)),
}


def points(n=20):
    return 0.05 + 0.9 * np.random.default_rng(0).random((n, D))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_there_and_back(space):
    assert not space.is_straight
    np.testing.assert_allclose(space.inverse(space.forward(points())), points(), atol=1e-12)


def test_volumes_are_those_of_the_maps():
    np.testing.assert_allclose(SPACES["bend"].log_volume(points()), 0.0, atol=1e-6)
    distance = points()[:, 0] + 0.1  # dt/dz of z = log(t + 0.1)
    np.testing.assert_allclose(SPACES["logarithm"].log_volume(points()), np.log(distance), atol=1e-4)
    np.testing.assert_array_equal(STRAIGHT.log_volume(points()), 0.0)


def test_without_a_map_that_has_an_inverse_it_is_straight():
    circle = InputWarp.identity(LOW, HIGH, np.array([True, False]))
    fold = PLAIN.with_kinds(np.array([CIRCLE + 1, 0]))
    for warp in (None, PLAIN, circle, fold):
        assert HypothesisSpace.of(warp) is STRAIGHT
    assert HypothesisSpace.of(SPACES["bend"].warp).warp is SPACES["bend"].warp


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_hypotheses_have_the_mass_that_they_state(space):
    """The integral over the unit square of those well inside, relative to the known mode, is s / (1 - s)."""
    known = Mixture(np.ones(1), space.forward(np.full((1, D), 0.5)), 0.03 * np.eye(D)[None])
    drawn = draw_hypotheses(
        known, 0.0, lambda t: np.full(len(t), 100.0), (LOW, HIGH), np.random.default_rng(1), space=space, count=400
    )
    sides = (np.arange(300) + 0.5) / 300
    grid = np.stack(np.meshgrid(sides, sides, indexing="ij"), -1).reshape(-1, D)
    mass = np.exp(drawn.log_likelihood(grid)).mean(1)
    centres = space.inverse(drawn.centres[drawn.open])
    inside = ((centres > 0.3) & (centres < 0.7)).all(1) & (drawn.widths[drawn.open] < 0.05).all(1)
    assert inside.sum() > 20
    assert (mass[inside] > 0.9 * 0.05 / 0.95).all()
    assert (mass[inside] < 1.15 * 0.95 / 0.05).all()


def test_half_of_the_hypotheses_far_away_are_uniform_in_the_coordinates():
    """A quarter of all: next to the end of a logarithm there is a tenth of the square, but much more of the plane."""
    space = HypothesisSpace(PLAIN.with_end(0, -1e-3))
    known = Mixture(np.ones(1), space.forward(np.full((1, D), 0.9)), 0.01 * np.eye(D)[None])
    shares = {
        each: (
            each.inverse(
                draw_hypotheses(
                    known if each is space else Mixture(known.weights, np.full((1, D), 0.9), known.factors),
                    0.0,
                    lambda t: np.full(len(t), 100.0),
                    (LOW, HIGH),
                    np.random.default_rng(2),
                    space=each,
                ).centres
            )[:, 0]
            < 0.1
        ).mean()
        for each in (STRAIGHT, space)
    }
    assert shares[STRAIGHT] < 0.07
    assert shares[space] > 0.15
