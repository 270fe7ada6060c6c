import numpy as np
import pytest
from scipy.stats import norm

from surrogate.output.tables import (
    format_value,
    plus_minus,
    summary_rows,
    summary_table,
)
from surrogate.samplers.samples import equal_tailed_interval, weighted_quantile
from tests.finished import parts, result


def test_quantiles_of_equal_weights_are_those_of_numpy():
    x = np.random.default_rng(0).standard_normal((101, 3))
    q = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(
        weighted_quantile(x, np.ones(101), q), np.quantile(x, q, axis=0, method="hazen"), rtol=1e-12
    )


def test_integer_weights_are_multiplicities():
    x, w = np.array([[1.0], [2.0], [5.0]]), np.array([500, 2000, 500])
    repeated = np.repeat(x, w, axis=0)
    q = [0.05, 0.5, 0.95]
    np.testing.assert_array_equal(weighted_quantile(repeated, np.ones(3000), q)[1], weighted_quantile(x, w, q)[1])


def test_quantiles_of_weighted_draws_are_those_of_the_target():
    rng = np.random.default_rng(0)
    x = rng.uniform(-8, 8, (40_000, 1))
    w = norm.pdf(x[:, 0])
    found = equal_tailed_interval(x, w, 0.6827)[0]
    ess = w.sum() ** 2 / (w**2).sum()
    error = np.sqrt(0.16 * 0.84 / ess) / norm.pdf(1.0)  # of a quantile, asymptotically
    np.testing.assert_allclose(found, [-1, 1], atol=5 * error)


@pytest.mark.parametrize("level", [0.0, 1.0, 68])
def test_levels_are_probabilities(level):
    with pytest.raises(ValueError, match=f"between 0 and 1, got {level}"):
        equal_tailed_interval(np.zeros((2, 1)), np.ones(2), level)


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (0.123456, 0.034, "0.123"),
        (0.1, 0.0996, "0.100"),
        (67361.2, 540.0, "67360"),
        (-1.0, 3.7, "-1.0"),
        (3.21e-9, 4.5e-11, "3.210e-09"),
        (1e12, 3e9, "1.0000e+12"),
        (2.5, 0.0, "2.5"),
        (2.5, np.nan, "2.5"),
        (np.nan, 1.0, "-"),
        (-np.inf, 1.0, "-inf"),
    ],
)
def test_values_have_two_digits_of_their_scale(value, scale, text):
    assert format_value(value, scale) == text


def test_plus_minus():
    assert plus_minus(-3.21456, 0.0312) == "-3.215 +- 0.031"


def test_rows_hold_the_weighted_moments():
    run = result()
    rows = summary_rows(run.draws, run.record)
    assert [row.name for row in rows] == ["omega", "H0", "omega h2"]
    np.testing.assert_allclose([row.mean for row in rows[:2]], np.average(run.samples, axis=0, weights=run.weights))
    covariance = np.cov(run.samples.T, aweights=run.weights, ddof=0)
    np.testing.assert_allclose([row.sd for row in rows[:2]], np.sqrt(np.diag(covariance)))
    np.testing.assert_allclose(rows[0].error, 0.002 / rows[0].sd)
    assert np.isnan(rows[2].best_fit)
    assert np.isnan(rows[2].error)


def test_table_says_everything_and_is_aligned():
    lines = summary_table(*parts(result())).splitlines()
    assert lines[0].split() == ["mean", "sd", "68", "%", "95", "%", "best", "fit", "error", "of", "mean"]
    assert len({len(line) for line in lines[1:3]}) == 1
    assert lines[1].startswith("omega ")
    assert lines[1].endswith("0.020 sd")
    assert "log evidence  -6.123 +- 0.071" in lines
    assert "30 calls of the likelihood (1 at -inf, 1 failed)" in lines
    assert lines[-1] == "converged: draws of the surrogate agree and the last batch moved nothing"


def test_table_shouts_when_not_converged():
    run = result(converged=False, status="the budget is used up")
    assert "NOT CONVERGED: the budget is used up" in summary_table(*parts(run))
