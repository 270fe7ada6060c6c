import numpy as np
import pytest

from surrogate.inference.explore import (
    exchanges,
    fruitless_rounds,
    holes,
    is_surprise,
    most_promising,
    overlooked,
    patience,
    representatives,
    search,
)


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


@pytest.mark.parametrize("d", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
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


@pytest.mark.parametrize("seed", [0, 1, 2])
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


@pytest.mark.parametrize(
    ("nearest", "rounds"),
    [([], 0), ([9.0], 0), ([9.0, 9.0], 1), ([9.0, 7.3, 7.3], 2), ([9.0, 9.0, 7.1], 0), ([9.0, 5.0, 9.0, 4.5], 2)],
)
def test_rounds_without_a_nearer_point(nearest, rounds):
    assert fruitless_rounds(nearest, [False] * len(nearest)) == rounds


@pytest.mark.parametrize(("surprised", "rounds"), [("...", 2), ("..!", 0), (".!.", 0), ("!..", 1)])
def test_a_surprise_keeps_the_search_going(surprised, rounds):
    assert fruitless_rounds([9.0, 9.0, 9.0], [mark == "!" for mark in surprised]) == rounds


def test_what_a_surprise_is():
    """Radii of 3 where 8 was expected; not where 3.2 was, nor inside the bulk, nor far from the nearest."""
    radius = np.array([3.0, 3.0, 3.0, 30.0])
    predicted = np.array([8.0, 3.2, 1.0, 80.0])
    found = is_surprise((radius**2 - 1) / 2, (predicted**2 - 1) / 2, np.full(4, 5.0), 2)
    assert found.tolist() == [True, False, False, False]


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


def obvious_representatives(u, draws, count):
    def cost(chosen):
        known = np.concatenate([u, draws[chosen]])
        return sum(min(((x - k) ** 2).sum() for k in known) for x in draws)

    chosen = []
    for _ in range(count):
        chosen.append(int(np.argmin([cost([*chosen, i]) for i in range(len(draws))])))
    return chosen


@pytest.mark.parametrize("count", [0, 1, 4])
def test_representatives_cover_the_draws_one_by_one(count):
    u, draws = points(4), points(25, seed=1)
    assert representatives(u, draws, count).tolist() == obvious_representatives(u, draws, count)


def obvious_holes(t, candidates, count):
    chosen = []
    for _ in range(count):
        known = np.concatenate([t, candidates[chosen]]) if chosen else t
        distances = [min(np.linalg.norm(c - k) for k in known) for c in candidates]
        chosen.append(int(np.argmax(distances)))
    return chosen


@pytest.mark.parametrize("count", [0, 1, 5])
def test_holes_are_the_farthest_points_one_by_one(count):
    t, candidates = points(8), points(60, seed=1)
    assert np.asarray(holes(t, candidates, count)).tolist() == obvious_holes(t, candidates, count)


def test_the_most_promising_point():
    """The largest (mean - target) / sd, among points that are not known yet."""
    mean, sd = np.array([-1.0, -50.0, -20.0, 3.0]), np.array([2.0, 100.0, 10.0, 0.5])
    best, score = most_promising(mean, sd, 0.0)
    assert best in (0, 1)  # a tie at -0.5, ahead of -2; the last is known to better than 1
    assert score == pytest.approx(-0.5)


def test_nothing_is_promising_where_everything_is_known():
    assert most_promising(np.zeros(3), np.full(3, 0.5), -1.0)[1] == -np.inf


# Where a surrogate is higher than its draws


def corner(t):
    """A normal peak at 0.3, and a rise into the corner at one that no draw of the peak has seen."""
    return np.maximum(-depth(t), 400.0 * (t.mean(1) - 0.97))


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_a_rise_in_a_corner_is_climbed(d):
    rng = np.random.default_rng(3)
    inside = lambda t: np.where(((t >= 0) & (t <= 1)).all(1), corner(t), -np.inf)  # noqa: E731
    found = overlooked(inside, rng.random((4000, d)), 0.0, rng)
    assert 1 <= len(found) <= 2
    assert inside(found).min() > 2.0


@pytest.mark.parametrize("d", [1, 3, 8])
def test_where_the_draws_have_seen_the_top_nothing_is_overlooked(d):
    rng = np.random.default_rng(4)
    assert overlooked(lambda t: -depth(t), rng.random((4000, d)), 0.0, rng).shape == (0, d)


def test_without_candidates_nothing_is_overlooked():
    assert overlooked(corner, np.empty((0, 2)), 0.0, np.random.default_rng(0)).shape == (0, 2)


# Symmetries


def test_two_groups_exchange_the_same_members_at_once():
    """Amplitudes 0 and 1, decay times 2 and 3, and an offset: the first image is what a sum of two terms allows."""
    out = exchanges([np.array([0, 1]), np.array([2, 3]), np.array([4])], 5)
    np.testing.assert_array_equal(out[0], [1, 0, 3, 2, 4])
    np.testing.assert_array_equal(out[1:], [[1, 0, 2, 3, 4], [0, 1, 3, 2, 4]])


def test_one_group_exchanges_blocks_before_pairs():
    out = exchanges([np.arange(4)], 4)
    np.testing.assert_array_equal(out[:2], [[2, 3, 0, 1], [1, 0, 3, 2]])
    assert len(out) == 2 + 6


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2,), (3, 3), (2, 3), (5, 1)])
def test_exchanges_are_permutations_that_undo_themselves(sizes):
    groups = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    for row in exchanges(groups, sum(sizes)):
        np.testing.assert_array_equal(row[row], np.arange(sum(sizes)))
        for group in groups:
            assert set(row[group]) == set(group)
    assert len(exchanges(groups, sum(sizes))) == 0 or max(sizes) > 1
