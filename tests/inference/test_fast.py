"""Points at the same slow parameters: their distribution, their order, and what they save."""

from __future__ import annotations

import numpy as np
import pytest

import surrogate
from surrogate.inference.fast import FastPoints, count_slow
from surrogate.problem.prior import Prior

PRIOR = Prior.of([[-5, 5]] * 3)


def test_slow_parameters_repeat_and_the_chosen_points_stay(rng):
    x = rng.standard_normal((4, 3))
    got = FastPoints((1,), 3).extended(x, rng.standard_normal((100, 3)), PRIOR, rng)
    np.testing.assert_array_equal(got[::4], x)
    np.testing.assert_array_equal(got[:, [0, 2]], np.repeat(x, 4, axis=0)[:, [0, 2]])
    assert len(np.unique(got[:, 1])) == 16
    assert count_slow(got, (1,)) == 4


def test_fast_ones_follow_the_conditional(rng):
    """Mean and sd of 4000 draws given the slow one, within 5 standard errors of those of the normal cloud's."""
    cloud = rng.multivariate_normal([0, 1], [[1, 0.8], [0.8, 1]], 100_000)
    got = FastPoints((1,), 4000).extended(np.array([[1.5, 0.0]]), cloud, Prior.of([[-9, 9]] * 2), rng)[1:, 1]
    assert abs(got.mean() - (1 + 0.8 * 1.5)) < 5 * 0.6 / np.sqrt(4000) + 0.02
    assert got.std() == pytest.approx(0.6, rel=5 / np.sqrt(8000) + 0.01)


def test_none_leaves_the_prior(rng):
    x = np.array([[0.0, 4.9, 0.0]])
    got = FastPoints((1,), 50).extended(x, 3 * rng.standard_normal((100, 3)), PRIOR, rng)
    assert np.isfinite(PRIOR.log_density(got)).all()


@pytest.mark.slow
def test_slow_calls_are_saved():
    """A normal posterior: few calls suffice, and the evidence is known."""
    root = np.array([[1, 0, 0], [-1, 1, 0], [0, -1, 1], [-1, 0, 1]]) * np.sqrt([1, 1 / 0.3, 1, 1])[:, None]
    log_evidence = 1.5 * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(root.T @ root)[1] - 3 * np.log(10.0)

    def log_likelihood(a, b, c):
        return -0.5 * float(np.sum((root @ [a, b, c]) ** 2))

    box = {name: (-5, 5) for name in "abc"}
    plain = surrogate.infer(log_likelihood, box, seed=1, progress=False, n_samples=300)
    fast = surrogate.infer(log_likelihood, box, seed=1, progress=False, n_samples=300, fast=(["c"], 2))
    assert fast.converged
    assert count_slow(fast.data.x, (2,)) < plain.n_evaluations
    for result in (plain, fast):
        assert abs(result.log_evidence - log_evidence) < 5 * result.log_evidence_error


@pytest.mark.parametrize(("fast", "words"), [((["d"], 2), "must be some of a, b"), ((["a", "b"], 2), "not all")])
def test_wrong_names_are_refused(fast, words):
    with pytest.raises(ValueError, match=words):
        surrogate.infer(lambda a, b: 0.0, {"a": (0, 1), "b": (0, 1)}, fast=fast)
