"""A process given data: parity with dense formulas and other libraries, laws of evidences and posteriors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process import kernels as sklearn_kernels

from surrogate.gp.kernels import RBF, Linear, Matern12, Matern32, Matern52, Scale
from surrogate.gp.means import Polynomial, Zero
from surrogate.gp.noise import Common, Given, Nugget, Shaped
from surrogate.gp.process import Data, Process
from surrogate.gp.solvers.cholesky import Cholesky, negative_log_evidence, with_input_slopes

D = 2
KERNELS = {
    "rbf": Scale(1.3) * RBF([0.9, 1.4]),
    "matern12": Scale(0.8) * Matern12([0.9, 1.4]),
    "matern32": Matern32(1.1),
    "matern52": Scale(1.3) * Matern52([0.9, 1.4]),
    "composed": Scale(0.7) * RBF(1.0).on([0]) + Matern52([2.0, 1.0]) * RBF(3.0).on([1]) + Linear([1.5, 2.5]),
}
NOISES = {
    "nugget": Nugget(1e-4),
    "fitted": Nugget(1e-2, fitted=True),
    "shaped": Nugget(1e-6) + Shaped(0.1),
    "all": Nugget(1e-6) + Shaped(0.1) + Given() + Common(0.2),
}


def points(n=12, seed=0):
    return np.random.default_rng(seed).standard_normal((n, D))


def data(n=12, slope=None, outputs=None):
    u, rng = points(n), np.random.default_rng(1)
    y = np.sin(u).sum(1) if outputs is None else np.sin(u.sum(1)[:, None] * np.arange(1, outputs + 1))
    return Data.of(
        u,
        y,
        depth=np.maximum(0.0, u[:, 0]),
        noise=rng.uniform(0.05, 0.3, n),
        unit=rng.uniform(0.5, 2.0, n),
        slope=slope,
    )


def dense(process, data):
    """K / s^2 with noise, by the obvious formula."""
    scale, _, vector = process.split(process.vector())
    noise = process.noise.forward(vector, data)
    k = (
        process.kernel.forward(process.kernel.vector(), data.points).matrix()
        + data.basis(process.mean) @ data.basis(process.mean).T
    )
    variance = torch.full((len(data.y),), float(noise.relative), dtype=torch.float64)
    if noise.absolute is not None:
        variance = variance + noise.absolute * (1.0 if scale is None else np.exp(-2.0 * scale))
    return (k + torch.diag(variance)).numpy()


@pytest.fixture(params=KERNELS)
def kernel(request):
    return KERNELS[request.param]


@pytest.fixture(params=NOISES)
def noise(request):
    return NOISES[request.param]


@pytest.mark.parametrize("mean", [Zero(), Polynomial("constant"), Polynomial("quadratic")], ids=str)
@pytest.mark.parametrize("scale", [None, 1.7])
def test_evidence_and_posterior_are_those_of_the_dense_matrix(kernel, noise, mean, scale):
    process, table, x = Process(kernel, mean, noise, scale=scale), data(), points(5, seed=3)
    posterior, k, y = process.condition(table), dense(process, table), table.y.numpy()
    s2 = float(y @ np.linalg.solve(k, y)) / len(y) if scale is None else scale**2
    value = -0.5 * (len(y) * np.log(2 * np.pi * s2) + np.linalg.slogdet(k)[1] + y @ np.linalg.solve(k, y) / s2)
    assert posterior.log_evidence == pytest.approx(value, rel=1e-8)
    assert posterior.scale == pytest.approx(np.sqrt(s2), rel=1e-8)
    assert negative_log_evidence(process, table, process.vector())[0] == pytest.approx(-value, rel=1e-8)
    new, old = torch.as_tensor(x), table.u
    cross = (process.kernel.covariance(old, new) + mean.basis(old) @ mean.basis(new).T).numpy()
    prior = (process.kernel.covariance(new) + mean.basis(new) @ mean.basis(new).T).numpy()
    expected = s2 * (prior - cross.T @ np.linalg.solve(k, cross))
    np.testing.assert_allclose(posterior.mean(x), cross.T @ np.linalg.solve(k, y), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(posterior.covariance(x), expected, rtol=1e-5, atol=1e-6 * s2)
    np.testing.assert_allclose(posterior.variance(x), np.diag(expected), rtol=1e-5, atol=1e-6 * s2)
    left_out = [float(np.linalg.solve(k, y)[i] / np.linalg.inv(k)[i, i]) for i in range(3)]
    np.testing.assert_allclose(posterior.leave_one_out()[:3], left_out, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", [None, 1.7])
@pytest.mark.parametrize("sloped", [False, True])
def test_the_gradient_of_the_evidence(kernel, noise, scale, sloped):
    if sloped:
        kernel = Scale(0.8) * (Matern52([0.9, 1.4]) + RBF(0.5).on([1]))
    slope = np.cos(points()) if sloped else None
    process, table = Process(kernel, Polynomial("linear"), noise, scale=scale), data(slope=slope)
    vector = process.vector()
    _, gradient = negative_log_evidence(process, table, vector)
    assert len(gradient) == len(process.names) == len(process.priors)
    for i, move in enumerate(1e-5 * np.eye(len(vector))):
        above, below = (negative_log_evidence(process, table, v)[0] for v in (vector + move, vector - move))
        assert gradient[i] == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-5)


def test_slopes_with_respect_to_inputs(kernel, noise):
    process, table = Process(kernel, Polynomial("quadratic"), noise), data()
    value, gradient, slopes = with_input_slopes(process, table, process.vector())
    expected = negative_log_evidence(process, table, process.vector())
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    for i, j in ((0, 0), (5, 1)):
        moved = []
        for step in (1e-5, -1e-5):
            u = table.u.clone()
            u[i, j] += step
            other = Data(u, table.y, table.depth, table.noise, unit=table.unit)
            moved.append(negative_log_evidence(process, other, process.vector())[0])
        assert slopes[i, j] == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-5, abs=1e-5)
    with pytest.raises(ValueError, match="inputs are not available for data with derivatives"):
        with_input_slopes(process, data(slope=np.cos(points())), process.vector())


def test_the_vector_of_a_process():
    process = Process(Scale(0.5) * RBF([1.0, 2.0]), noise=Nugget(1e-6) + Shaped(0.1) + Given() + Common(0.2), scale=3.0)
    assert process.names == ("scale", "sd", "lengthscale[0]", "lengthscale[1]", "1.shaping", "3.noise")
    np.testing.assert_allclose(np.exp(process.vector()), [3.0, 0.5, 1.0, 2.0, 0.1, 0.2])
    moved = process.with_vector(process.vector() + 0.1)
    np.testing.assert_array_equal(moved.vector(), process.vector() + 0.1)
    value = negative_log_evidence(process, data(), process.vector() + 0.1)[0]
    assert -Cholesky().condition(moved, data()).log_evidence == pytest.approx(value, rel=1e-12)
    assert Process(RBF(1.0), scale=None).names == ("lengthscale",)


@pytest.mark.parametrize("scale", [None, 1.7])
def test_several_outputs_share_a_kernel(scale):
    """Evidence, gradient, mean, variance and left-out errors are those of each output alone."""
    noise = Nugget(1e-3) + Shaped(0.1)
    process, table = Process(KERNELS["rbf"], Polynomial("linear"), noise, scale=scale), data(outputs=3)
    alone = [Data(table.u, y, table.depth, table.noise) for y in table.y.T]
    together, x = process.condition(table), points(5, seed=3)
    posteriors = [process.condition(part) for part in alone]
    assert together.log_evidence == pytest.approx(sum(p.log_evidence for p in posteriors), rel=1e-12)
    for name in ("mean", "variance", "covariance"):
        expected = np.stack([getattr(p, name)(x) for p in posteriors], axis=-1)
        np.testing.assert_allclose(getattr(together, name)(x), expected, rtol=1e-9, atol=1e-12)
    expected = np.stack([p.leave_one_out() for p in posteriors], axis=-1)
    np.testing.assert_allclose(together.leave_one_out(), expected, rtol=1e-9)
    values = [negative_log_evidence(process, part, process.vector()) for part in alone]
    value, gradient = negative_log_evidence(process, table, process.vector())
    assert value == pytest.approx(sum(v for v, _ in values), rel=1e-12)
    np.testing.assert_allclose(gradient, np.sum([g for _, g in values], axis=0), rtol=1e-9)
    assert together.paths(x, 4, np.random.default_rng(0)).shape == (4, 5, 3)


def test_paths_have_the_mean_and_the_covariance():
    """20,000 joint realisations at three points: within five standard errors."""
    posterior, x, count = Process(KERNELS["rbf"], noise=Nugget(1e-2)).condition(data()), points(3, seed=3), 20_000
    paths = posterior.paths(x, count, np.random.default_rng(0))
    covariance = posterior.covariance(x)
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(paths.mean(0) - posterior.mean(x)) < 5.0 * sd / np.sqrt(count)).all()
    error = np.sqrt((covariance**2 + np.outer(sd, sd) ** 2) / count)
    assert (np.abs(np.cov(paths.T) - covariance) < 5.0 * error).all()


def test_tensors_give_tensors():
    posterior, x = Process(KERNELS["rbf"]).condition(data()), points(3, seed=3)
    for name in ("mean", "variance", "covariance"):
        answer = getattr(posterior, name)(torch.as_tensor(x))
        assert isinstance(answer, torch.Tensor)
        np.testing.assert_array_equal(answer.numpy(), getattr(posterior, name)(x))


def test_it_is_the_process_of_scikit_learn():
    kernel = sklearn_kernels.ConstantKernel(1.69) * sklearn_kernels.RBF([0.9, 1.4])
    process, table, x = Process(KERNELS["rbf"], noise=Nugget(1e-4)), data(), points(5, seed=3)
    theirs = GaussianProcessRegressor(kernel, alpha=1e-4, optimizer=None).fit(table.u.numpy(), table.y.numpy())
    posterior = process.condition(table)
    value, gradient = theirs.log_marginal_likelihood(theirs.kernel_.theta, eval_gradient=True)
    assert posterior.log_evidence == pytest.approx(value, rel=1e-9)
    ours = negative_log_evidence(process, table, process.vector())[1]
    np.testing.assert_allclose(-ours[1:] * [0.5, 1.0, 1.0], gradient, rtol=1e-8)  # theirs is in log variance
    mean, covariance = theirs.predict(x, return_cov=True)
    np.testing.assert_allclose(posterior.mean(x), mean, rtol=1e-7)
    np.testing.assert_allclose(posterior.covariance(x), covariance, rtol=1e-6, atol=1e-9)


def test_a_nugget_is_raised_until_the_covariance_can_be_factored():
    """Two equal points without a nugget to speak of."""
    u = np.repeat(points(5), 2, axis=0)
    process, table = Process(Scale(10.0) * RBF(1.0), noise=Nugget(1e-30)), Data.of(u, np.zeros(10))
    with pytest.raises(torch.linalg.LinAlgError, match="not positive definite"):
        Cholesky().condition(process, table)
    with pytest.raises(FloatingPointError, match="are all inputs finite"):
        process.condition(table)
    posterior = Process(Scale(10.0) * RBF(1.0), noise=Nugget(1e-20)).condition(table)
    assert "nugget 1e-1" in posterior.status
