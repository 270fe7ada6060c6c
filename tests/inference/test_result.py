import numpy as np
import pytest

from tests.finished import COVARIANCE, MEAN, Emulator, log_likelihood, result


def test_moments():
    run = result()
    ess = 1 / (run.weights**2).sum()
    error = np.sqrt(np.diag(COVARIANCE) / ess)
    assert np.all(np.abs(run.mean - MEAN) < 5 * error)
    np.testing.assert_allclose(run.covariance, np.cov(run.samples.T, aweights=run.weights, ddof=0))
    np.testing.assert_allclose(run.sd, np.sqrt(np.diag(run.covariance)))


def test_interval_has_a_row_per_parameter():
    run = result()
    low, high = run.interval(0.95)[1]
    inside = (run.samples[:, 1] > low) & (run.samples[:, 1] < high)
    assert run.weights[inside].sum() == pytest.approx(0.95, abs=0.001)


def test_best_fit_is_the_evaluated_point_of_the_highest_log_posterior():
    run = result()
    x = run.data.x[run.data.finite]
    np.testing.assert_array_equal(run.best_fit, x[np.argmax(log_likelihood(x) + Emulator().log_prior(x))])


def test_best_fit_without_any_value_is_nan():
    run = result()
    rows = np.flatnonzero(~run.data.finite)[:1]
    nothing = run.data.head(int(rows[0]) + 1)
    empty = type(nothing).empty(2)
    assert np.isnan(result(data=empty).best_fit).all()


def test_predict_adds_the_prior():
    run = result()
    x = np.array([[0.3, 67.0], [2.0, 67.0]])
    mean, sd = run.predict(x)
    assert mean[0] == log_likelihood(x)[0] - 0.67 - np.log(200)
    assert mean[1] == -np.inf
    np.testing.assert_array_equal(sd, 0.1)
    assert run.predict([0.3, 67.0])[0][0] == mean[0]


def test_predict_refuses_other_dimensions():
    with pytest.raises(ValueError, match=r"shape \(m, 2\), got \(1, 3\)"):
        result().predict(np.zeros((1, 3)))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"log_prior with shape \(3,\), not \(4000,\)"):
        result(log_prior=np.zeros(3))
    with pytest.raises(ValueError, match="one label for each of the 2 names, got 1"):
        result(labels=("a",))


def test_repr_is_short():
    assert repr(result()) == "<Result: 2 parameters, 30 evaluations, converged>"


def test_methods_reach_the_output(tmp_path):
    run = result()
    assert run.summary().count("\n") >= 6
    assert run.to_getdist().numrows == 4000
    run.save(tmp_path / "chain")
    assert (tmp_path / "chain.txt").exists()
