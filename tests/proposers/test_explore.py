import numpy as np
import pytest

from surrogate.proposers.explore import holes, most_promising, search


def points(n=40, d=2, *, seed=0):
    return np.random.default_rng(seed).random((n, d))


def depth(t, centre=0.3, sd=0.05):
    return 0.5 * (((t - centre) / sd) ** 2).sum(1)


def find(y_of, *, count=4, seed=0, d=2):
    """A search after 60 evaluations, by a run that knows of the mode at 0.3 only."""
    t, candidates = points(60, d, seed=seed), points(1500, d, seed=seed + 100)
    t[:10] = 0.3 + 0.05 * np.random.default_rng(seed).standard_normal((10, d))
    draws = 0.3 + 0.05 * np.random.default_rng(seed + 1).standard_normal((1000, d))
    trend = depth(t), depth(candidates)
    rng = np.random.default_rng(seed + 2)
    return search(t, y_of(t), draws, trend, candidates, depth(candidates), rng, count=count)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_normal_posterior_needs_no_probes(d):
    """Its radii are those predicted, everywhere."""
    found = find(lambda t: -depth(t), d=d)
    assert not found.open
    assert found.probes.shape == (0, d)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probes_go_to_what_a_second_mode_attracts(seed):
    """All points of its domain lie closer to it than predicted, none near it: the probes are on its side."""

    def two_modes(t):
        return np.logaddexp(-depth(t), -depth(t, 0.75))

    found = find(two_modes, seed=seed)
    assert found.open
    assert len(found.probes) >= 1
    assert np.linalg.norm(found.probes - 0.75, axis=1).min() < 0.25


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_probes_than_asked_for_and_apart(count):
    found = find(lambda t: np.logaddexp(-depth(t), -depth(t, 0.75)), count=count)
    assert len(found.probes) <= count
    for i, probe in enumerate(found.probes):
        assert np.all(np.abs(found.probes[:i] - probe).max(1) > 0.1)


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
