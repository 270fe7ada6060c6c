import numpy as np
import pytest

from surrogate.inference.checks.modes import fruitless_rounds, patience
from surrogate.inference.trilateration import radius_of, search
from surrogate.log_density.remainder import Remainder


def points(n=40, d=2, *, seed=0):
    return np.random.default_rng(seed).random((n, d))


def depth(t, centre=0.3, sd=0.05):
    return 0.5 * (((t - centre) / sd) ** 2).sum(1)


def find(y_of, *, count=2, seed=0, d=2, t=None, foreseen=False):
    """A search after 60 evaluations, by a run that knows of the mode at 0.3 only."""
    if t is None:
        t = points(60, d, seed=seed)
        t[:10] = 0.3 + 0.05 * np.random.default_rng(seed).standard_normal((10, d))
    draws = 0.3 + 0.05 * np.random.default_rng(seed + 1).standard_normal((4000, d))
    y = y_of(t)
    left_out = y.max() - y if foreseen else depth(t)
    corners = np.zeros(d), np.ones(d)
    return search(t, y, draws, None, left_out, depth, corners, np.random.default_rng(seed + 2), count=count)


def two_modes(t, second=0.75, sd=0.04):
    return np.logaddexp(-depth(t), -depth(t, second, sd))


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_normal_posterior_needs_no_probes(d):
    """Its radii are those predicted, everywhere."""
    found = find(lambda t: -depth(t), d=d)
    assert found.unexplained == 0
    assert found.nearest == np.inf
    assert found.probes.shape == (0, d)


@pytest.mark.parametrize("d", [2, pytest.param(3, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_probes_close_in_on_a_second_mode(seed, d):
    """Of which only far points were seen: the radius of the best of them falls below 2 within 6 d probes."""
    rng = np.random.default_rng(seed)
    t = rng.random((40, d))
    t = t[depth(t, 0.75, 0.04) > 12.0]
    t = np.concatenate([t, 0.3 + 0.05 * rng.standard_normal((10, d))])
    first = find(two_modes, t=t, seed=seed, d=d)
    assert first.unexplained > 0
    nearest = []
    for step in range(3 * d):
        found = find(two_modes, t=t, seed=seed + step, d=d)
        nearest.append(found.nearest)
        t = np.concatenate([t, found.probes])
        if depth(t, 0.75, 0.04).min() < 2.0:
            break
    assert depth(t, 0.75, 0.04).min() < 2.0
    assert max(fruitless_rounds(nearest[:i], [False] * i) for i in range(len(nearest))) < patience(d)


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_a_round_mode_is_found_beside_a_stretched_one(seed):
    """Whose shape says nothing about that of the other: the radius of the best point there falls below 2."""
    rng = np.random.default_rng(seed)
    sd = np.array([0.1, 0.02, 0.05])

    def known(t):
        return 0.5 * (((t - 0.3) / sd) ** 2).sum(1)

    t = rng.random((40, 3))
    t = np.concatenate([t[depth(t, 0.75, 0.04) > 12.0], 0.3 + sd * rng.standard_normal((10, 3))])
    draws = 0.3 + sd * rng.standard_normal((4000, 3))
    for _ in range(9):
        y = np.logaddexp(-known(t), -depth(t, 0.75, 0.04))
        found = search(t, y, draws, None, known(t), known, (np.zeros(3), np.ones(3)), rng)
        t = np.concatenate([t, found.probes])
        if depth(t, 0.75, 0.04).min() < 2.0:
            break
    assert depth(t, 0.75, 0.04).min() < 2.0


def test_a_surrogate_that_foresees_every_point_needs_no_probes():
    assert find(two_modes).unexplained > 0
    assert find(two_modes, foreseen=True).probes.shape == (0, 2)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_probes_are_as_many_as_asked_for_and_inside(count):
    found = find(two_modes, count=count)
    assert found.probes.shape == (count, 2)
    assert np.all((found.probes >= 0.0) & (found.probes <= 1.0))


def test_a_part_of_the_posterior_without_evaluations_is_probed():
    """Draws about 0.8, where nothing was evaluated: a claim of the surrogate that no datum supports."""
    rng = np.random.default_rng(3)
    t = 0.3 + 0.05 * rng.standard_normal((20, 2))
    draws = np.concatenate([0.3 + 0.05 * rng.standard_normal((900, 2)), 0.8 + 0.02 * rng.standard_normal((100, 2))])
    y = -depth(t)
    found = search(t, y, draws, None, depth(t), depth, (np.zeros(2), np.ones(2)), rng)
    assert np.linalg.norm(found.probes - 0.8, axis=1).min() < 0.05


def test_noise_is_no_sign_of_another_mode():
    """Values that scatter by 30 about a Gaussian are explained by it once their noise is known."""
    t = points(300)
    noisy = -depth(t) + 30.0 * np.random.default_rng(7).standard_normal(300)
    draws = 0.3 + 0.05 * np.random.default_rng(1).standard_normal((4000, 2))

    def unexplained(noise):
        corners, rng = (np.zeros(2), np.ones(2)), np.random.default_rng(2)
        return search(t, noisy, draws, None, depth(t), depth, corners, rng, noise=noise, count=0).unexplained

    assert unexplained(np.full(300, 30.0)) == 0
    assert unexplained(0.0) > 0


@pytest.mark.slow
def test_many_points_close_in_on_a_second_mode_as_few_do():
    t = np.concatenate([points(2000), 0.3 + 0.05 * np.random.default_rng(0).standard_normal((500, 2))])
    t = t[((t > 0.0) & (t < 1.0)).all(1) & (np.abs(t - 0.75).max(1) > 0.1)]
    found = find(two_modes, t=t)
    assert np.abs(found.probes[0] - 0.75).max() < 0.05


def test_hints_alone_are_unexplained_and_tell_how_far_the_mode_is():
    """A Gaussian explains all values exactly but one, at which another mode is 20 nats deep."""
    t = points(60)
    t[:10] = 0.3 + 0.05 * np.random.default_rng(0).standard_normal((10, 2))
    y = -depth(t)
    hints = np.arange(60) == 20
    left = Remainder(np.where(hints, -20.0, y - 15.0), hints, 1e-9, 6)
    draws = 0.3 + 0.05 * np.random.default_rng(1).standard_normal((4000, 2))
    found = search(
        t, y, draws, None, depth(t), depth, (np.zeros(2), np.ones(2)), np.random.default_rng(2), count=2, rest=left
    )
    assert found.unexplained == 1
    assert len(found.probes) == 2
    np.testing.assert_allclose(found.nearest, np.sqrt(2.0 * (20.0 + y.max()) + 1.0))
    nothing = Remainder(y - 15.0, np.zeros(60, dtype=bool), 1e-9, 6)
    found = search(
        t, y, draws, None, depth(t), depth, (np.zeros(2), np.ones(2)), np.random.default_rng(2), rest=nothing
    )
    assert found.unexplained == 0
    assert len(found.probes) == 0


def test_a_prediction_above_the_best_value_has_its_radius():
    np.testing.assert_array_equal(radius_of(np.array([-3.0, 0.0, 4.0])), [1.0, 1.0, 3.0])
