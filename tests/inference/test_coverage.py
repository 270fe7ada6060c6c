import numpy as np
import pytest

from surrogate.inference.coverage import farthest, representatives


def points(n=40, d=2, *, seed=0):
    return np.random.default_rng(seed).random((n, d))


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


def obvious_farthest(t, candidates, count):
    chosen = []
    for _ in range(count):
        known = np.concatenate([t, candidates[chosen]]) if chosen else t
        distances = [min(np.linalg.norm(c - k) for k in known) for c in candidates]
        chosen.append(int(np.argmax(distances)))
    return chosen


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_farthest_points_are_found_one_by_one(count):
    t, candidates = points(8), points(60, seed=1)
    assert np.asarray(farthest(t, candidates, count)).tolist() == obvious_farthest(t, candidates, count)
