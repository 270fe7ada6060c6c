"""The solvers, evidences, noises and precisions of GPRegressor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from surrogate.estimators.gp import GPRegressor
from surrogate.gp.evidence.profile import NoiseProfile
from surrogate.gp.scales import ScaledProcess
from surrogate.linalg.precision import LowPrecisionError

N, NOISE = 400, 0.3


def problem(n=N, noise=NOISE, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, 2))
    return x, 5.0 + 3.0 * np.sin(2 * x).sum(1) + noise * rng.standard_normal(n)


X, Y = problem()
NEW, TRUTH = problem(250, seed=9)
IDEAL = 0.5 * math.log(2 * math.pi * NOISE**2) + 0.5  # negative log density of the truth with its own noise


def nll(model):
    mean, sd = model.predict(NEW, return_std=True)
    return float(np.mean(0.5 * np.log(2 * np.pi * sd**2) + 0.5 * ((TRUTH - mean) / sd) ** 2))


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        ("cholesky", "Cholesky factor of 400 points"),
        pytest.param("cg", "conjugate gradients converged", marks=pytest.mark.slow),
        pytest.param("local", "256 nearest of 400 points for each prediction", marks=pytest.mark.slow),
        ("computation-aware", "projections of 400 values, which leave"),
        ("basis", "1000 sines on a box"),
    ],
)
def test_solvers(solver, words):
    """Each predicts nearly as well as the noise allows, and the table says how."""
    model = GPRegressor(kernel="rbf", solver=solver).fit(X, Y)
    assert model.solver_ == solver
    assert words in model.status_
    assert nll(model) < IDEAL + 0.15
    assert math.isfinite(model.residual_) == (solver != "local")
    assert math.isfinite(model.log_marginal_likelihood_) == (solver in {"cholesky", "basis"})


@pytest.mark.parametrize(
    "evidence",
    ["exact", "minibatch", *(pytest.param(e, marks=pytest.mark.slow) for e in ("neighbours", "iterative", "basis"))],
)
def test_evidences(evidence):
    """Each finds the noise, to the accuracy that 400 points allow; batches of 128 to a little less."""
    model = GPRegressor(kernel="rbf", evidence=evidence).fit(X, Y)
    margin = 0.1 if evidence == "minibatch" else 0.05
    assert model.noise_ == pytest.approx(NOISE, rel=4 / math.sqrt(2 * N) + margin)
    assert nll(model) < IDEAL + 0.15


def test_random_features_where_sines_are_too_few():
    model = GPRegressor(kernel="matern12", solver="basis", rank=200).fit(X, Y)
    assert "200 random Fourier features" in model.status_
    assert nll(model) < IDEAL + 0.5


def test_rank_is_that_of_the_solver():
    assert "20 nearest of" in GPRegressor(kernel="rbf", solver="local", rank=20).fit(X, Y).status_
    assert ", rank 30" in GPRegressor(kernel="rbf", solver="cg", rank=30).fit(X, Y).status_
    assert "12 projections" in GPRegressor(kernel="rbf", solver="computation-aware", rank=12).fit(X, Y).status_


def test_variance_counts_what_few_projections_leave_out():
    few, many = (GPRegressor(kernel="rbf", solver="computation-aware", rank=rank).fit(X, Y) for rank in (15, 300))
    sds = [model.predict(NEW, return_std=True, include_noise=False)[1] / model.output_scale_ for model in (few, many)]
    assert (sds[0] > sds[1]).mean() > 0.99


def test_profiled_noise_is_the_root_for_the_fitted_lengthscales():
    model = GPRegressor(kernel="rbf", noise="profile").fit(X, Y)
    scale = model.lengthscale_ / X.std(0)
    x, y = torch.tensor((X - X.mean(0)) / X.std(0)), torch.tensor((Y - Y.mean()) / Y.std())
    k = ScaledProcess.of("rbf", 1.0, scale, 1.0, "given").operator(x).dense()
    found = NoiseProfile.of(k, y, trend=torch.ones(N, 1, dtype=y.dtype)).maximise()
    assert model.noise_ == pytest.approx(Y.std() * math.sqrt(found.noise_variance), rel=1e-6)
    assert model.output_scale_ == pytest.approx(Y.std() * math.sqrt(found.signal_variance), rel=1e-6)
    assert "noise by its profile: interior" in model.status_


def test_profile_of_pure_noise():
    rng = np.random.default_rng(1)
    y = np.where(np.arange(N) % 2 == 0, 1.0, -1.0) + 0.1 * rng.standard_normal(N)  # neighbours disagree
    x = np.repeat(np.linspace(-2, 2, N // 2), 2)[:, None]
    model = GPRegressor(kernel="rbf", noise="profile").fit(x, y)
    mean, sd = model.predict(np.array([[0.3]]), return_std=True)
    assert abs(mean[0] - y.mean()) < 0.2
    assert sd[0] == pytest.approx(y.std(), rel=0.1)


def test_noise_of_each_point_is_that_of_scikit_learn():
    """Means and sds of the function at the same hyperparameters."""
    sds = np.random.default_rng(3).uniform(0.1, 0.6, N)
    model = GPRegressor(kernel="rbf", noise=sds).fit(X, Y)
    np.testing.assert_array_equal(model.noise_, sds)
    kernel = ConstantKernel(model.output_scale_**2) * RBF(model.lengthscale_)
    constant = model._offset + model._unit * model._posterior.constant
    other = GaussianProcessRegressor(kernel, alpha=sds**2, optimizer=None).fit(X, Y - constant)
    mean, sd = model.predict(NEW, return_std=True)
    expected, expected_sd = other.predict(NEW, return_std=True)
    np.testing.assert_allclose(mean, expected + constant, rtol=1e-6)
    np.testing.assert_allclose(sd, expected_sd, rtol=0.02)  # ours knows that the constant was estimated
    with pytest.raises(ValueError, match="include_noise must be False"):
        model.predict(NEW, return_std=True, include_noise=True)


@pytest.mark.parametrize(
    "solver", ["cg", "computation-aware", *(pytest.param(s, marks=pytest.mark.slow) for s in ("local", "basis"))]
)
def test_every_solver_weighs_points_by_their_noise(solver):
    """Half of the points are worth nothing: predictions are those without them."""
    rng = np.random.default_rng(5)
    bad = np.arange(N) % 2 == 1
    sds = np.where(bad, 100.0, 0.1)
    exact = 3.0 * np.sin(2 * X).sum(1)
    y = exact + np.where(bad, 30.0, 0.1) * rng.standard_normal(N)
    model = GPRegressor(kernel="rbf", solver=solver, noise=sds).fit(X, y)
    error = model.predict(NEW) - 3.0 * np.sin(2 * NEW).sum(1)
    assert np.sqrt(np.mean(error**2)) < 0.4


def test_exact_values_among_noisy_ones():
    sds = np.where(np.arange(N) < 20, 0.0, NOISE)
    y = np.where(sds == 0.0, 5.0 + 3.0 * np.sin(2 * X).sum(1), Y)
    model = GPRegressor(kernel="rbf", noise=sds).fit(X, y)
    mean, sd = model.predict(X[:20], return_std=True)
    np.testing.assert_allclose(mean, y[:20], atol=1e-3)
    assert sd.max() < 1e-2


def test_precisions_give_one_mean():
    """Corrections in float64 make up for products in half precision, at the noise where these are accepted."""
    models = [
        GPRegressor(kernel="matern12", solver="cg", noise=1.0, precision=precision).fit(X, Y)
        for precision in ("float64", "float32", "float16")
    ]
    assert max(model.residual_ for model in models) <= 1e-2
    reference = models[0].predict(NEW)
    for model in models[1:]:
        np.testing.assert_allclose(model.predict(NEW), reference, atol=0.02)


def test_half_precision_needs_noise():
    with pytest.raises(LowPrecisionError, match="products in float16 of a rbf kernel"):
        GPRegressor(kernel="rbf", solver="cg", noise=1e-3, precision="float16").fit(X, Y)


def test_it_can_be_cloned():
    model = clone(GPRegressor(solver="local", noise=np.ones(3), rank=7))
    assert (model.solver, model.rank) == ("local", 7)
    np.testing.assert_array_equal(model.noise, np.ones(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "lu"}, "solver must be one of"),
        ({"evidence": "guess"}, "evidence must be one of"),
        ({"precision": "float8"}, "precision must be one of"),
        ({"noise": "no"}, "noise must be one of"),
        ({"noise": None}, "noise must be 'fit', 'profile', or standard"),
        ({"noise": np.ones(3)}, r"noise must be one standard deviation or have shape \(400,\)"),
        ({"noise": np.full(N, np.nan)}, "noise must be 'fit', 'profile', or standard"),
        ({"rank": 0}, "rank must be positive"),
        ({"solver": "cholesky", "rank": 5}, "solver='cholesky' takes no rank"),
        ({"precision": "float32"}, "precision='float32' needs solver='cg'"),
        ({"evidence": "minibatch", "noise": 0.0}, "evidence='minibatch' needs noise"),
    ],
)
def test_misuse_is_told(settings, message):
    with pytest.raises(ValueError, match=message):
        GPRegressor(kernel="rbf", **settings).fit(X, Y)


def test_profile_of_more_points_than_a_matrix_is_stored_for(monkeypatch):
    monkeypatch.setattr("surrogate.estimators.gp._MOST_EXACT", {"cpu": 300})
    with pytest.raises(ValueError, match="takes up to 300 points, got 400"):
        GPRegressor(noise="profile").fit(X, Y)
