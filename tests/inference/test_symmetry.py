"""Label switching: exchangeable parameters are named, and can be put in order."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import surrogate
from surrogate.inference.symmetry import is_contradicted, separates, words_of_symmetries
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation

BOX = {"a": (0.0, 1.0), "b": (0.0, 1.0)}
ORDERED = BOX | {"b": {"prior": (0.0, 1.0), "above": "a"}}


def two_lines(x):
    """A line near 0.3 and one near 0.65, whatever their names."""
    first, second = (((x[i] - 0.3) / 0.05) ** 2 + ((x[1 - i] - 0.65) / 0.08) ** 2 for i in (0, 1))
    return float(np.logaddexp(-0.5 * first, -0.5 * second))


EVIDENCE = 2.0 * 0.05 * 0.08 * 2.0 * np.pi


def run(log_likelihood, prior):
    return surrogate.infer(log_likelihood, prior, seed=1, n_samples=1000, max_evaluations=200, progress=False)


@pytest.mark.slow
def test_exchangeable_parameters_are_named():
    result = run(two_lines, BOX)
    assert result.converged, result.status
    assert "the posterior is unchanged if a and b are exchanged" in result.status
    assert abs(np.log(EVIDENCE) - result.log_evidence) < max(4.0 * result.log_evidence_error, 0.05)


def sorted_lines(x):
    """The lower of two places near 0.35, the higher near 0.7: a kink where both are equal."""
    low, high = np.sort(x)
    return -0.5 * float(((low - 0.35) / 0.06) ** 2 + ((high - 0.7) / 0.08) ** 2)


@pytest.fixture(scope="module")
def kinked():
    return run(sorted_lines, BOX)


@pytest.mark.slow
def test_a_kink_where_two_parameters_are_equal_costs_nothing(kinked):
    """In one order of the parameters it is a Gaussian. A surrogate of both orders took 36 to 39 evaluations."""
    assert kinked.converged, kinked.status
    assert kinked.n_evaluations <= 24
    evidence = np.log(2.0 * 0.06 * 0.08 * 2.0 * np.pi)  # but for 5e-4 beyond the kink
    assert abs(kinked.log_evidence - evidence) < max(4.0 * kinked.log_evidence_error, 0.05)


def test_draws_are_in_all_orders_and_the_emulator_is_symmetric(kinked):
    assert "the posterior is unchanged if a and b are exchanged" in kinked.status
    first = (kinked.samples[:, 0] < kinked.samples[:, 1]).mean()
    assert abs(first - 0.5) < 4.0 * 0.5 / np.sqrt(len(kinked.samples))
    x = np.random.default_rng(0).random((50, 2))
    np.testing.assert_array_equal(kinked.emulator.log_likelihood(x), kinked.emulator.log_likelihood(x[:, ::-1]))
    predictor = kinked.emulator.predictor(kinked.names, np.array([[0.0, 1.0]] * 2))
    np.testing.assert_allclose(predictor.log_likelihood(x[:, ::-1]), kinked.emulator.log_likelihood(x), rtol=1e-9)


@pytest.mark.slow
def test_parameters_in_order_have_one_mode_and_the_same_evidence():
    result = run(two_lines, ORDERED)
    assert result.converged, result.status
    assert "exchanged" not in result.status
    x = result.data.x
    assert (x[:, 0] <= x[:, 1]).all()
    assert (result.samples[:, 0] <= result.samples[:, 1]).all()
    assert abs(np.log(EVIDENCE) - result.log_evidence) < max(4.0 * result.log_evidence_error, 0.05)
    np.testing.assert_allclose(result.mean, [0.3, 0.65], atol=0.02)


def test_other_parameters_are_not_named():
    mean, sd = np.array([0.4, 0.5]), np.array([0.05, 0.1])
    result = run(lambda x: -0.5 * float((((x - mean) / sd) ** 2).sum()), BOX)
    assert "exchanged" not in result.status


@pytest.mark.parametrize(
    ("permutations", "words"),
    [
        (np.empty((0, 4), dtype=int), ""),
        (np.array([[1, 0, 3, 2]]), "the posterior is unchanged if a and b, u and v are exchanged (above= "),
        (np.array([[1, 0, 2, 3], [0, 1, 3, 2]]), "unchanged if a and b, or u and v are exchanged"),
        (np.array([[1, 0, 2, 3]] * 5), "or a and b are exchanged, or by 2 other exchanges"),
    ],
)
def test_the_words(permutations, words):
    assert words in words_of_symmetries(("a", "b", "u", "v"), permutations)


def test_separate_modes_are_told_from_one_that_is_symmetric(rng):
    one = 0.5 + 0.1 * rng.standard_normal((500, 3))
    two = one + np.where(rng.random((500, 1)) < 0.5, 1.0, -1.0) * [0.25, -0.25, 0.0]
    exchange = np.array([1, 0, 2])
    assert not separates(one, exchange)
    assert separates(two, exchange)


@pytest.mark.parametrize(
    ("image", "noise", "contradicted"), [(-1.0, 0.0, False), (-1.5, 0.0, True), (-1.5, 0.5, False)]
)
def test_a_point_and_its_image_may_contradict_a_symmetry(image, noise, contradicted):
    x = np.array([[0.2, 0.7, 0.1], [0.7, 0.2, 0.1], [0.5, 0.6, 0.3]])
    data = Dataset.empty(3).append(x, [Evaluation(y, "ok") for y in (-1.0, image, -9.0)], 0)
    view = SimpleNamespace(state=SimpleNamespace(data=data), noise=np.full(3, noise))
    assert is_contradicted(view, np.array([1, 0, 2])) == contradicted
