"""Runs that learn the outputs of a simulator: exact answers, few calls, exact resume, failures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import surrogate

D, M = 3, 20
A = np.random.default_rng(0).standard_normal((M, D))
TRUTH = np.array([0.2, -0.1, 0.3])
Y = A @ TRUTH + 0.1 * np.random.default_rng(1).standard_normal(M)
PRIOR = {name: (-5.0, 5.0) for name in "abc"}
LIMITS = {"seed": 1, "progress": False, "n_samples": 1500, "max_evaluations": 100}
COVARIANCE = np.linalg.inv(A.T @ A / 0.01)
MEAN = COVARIANCE @ A.T @ Y / 0.01
LOG_EVIDENCE = (
    -0.5 * float(((Y - A @ MEAN) ** 2).sum()) / 0.01
    + 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    - D * np.log(10.0)
)


def linear(x: np.ndarray) -> np.ndarray:
    return A @ x


def infer(simulator=linear, compare=None, slow=None, prior=None, **options):
    target = surrogate.Observables(simulator, compare or surrogate.GaussianData(Y, np.full(M, 0.01)), slow)
    return surrogate.infer(target, prior or PRIOR, **LIMITS | options)


def check(result, mean=MEAN, covariance=COVARIANCE, log_evidence=LOG_EVIDENCE) -> None:
    assert result.converged, result.status
    ess, sd = result.sampler["ess"], np.sqrt(np.diag(covariance))
    assert (np.abs(result.mean - mean) < 5 * sd / np.sqrt(ess)).all()
    assert np.allclose(result.covariance / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=7 / np.sqrt(ess))
    assert abs(result.log_evidence - log_evidence) < 4 * result.log_evidence_error


@pytest.fixture(scope="module")
def whole():
    """The run of the linear simulator from its beginning to its end."""
    return infer()


def test_linear_simulator_needs_a_call_per_coefficient_and_three_more(whole) -> None:
    check(whole)
    assert whole.n_evaluations <= D + 6
    assert whole.data.outputs.shape == (whole.n_evaluations, M)


@pytest.mark.slow
def test_fast_parameters_cost_no_call() -> None:
    template = np.random.default_rng(2).standard_normal(M)
    design = np.column_stack([A, template])
    precision = design.T @ design / 0.01
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ Y / 0.01
    log_evidence = (
        -0.5 * float(((Y - design @ mean) ** 2).sum()) / 0.01
        + 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
        - 4 * np.log(10.0)
    )
    data = surrogate.GaussianData(Y, np.full(M, 0.01), templates={"n": template})
    result = infer(compare=data, slow=["a", "b", "c"], prior=PRIOR | {"n": (-5.0, 5.0)})
    check(result, mean, covariance, log_evidence)
    assert result.n_evaluations <= D + 6


def test_amplitudes_with_normal_priors_are_integrated_out_and_drawn() -> None:
    rows = np.random.default_rng(2).standard_normal((2, M))
    design = np.column_stack([A, *rows])
    centre, width = np.array([0.0, 0.0, 0.0, 0.1, -0.1]), np.array([np.inf, np.inf, np.inf, 0.02, 0.3])
    covariance = np.linalg.inv(design.T @ design / 0.01 + np.diag(width**-2))
    mean = covariance @ (design.T @ Y / 0.01 + centre / width**2)
    residual, pull = Y - design @ mean, (mean - centre)[3:] / width[3:]
    log_evidence = (
        -0.5 * float((residual**2).sum() / 0.01 + (pull**2).sum())
        + 0.5 * np.linalg.slogdet(covariance)[1]
        + 1.5 * np.log(2.0 * np.pi)
        - np.log(width[3:]).sum()
        - 3 * np.log(10.0)
    )
    data = surrogate.GaussianData(Y, np.full(M, 0.01), templates={"m": rows[0], "n": rows[1]})
    prior = PRIOR | {"m": stats.norm(0.1, 0.02), "n": stats.norm(-0.1, 0.3)}
    result = infer(compare=data, slow=["a", "b", "c"], prior=prior)
    check(result, mean, covariance, log_evidence)
    assert result.n_evaluations <= D + 6
    assert result.data.x.shape == (result.n_evaluations, 5)
    point = result.samples[:3]
    exact = data((A @ point[:, :3].T).T, {"m": point[:, 3], "n": point[:, 4]}) + result.draws.log_prior[:3]
    assert np.allclose(result.log_posterior[:3], exact, atol=1e-3)
    assert np.allclose(result.predict(point)[0], exact, atol=1e-3)


@pytest.mark.slow
def test_run_with_integrated_amplitudes_is_loaded_and_compared_with_other_data(tmp_path) -> None:
    rows = np.random.default_rng(2).standard_normal(M)
    data = surrogate.GaussianData(Y, np.full(M, 0.01), templates={"n": rows})
    target = surrogate.Observables(linear, data, ["a", "b", "c"])
    result = infer(compare=data, slow=["a", "b", "c"], prior=PRIOR | {"n": stats.norm()}, output=tmp_path)
    loaded = surrogate.load_result(tmp_path, target=target, n_samples=1500)
    assert loaded.names == result.names == ("a", "b", "c", "n")
    assert loaded.samples.tobytes() == result.samples.tobytes()
    again = loaded.compare_with(data, n_samples=1500)
    assert again.converged, again.status
    assert abs(again.log_evidence - result.log_evidence) < 4 * np.hypot(0.02, again.log_evidence_error)
    assert abs(again.mean[3] - result.mean[3]) < 0.15 * result.draws.sd[3]


@pytest.mark.slow
def test_integrated_amplitudes_with_impossible_points_are_resumed_and_reweighted(tmp_path) -> None:
    def limited(x: np.ndarray) -> np.ndarray | float:
        return -np.inf if x[1] > 2.0 else A @ x

    data = surrogate.GaussianData(Y, np.full(M, 0.01), templates={"n": np.sin(np.arange(M))})
    given = {
        "compare": data,
        "slow": ["a", "b", "c"],
        "prior": PRIOR | {"n": stats.norm()},
        "reweight": 40,
        "batch_size": 1,
    }
    whole = infer(limited, output=tmp_path / "whole", **given)
    assert not whole.data.finite.all()
    assert whole.converged, whole.status
    part = infer(limited, output=tmp_path / "part", max_evaluations=D + 6, **(given | {"reweight": None}))
    assert not part.converged
    resumed = infer(limited, output=tmp_path / "part", **given)
    for result in (whole, resumed):
        assert result.names == ("a", "b", "c", "n")
        assert result.sampler["ess"] > 20
    assert resumed.data.x.tobytes() == whole.data.x.tobytes()
    assert resumed.samples.tobytes() == whole.samples.tobytes()
    design = np.column_stack([A, np.sin(np.arange(M))])
    covariance = np.linalg.inv(design.T @ design / 0.01 + np.diag([0.0, 0.0, 0.0, 1.0]))
    mean = covariance @ design.T @ Y / 0.01
    assert (np.abs(whole.mean - mean) < np.sqrt(np.diag(covariance))).all()


def test_resumed_run_is_the_same_bit_for_bit(whole, tmp_path) -> None:
    part = infer(output=tmp_path / "part", max_evaluations=D + 2)
    assert not part.converged
    resumed = infer(output=tmp_path / "part")
    assert resumed.data.x.tobytes() == whole.data.x.tobytes()
    assert resumed.data.outputs.tobytes() == whole.data.outputs.tobytes()
    assert resumed.samples.tobytes() == whole.samples.tobytes()
    assert resumed.log_evidence == whole.log_evidence


@pytest.mark.slow
def test_outputs_come_back_from_threads(whole) -> None:
    threads = infer(executor="threads:2", mode="sync")
    assert threads.data.outputs.tobytes() == whole.data.outputs.tobytes()
    assert threads.samples.tobytes() == whole.samples.tobytes()


@pytest.mark.slow
def test_impossible_points_and_exceptions() -> None:
    def simulator(x: np.ndarray) -> np.ndarray | float:
        if x[0] > 0.25:
            return -np.inf
        if x[1] > 3.0:
            raise RuntimeError(x)
        return A @ x

    result = infer(simulator)
    assert result.converged, result.status
    assert (result.samples[:, 0] <= 0.3).all()
    rng = np.random.default_rng(3)
    draws = rng.multivariate_normal(MEAN, COVARIANCE, 100_000)
    draws = draws[draws[:, 0] <= 0.25]
    sd = draws.std(0)
    assert (np.abs(result.mean - draws.mean(0)) < 0.15 * sd).all()


def test_files_executor_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="cannot carry the outputs"):
        infer(executor=f"files:{tmp_path}")


@pytest.mark.slow
def test_rough_outputs_give_way_to_the_log_likelihood() -> None:
    def rough(x: np.ndarray) -> np.ndarray:
        """Its phase is as good as random; what the comparison uses is smooth."""
        phase, radius = 1e5 * x[0], 0.5 * (x[0] - 0.3) ** 2
        return np.sqrt(radius) * np.array([np.cos(phase), np.sin(phase)])

    target = surrogate.Observables(rough, lambda out, _: -float((out**2).sum()))
    result = surrogate.infer(target, {"a": (-5.0, 5.0)}, seed=1, progress=False, n_samples=1000)
    assert result.converged, result.status
    assert "the log-likelihood itself was learned" in result.status
    assert np.allclose(result.mean, 0.3, atol=0.1)
    assert np.allclose(result.sd, 1.0, rtol=0.1)
