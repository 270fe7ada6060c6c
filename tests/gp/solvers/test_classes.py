"""Classes of points: exact where an integral is known, and the limits of few and of many classes."""

import numpy as np
import pytest
from scipy.special import ndtr

from surrogate.gp.kernels import RBF, Linear, Scale
from surrogate.gp.solvers.classes import classify

KERNEL = Scale(2.0) * RBF([1.5]) + Linear([1.0])


def test_the_evidence_of_one_class_is_a_half_and_its_probability_is_exact():
    """P(+) = 1/2; given it f is skew normal with the mean sqrt(2 / pi) K / sqrt(1 + K), which the site matches."""
    u = np.array([[0.7]])
    posterior = classify(KERNEL, u, np.ones(1), [0.0])
    k = 4.0 + 0.49
    assert posterior.log_evidence == pytest.approx(np.log(0.5), abs=1e-3)
    assert posterior.mean(u)[0] == pytest.approx(np.sqrt(2 / np.pi) * k / np.sqrt(1 + k), rel=1e-3)


def test_the_evidence_of_two_classes_is_an_integral_over_a_quadrant():
    u, sign = np.array([[0.5], [-1.0]]), np.array([1.0, -1.0])
    posterior = classify(KERNEL, u, sign, [0.0])
    k = posterior.covariance_parts(u)[0] + np.eye(2)
    exact = np.log(0.25 - np.arcsin(k[0, 1] / np.sqrt(k[0, 0] * k[1, 1])) / (2 * np.pi))
    assert posterior.log_evidence == pytest.approx(exact, abs=5e-3)


def test_probabilities_of_classes_drawn_from_the_prior():
    """The mean of P(+) over draws of everything is 1/2, and paths agree with the margin within 5 standard errors."""
    rng = np.random.default_rng(0)
    u, new = rng.uniform(-3, 3, (40, 1)), rng.uniform(-3, 3, (25, 1))
    sign = np.where(u[:, 0] + rng.standard_normal(40) > 0, 1.0, -1.0)
    posterior = classify(KERNEL, u, sign, [1e-8])
    p = ndtr(posterior.margin(new))
    share = (posterior.paths(new, 4000, rng) > 0).mean(0)
    np.testing.assert_array_less(np.abs(share - p), 5 * np.sqrt(p * (1 - p) / 4000) + 1e-3)
    opposite = classify(KERNEL, u, -sign, [1e-8])
    np.testing.assert_allclose(opposite.margin(new), -posterior.margin(new), rtol=1e-6)


def test_the_first_nugget_that_works_is_taken():
    """Two copies of a point cannot be told apart without one."""
    u = np.array([[1.0], [1.0]])
    assert classify(Linear([1e-160]), u, np.array([1.0, -1.0]), [0.0]) is None
    assert classify(Linear([1.0]), u, np.array([1.0, -1.0]), [0.0, 1e-6]) is not None
