"""Amplitudes of templates that are integrated out: exact densities and moments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import surrogate
from surrogate.problem.dataset import Dataset
from surrogate.problem.nuisances import Nuisances
from surrogate.problem.target import Posterior

M = 7
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((3, M))
FACTOR = RNG.standard_normal((M, M)) + 3.0 * np.eye(M)
COVARIANCE = FACTOR @ FACTOR.T
Y = RNG.standard_normal(M)
PRIORS = {"p": (0.3, 0.7), "q": (-1.0, 2.0)}
DATA = surrogate.GaussianData(Y, COVARIANCE, templates={"p": ROWS[0], "free": ROWS[1], "q": ROWS[2]})


def simulator(a, b):
    return np.linspace(a, b, M)


def nuisances() -> Nuisances:
    normals = {name: stats.norm(*pair) for name, pair in PRIORS.items()}
    prior = {"q": normals["q"], "a": (-1.0, 1.0), "free": (-2.0, 2.0), "p": normals["p"], "b": (-1.0, 1.0)}
    found = Nuisances.of(Posterior(surrogate.Observables(simulator, DATA, ["a", "b"]), prior))
    assert found is not None
    return found


def test_integrated_data_have_the_density_of_the_marginal() -> None:
    whole = DATA.integrated(PRIORS)
    assert whole.templates == ("free",)
    outputs = RNG.standard_normal((4, M))
    mean = Y - 0.3 * ROWS[0] + 1.0 * ROWS[2]
    covariance = COVARIANCE + 0.49 * np.outer(ROWS[0], ROWS[0]) + 4.0 * np.outer(ROWS[2], ROWS[2])
    expected = stats.multivariate_normal(mean, covariance).logpdf(outputs + 0.5 * ROWS[1])
    constant = stats.multivariate_normal(Y, COVARIANCE).logpdf(Y)
    assert np.allclose(whole(outputs, {"free": np.full(4, 0.5)}), expected - constant)
    assert np.allclose(whole.sd, np.sqrt(np.diag(covariance)))


def test_one_after_the_other_is_both_at_once() -> None:
    outputs, at = RNG.standard_normal((3, M)), {"free": np.zeros(3)}
    twice = DATA.integrated({"q": PRIORS["q"]}).integrated({"p": PRIORS["p"]})
    assert np.allclose(twice(outputs, at), DATA.integrated(PRIORS)(outputs, at))
    rows = RNG.standard_normal((2, M))
    assert np.allclose(twice.correlated(twice.whitened(rows)), rows)


def test_unknown_template_is_refused() -> None:
    with pytest.raises(ValueError, match="not among them: other"):
        DATA.integrated({"other": (0.0, 1.0)})


def test_conditional_draws_and_their_density() -> None:
    found = nuisances()
    outputs, free = simulator(0.1, -0.4), 0.25
    residual = DATA.whitened((outputs - Y + free * ROWS[1])[None])
    products = np.repeat(residual @ found.rows.T, 20_000, axis=0)
    draws, log_density = found.draw(products, np.random.default_rng(1))
    rows, mean, sd = ROWS[[2, 0]], np.array([-1.0, 0.3]), np.array([2.0, 0.7])  # in the order of the prior
    covariance = np.linalg.inv(np.diag(sd**-2.0) + rows @ np.linalg.inv(COVARIANCE) @ rows.T)
    precise = mean / sd**2 - rows @ np.linalg.inv(COVARIANCE) @ (outputs - Y + free * ROWS[1])
    exact = stats.multivariate_normal(covariance @ precise, covariance)
    assert np.allclose(log_density, exact.logpdf(draws))
    assert np.allclose(draws.mean(0), exact.mean, atol=5 * np.sqrt(np.diag(covariance).max() / 20_000))
    assert np.allclose(np.cov(draws.T), covariance, rtol=0.1, atol=0.05 * covariance.max())


def test_evaluations_there_and_back() -> None:
    found = nuisances()
    x = np.array([[0.1, 0.5, -0.4], [0.7, -1.0, 0.2]])  # a, free, b
    inner = Dataset.empty(3).append(x, [found.marginal.evaluate(point) for point in x], 0)
    outer = found.expanded(inner)
    assert np.array_equal(outer.x[:, found.kept], x)
    assert np.allclose(outer.y, [found.posterior.evaluate(point).y for point in outer.x])
    moved = outer.x.copy()
    moved[:, found.columns] += 0.05  # the most probable amplitudes: any others have a lower posterior density
    prior = found.posterior.prior
    there = [found.posterior.evaluate(point).y for point in moved] + prior.log_density(moved)
    assert (there < outer.y + prior.log_density(outer.x)).all()
    back = found.reduced(outer)
    assert np.array_equal(back.x, x)
    assert np.allclose(back.y, inner.y)


def test_amplitudes_without_a_normal_prior_stay() -> None:
    target = surrogate.Observables(simulator, DATA, ["a", "b"])
    box = {name: (-1.0, 1.0) for name in ("a", "b", "p", "q", "free")}
    assert Nuisances.of(Posterior(target, box)) is None
