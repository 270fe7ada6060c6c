"""Probabilities of categories and integers from the evidences of levels."""

import numpy as np
import pytest

from surrogate.output.probabilities import Probabilities
from surrogate.problem.prior import Prior

PRIOR = Prior.of({"kind": {"categories": ["a", "b"], "weights": [3, 1]}, "n": {"integers": (0, 1)}, "x": (0, 1)})
LOG_EVIDENCE = np.array([-1.0, -2.0, 0.5, -np.inf])


def known(paths=None, error=0.0):
    paths = np.zeros((8, 4)) if paths is None else paths
    return Probabilities(PRIOR.levels, LOG_EVIDENCE, np.full(4, error), paths)


def test_probabilities_are_prior_times_evidence_normalised():
    weights = np.array([0.375, 0.375, 0.125, 0.125]) * np.exp(LOG_EVIDENCE)
    share = weights / weights.sum()
    found = known()
    np.testing.assert_allclose(found.probability, share)
    assert found.marginal("kind")["a"] == pytest.approx((share[:2].sum(), 0.0))
    assert found.marginal("n")[1] == pytest.approx((share[1], 0.0))


def test_evidence_given_a_value_averages_over_the_others():
    found = known().log_evidence_by("kind")
    assert found["a"][0] == pytest.approx(np.log(0.5 * np.exp(-1.0) + 0.5 * np.exp(-2.0)))
    assert found["b"][0] == pytest.approx(0.5 + np.log(0.5))
    ratio, error = known().log_evidence_ratio("kind", "a", "b")
    assert ratio == pytest.approx(found["a"][0] - found["b"][0])
    assert error == 0.0


def test_errors_in_common_cancel_in_a_ratio_and_in_probabilities():
    common = np.random.default_rng(0).standard_normal((64, 1)) * np.ones(4)
    found = known(common)
    assert found.log_evidence_ratio("kind", "a", "b")[1] == pytest.approx(0.0, abs=1e-12)
    assert found.largest_error[0] == pytest.approx(0.0, abs=1e-12)
    assert found.log_evidence_by("kind")["a"][1] == pytest.approx(common.std())


def test_sampling_errors_propagate_to_first_order():
    p = known().probability
    inside = p[:2].sum()
    slope = p * (np.array([1.0, 1.0, 0.0, 0.0]) - inside)
    assert known(error=0.1).marginal("kind")["a"][1] == pytest.approx(0.1 * np.linalg.norm(slope))


def test_a_value_that_was_not_sampled():
    prior = Prior.of({"kind": {"categories": ["a", "b"]}, "x": (0, 1)})
    found = Probabilities(prior.levels, np.array([-1.0, -np.inf]), np.zeros(2), np.zeros((4, 2)))
    assert found.marginal("kind")["b"] == (0.0, 0.0)
    value, error = found.log_evidence_by("kind")["b"]
    assert value == -np.inf
    assert np.isnan(error)
    assert np.isnan(found.log_evidence_ratio("kind", "a", "b")[1])


def test_misuse():
    with pytest.raises(ValueError, match="categorical or integer \\(kind, n\\), got 'x'"):
        known().marginal("x")
    with pytest.raises(ValueError, match="values 0, 1, got 7"):
        known().log_evidence_ratio("n", 0, 7)
