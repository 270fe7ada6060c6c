from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, as gpytorch is imported
    import gpytorch

    from surrogate.interfaces.gpytorch import ModelOperator, NystromLikelihood, fit, operator_of, predict, process_of


class Model(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood, kernel):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(kernel)

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


KERNELS = {
    "rbf": lambda d: gpytorch.kernels.RBFKernel(ard_num_dims=d),
    "matern12": lambda d: gpytorch.kernels.MaternKernel(nu=0.5, ard_num_dims=d),
    "matern32": lambda d: gpytorch.kernels.MaternKernel(nu=1.5, ard_num_dims=d),
    "matern52": lambda d: gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=d),
}


def build(name="rbf", n=120, d=2, likelihood=None, noise=0.04):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(-2, 2, (n, d)))
    y = 1.0 + torch.sin(2 * x).sum(1) + math.sqrt(noise) * torch.tensor(rng.standard_normal(n))
    likelihood = likelihood or gpytorch.likelihoods.GaussianLikelihood()
    model = Model(x, y, likelihood, KERNELS[name](d)).double()
    model.covar_module.outputscale = 1.7
    model.covar_module.base_kernel.lengthscale = torch.linspace(0.8, 1.3, d)
    likelihood.noise = noise
    model.mean_module.initialize(constant=0.7)
    return model, likelihood


def exactly():
    """gpytorch's Cholesky, as the reference."""
    return gpytorch.settings.fast_computations(covar_root_decomposition=False, log_prob=False, solves=False)


def log_likelihood(model, likelihood):
    model.train()
    likelihood.train()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    return objective(model(model.train_inputs[0]), model.train_targets) * len(model.train_targets)


@pytest.mark.parametrize("name", KERNELS)
def test_predictions_are_those_of_gpytorch(name):
    model, likelihood = build(name)
    new = torch.tensor(np.random.default_rng(1).uniform(-2, 2, (20, 2)))
    mean, variance, residual = predict(model, likelihood, new)
    model.eval()
    likelihood.eval()
    with torch.no_grad(), exactly():
        expected = model(new)
        torch.testing.assert_close(mean, expected.mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(variance, expected.variance, rtol=1e-4, atol=1e-6)
    assert residual < 1e-10


def test_conjugate_gradients_agree_with_cholesky():
    model, likelihood = build("matern32", n=400)
    new = torch.tensor(np.random.default_rng(1).uniform(-2, 2, (20, 2)))
    mean, variance, _ = predict(model, likelihood, new)
    other, bound, residual = predict(model, likelihood, new, most_exact=100, rank=100)
    assert residual < 1.1e-4
    torch.testing.assert_close(mean, other, atol=1e-3, rtol=0.0)
    assert bool((bound >= variance - 1e-9).all())
    torch.testing.assert_close(bound, variance, rtol=0.02, atol=1e-6)


class Other(gpytorch.models.ExactGP):
    """Mean, kernel and features of any kind."""

    def __init__(self, x, y, likelihood, *, kernel, mean, features):
        super().__init__(x, y, likelihood)
        self.mean_module, self.covar_module, self.features = mean, kernel, features

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(self.features(x)))


def other(name, n=150):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(-2, 2, (n, 2)))
    y = 1.0 + torch.sin(2 * x).sum(1) + 0.2 * torch.tensor(rng.standard_normal(n))
    kernels, scaled = gpytorch.kernels, gpytorch.kernels.ScaleKernel
    torch.manual_seed(0)
    parts = {
        "kernel": scaled(kernels.RBFKernel()),
        "mean": gpytorch.means.ConstantMean(),
        "features": torch.nn.Identity(),
    }
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    if name == "sum, linear mean":
        parts["kernel"] = scaled(kernels.PeriodicKernel()) + scaled(kernels.LinearKernel())
        parts["mean"] = gpytorch.means.LinearMean(2)
    elif name == "one dimension":
        parts["kernel"] = scaled(kernels.MaternKernel(nu=2.5, active_dims=(1,)))
    elif name == "features":
        parts["features"] = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh())
    elif name == "unequal noise":
        noise = torch.tensor(rng.uniform(0.01, 0.1, n))
        likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(noise)
    return Other(x, y, likelihood, **parts).double(), likelihood


OTHERS = ["sum, linear mean", "one dimension", "features", "unequal noise"]


@pytest.mark.parametrize("name", OTHERS)
def test_any_model_is_predicted_as_gpytorch_does(name):
    model, likelihood = other(name)
    assert isinstance(operator_of(model, likelihood), ModelOperator)
    new = torch.tensor(np.random.default_rng(1).uniform(-2, 2, (20, 2)))
    model.eval()
    likelihood.eval()
    with torch.no_grad(), exactly():
        expected = model(new)
        at_expected = (expected.mean, expected.variance)
    for options, tolerance in (({}, 1e-6), ({"most_exact": 10, "rank": 60, "tolerance": 1e-9}, 1e-5)):
        mean, variance, residual = predict(model, likelihood, new, **options)
        torch.testing.assert_close(mean, at_expected[0], rtol=1e-5, atol=tolerance)
        torch.testing.assert_close(variance, at_expected[1], rtol=1e-4, atol=tolerance)
        assert residual < 1.1e-9


def test_the_covariance_of_a_model_is_an_operator():
    model, likelihood = other("sum, linear mean")
    operator = operator_of(model, likelihood)
    matrix = model.covar_module(model.train_inputs[0]).to_dense().detach()
    v, index = (
        torch.randn(150, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        torch.tensor([3, 0, 7]),
    )
    torch.testing.assert_close(operator.dense(), matrix)
    torch.testing.assert_close(operator.matmul(v), matrix @ v)
    torch.testing.assert_close(operator.diag(), matrix.diagonal())
    torch.testing.assert_close(operator.column(5), matrix[:, 5])
    torch.testing.assert_close(operator.columns(index), matrix[:, index])
    torch.testing.assert_close(operator.submatrix(index), matrix[index][:, index])
    torch.testing.assert_close(
        operator.cross(model.train_inputs[0][:9]).transpose().matmul(v[:9]), matrix[:, :9] @ v[:9]
    )


def test_a_model_keeps_what_it_has_cached():
    model, likelihood = other("features")
    model.eval()
    model(model.train_inputs[0][:3] + 0.1)
    cache = model.prediction_strategy
    predict(model, likelihood, model.train_inputs[0][:3])
    assert cache is not None
    assert model.prediction_strategy is cache


def test_fit_ends_at_a_maximum_of_gpytorchs_own_likelihood():
    model, likelihood = build()
    with exactly():
        before = float(log_likelihood(model, likelihood).detach())
        fit(model, likelihood)
        value = log_likelihood(model, likelihood)
        value.backward()
    assert float(value.detach()) > before + 5
    # The prior of the fit is weak: what is left of the slope is less than it can pull, about a nat a unit of log.
    base = model.covar_module.base_kernel
    raw = base.raw_lengthscale.detach()
    slope = base.raw_lengthscale.grad * base.lengthscale.detach() / torch.sigmoid(raw)
    assert float(slope.abs().max()) < 1.5
    assert float(likelihood.noise.detach()) == pytest.approx(0.04, rel=4 / math.sqrt(60))


def test_the_process_has_the_hyperparameters_of_the_model():
    model, likelihood = build("matern52")
    process = process_of(model, likelihood)
    assert process.correlation.name == "matern52"
    assert process.variance == pytest.approx(1.7)
    assert process.noise_variance == pytest.approx(0.04, rel=1e-6)
    np.testing.assert_allclose(process.lengthscale, [0.8, 1.3], rtol=1e-6)


@pytest.mark.slow
def test_preconditioned_likelihood_is_right_where_the_default_is_not():
    """At 900 points with little noise gpytorch's defaults miss by many nats, the preconditioner does not."""
    model, plain = build(n=900, d=3, noise=1e-3)
    with torch.no_grad(), exactly():
        exact = float(log_likelihood(model, plain))
    with torch.no_grad(), gpytorch.settings.cg_tolerance(0.01), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        default = float(log_likelihood(model, plain))
        torch.manual_seed(0)
        other, ours = build(n=900, d=3, noise=1e-3, likelihood=NystromLikelihood(rank=300))
        better = float(log_likelihood(other, ours))
    assert abs(better - exact) < 2.0
    assert abs(better - exact) < 0.1 * abs(default - exact)


def test_gradients_pass_through_the_preconditioned_likelihood():
    model, plain = build(n=900, d=3, noise=1e-2)
    other, ours = build(n=900, d=3, noise=1e-2, likelihood=NystromLikelihood(rank=300))
    with exactly():
        log_likelihood(model, plain).backward()
    with gpytorch.settings.cg_tolerance(0.01), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log_likelihood(other, ours).backward()
    first, second = (torch.cat([p.grad.reshape(-1) for p in m.covar_module.parameters()]) for m in (model, other))
    assert float((first - second).norm() / first.norm()) < 0.01


def test_misuse_is_told():
    model, likelihood = build()
    model.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.PeriodicKernel())
    with pytest.raises(TypeError, match="RBFKernel or MaternKernel"):
        process_of(model, likelihood)
    model, likelihood = build()
    with pytest.raises(TypeError, match="GaussianLikelihood"):
        process_of(model, gpytorch.likelihoods.BernoulliLikelihood())
    with pytest.raises(TypeError, match="GaussianLikelihood or one with fixed noise"):
        predict(model, gpytorch.likelihoods.BernoulliLikelihood(), model.train_inputs[0])
    model.covar_module = gpytorch.kernels.RBFKernel()
    with pytest.raises(TypeError, match="needs a ScaleKernel"):
        fit(model, likelihood)
    with pytest.raises(TypeError, match="active_dims"):
        fit(*other("one dimension"))
    with pytest.raises(TypeError, match="applies the kernel to unchanged inputs"):
        fit(*other("features"))
