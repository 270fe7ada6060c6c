"""Targets with categories and integers: their exact answers, by other means."""

import numpy as np
import pytest
from scipy.special import logsumexp

from likelihoods import mixed
from surrogate.problem.prior import Prior


def evidences_by_draws(target, n, seed=0):
    """Log evidence of each level and its standard error, from draws of the prior."""
    prior = Prior.of(target.prior)
    levels, values, errors = prior.levels, [], []
    x = prior.sample(n, np.random.default_rng(seed))
    for level in range(len(levels)):
        points = levels.points(x[:, levels.continuous], level)
        kinds = [p.value(c) for p, c in zip(levels.parameters, levels.codes[level], strict=True)]
        log_likelihood = np.array(
            [target.log_likelihood(*kinds, *row) for row in points[:, levels.continuous]], dtype=float
        )
        total = logsumexp(log_likelihood)
        w = np.exp(log_likelihood - total)
        values.append(total - np.log(n))
        errors.append(np.sqrt((w**2).sum()))
    return np.array(values), np.array(errors)


def test_peaks_are_those_of_draws_of_the_prior():
    target = mixed.peaks(cells=200)
    values, errors = evidences_by_draws(target, 3000)
    share = np.exp(values - logsumexp(values)).reshape(3, 6)
    error = (share.ravel() * errors).reshape(3, 6)
    for name, found, sd in (("kind", share.sum(1), error), ("n", share.sum(0), error.T)):
        exact = list(target.probabilities[name].values())
        assert (np.abs(found - exact) < 5.0 * np.sqrt((sd**2).sum(1)) + 0.02).all()
    assert abs(logsumexp(values) - np.log(18) - target.log_evidence) < 5.0 * np.linalg.norm(error)


def test_none_of_the_planets_is_exact_and_one_is_that_of_draws():
    target = mixed.radial_velocities()
    star = target.log_likelihood
    exact = star.log_evidences(cells=40)
    assert exact[0] == pytest.approx(star(0, 1.0, 2.0, 4.3, 0.0, 0.0, 15.0), abs=1e-9)
    prior = Prior.of(target.prior).given({"n_planets": 1})
    assert prior.names == ("a1", "b1", "P1")
    x = prior.sample(20_000, np.random.default_rng(0))
    log_likelihood = np.array([star(1, *row, 0.0, 0.0, 15.0) for row in x])
    total = logsumexp(log_likelihood)
    error = np.sqrt((np.exp(log_likelihood - total) ** 2).sum())
    assert abs(total - np.log(len(x)) - exact[1]) < 5.0 * error


def test_parameters_of_planets_that_are_not_there_have_no_effect():
    star = mixed.radial_velocities().log_likelihood
    assert star(1, 1.0, 2.0, 4.3, 5.0, 6.0, 15.0) == star(1, 1.0, 2.0, 4.3, -5.0, 0.0, 14.0)
    assert star(2, 1.0, 2.0, 4.3, 5.0, 6.0, 15.0) != star(2, 1.0, 2.0, 4.3, -5.0, 0.0, 14.0)


def test_backgrounds_agree_where_dark_energy_is_constant():
    target = mixed.backgrounds()
    point = (68.0, 0.3, -0.9, 0.0, 0.022)
    assert target.log_likelihood("wCDM", *point) == target.log_likelihood("w0waCDM", *point)
    bent = (68.0, 0.3, -0.9, -0.5, 0.022)
    assert target.log_likelihood("wCDM", *bent) == target.log_likelihood("wCDM", *point)
    assert sum(target.probabilities["background"].values()) == pytest.approx(1.0)


def test_fifty_have_the_evidence_of_their_gaussians():
    target = mixed.fifty()
    share = target.probabilities["kind"]
    assert sum(share.values()) == pytest.approx(1.0)
    assert sum(p > 0.01 for p in share.values()) < 25
