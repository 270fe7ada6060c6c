"""Comparison of models: numbers by hand, refusals, and models with exact Bayes factors."""

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

import surrogate
from surrogate.inference.comparison import compare
from surrogate.inference.criteria import information_criteria, waic
from surrogate.inference.predictive_check import predictive_check
from tests.finished import result

DATA = stats.norm(1.0, 1.0).rvs(20, random_state=np.random.default_rng(5))


def log_likelihoods(x):
    return stats.norm.logpdf(DATA, x[0], 1.0)


def log_likelihood(x):
    return float(log_likelihoods(x).sum())


@cache
def fitted(scale=3.0):
    """A mean of normal data with a normal prior: everything is known in closed form."""
    prior = {"mu": stats.norm(0, scale)}
    return surrogate.infer(log_likelihood, prior, seed=1, progress=False, n_samples=1000)


def exact_log_evidence(scale):
    covariance = np.eye(len(DATA)) + scale**2
    return stats.multivariate_normal.logpdf(DATA, np.zeros(len(DATA)), covariance)


def test_factors_and_errors_by_hand():
    a = result(log_evidence=-10.0, log_evidence_error=0.3)
    b = result(log_evidence=-12.0, log_evidence_error=0.4)
    found = compare(a, b, names=["one", "two"], widen=None)
    assert found.log_bayes_factors[0, 1] == pytest.approx(2.0)
    assert found.log_bayes_factor_errors[0, 1] == pytest.approx(0.5)
    assert found.probabilities == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])
    assert found.best.name == "one"
    assert found.trusted
    assert "-2.00 +- 0.50" in str(found)
    weighted = compare(a, b, prior_probabilities=[1, 3], widen=None)
    assert weighted.probabilities[1] == pytest.approx(3 / (3 + math.exp(2)))


def test_a_run_that_has_not_converged_is_refused_or_marked():
    a, b = result(), result(converged=False, status="the budget of 40 evaluations is used up")
    with pytest.raises(ValueError, match=r"B \(the budget of 40 evaluations is used up\).*anyway=True"):
        compare(a, b)
    found = compare(a, b, anyway=True)
    assert not found.trusted
    assert "B has NOT CONVERGED" in str(found)
    assert "B (!)" in str(found)
    assert "NOT CONVERGED" in found._repr_html_()


def test_bayes_factor_and_widening_are_exact_for_normal_data():
    narrow, wide = fitted(3.0), fitted(6.0)
    found = compare(narrow, wide)
    exact = exact_log_evidence(3.0) - exact_log_evidence(6.0)
    assert abs(found.log_bayes_factors[0, 1] - exact) < 4 * found.log_bayes_factor_errors[0, 1]
    (widening,) = found.models[0].widenings  # the first prior made twice as wide is the second
    assert widening.prior == "norm(0, 3)"
    assert widening.shift == pytest.approx(-exact, abs=0.02)


def test_criteria_are_exact_for_normal_data():
    """D is quadratic: p of DIC is the share of the likelihood in the posterior's precision, n w^2 / (1 + n w^2)."""
    run, n = fitted(3.0), len(DATA)
    best = run.maximum("likelihood")
    found = information_criteria(run, n_data=n, best_fit=best, log_likelihoods=log_likelihoods)
    chi_squared = -2.0 * log_likelihood([DATA.mean()])
    assert best.confirmed
    assert found.aic == pytest.approx(2 + chi_squared, abs=1e-3)
    assert found.aicc == pytest.approx(2 + chi_squared + 4 / (n - 2), abs=1e-3)
    assert found.bic == pytest.approx(math.log(n) + chi_squared, abs=1e-3)
    share = n * 9 / (1 + n * 9)
    assert found.p_dic == pytest.approx(share, abs=0.05)  # sampling of 10,000 draws: 0.014
    v = 9 / (1 + n * 9)  # variance of the posterior; that of a square under a normal is in closed form
    exact = v * ((DATA - v * DATA.sum()) ** 2).sum() + 0.5 * n * v**2
    assert found.p_waic == pytest.approx(exact, rel=5 * np.sqrt(2 / 400))  # a variance over 400 draws
    assert abs(found.waic - (chi_squared + 2)) < 4 * found.waic_error
    assert not found.warnings


def test_waic_is_the_slow_sum():
    table = np.random.default_rng(0).normal(-1.0, 0.2, (50, 7))
    value, error, p, influential = waic(table)
    each = [-2 * (np.log(np.mean(np.exp(table[:, i]))) - np.var(table[:, i], ddof=1)) for i in range(7)]
    assert value == pytest.approx(sum(each))
    assert error == pytest.approx(math.sqrt(7 * np.var(each, ddof=1)))
    assert p == pytest.approx(sum(np.var(table[:, i], ddof=1) for i in range(7)))
    assert influential == 0
    assert waic(10 * table)[3] == 7


def test_an_unconfirmed_best_fit_is_said_and_that_of_a_posterior_refused():
    found = information_criteria(fitted(3.0))
    assert "NOT CONFIRMED" in found.warnings[0]
    assert [name for name, _ in found.rows()] == ["AIC", "DIC"]
    with pytest.raises(ValueError, match=r"result.maximum\('likelihood'\)"):
        information_criteria(fitted(3.0), best_fit=fitted(3.0).maximum(max_evaluations=0))


def test_a_wrong_model_fails_its_predictive_check():
    def simulate(x, rng):
        return rng.normal(x[0], 1.0, len(DATA))

    good = predictive_check(fitted(3.0), simulate, DATA, n=400)
    assert good.disagreeing == ()
    bad = predictive_check(fitted(3.0), simulate, 4.0 * (DATA - DATA.mean()) + DATA.mean(), n=400)
    assert "sd" in bad.disagreeing
    found = compare(fitted(3.0), fitted(6.0), checks=[good, bad])
    assert "B does not predict the data" in str(found)


def test_a_discrepancy_may_depend_on_the_parameters():
    def chi_squared(data, x):
        return float(((data - x[0]) ** 2).sum())

    found = predictive_check(
        fitted(3.0), lambda x, rng: rng.normal(x[0], 1.0, len(DATA)), DATA, statistics={"chi2": chi_squared}, n=300
    )
    assert found.observed[:, 0].std() > 0
    assert 0.02 < found.p_values[0] < 0.98
    with pytest.raises(ValueError, match="shape"):
        predictive_check(fitted(3.0), lambda x, rng: np.zeros(3), DATA)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"names": ["a", "a"]}, "2 different"),
        ({"prior_probabilities": [1, -1]}, "at least 0"),
        ({"criteria": []}, "criteria must be one for each"),
    ],
)
def test_misuse_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        compare(result(), result(), **arguments)


def test_too_few_or_other_things_are_refused():
    with pytest.raises(ValueError, match="at least two"):
        compare(result())
    with pytest.raises(TypeError, match="folders of runs"):
        compare(result(), 3)
    with pytest.raises(ValueError, match="no finite log evidence"):
        compare(result(), result(log_evidence=float("nan")))


def test_names_are_escaped():
    found = compare(result(), result(), names=["<script>alert(1)</script>", "b"], widen=None)
    assert "<script>" not in found._repr_html_()
    assert "&lt;script&gt;" in found._repr_html_()
