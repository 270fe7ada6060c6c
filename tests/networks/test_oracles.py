"""Against curvlinops and laplace-torch, where they are installed (the extra "oracles")."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from surrogate.networks.factors import kronecker_factors
from surrogate.networks.laplace_posterior import laplace
from surrogate.networks.likelihoods import Categorical, Gaussian
from tests.networks.small import network, normal


def dense(c):
    return network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, c))


def convolutional():
    return network(nn.Conv2d(1, 3, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


CLASSES = torch.arange(12) % 3
CASES = {
    "one output": (dense(1), normal(12, 4), normal(12, 1, seed=1), nn.MSELoss(), Gaussian(0.5)),
    "three outputs": (dense(3), normal(12, 4), normal(12, 3, seed=1), nn.MSELoss(), Gaussian(1.5)),
    "classes": (dense(3), normal(12, 4), CLASSES, nn.CrossEntropyLoss(), Categorical()),
    "convolution": (convolutional(), normal(12, 1, 8, 8), CLASSES, nn.CrossEntropyLoss(), Categorical()),
}


@pytest.mark.parametrize("case", CASES)
def test_factors_are_those_of_curvlinops(case):
    curvlinops = pytest.importorskip("curvlinops")
    model, x, y, loss, likelihood = CASES[case]
    operator = curvlinops.KFACLinearOperator(
        model,
        loss,
        list(model.parameters()),
        [(x, y)],
        fisher_type="type-2",
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    operator.compute_kronecker_factors()
    ours, _ = kronecker_factors(model, [x], likelihood)
    for (name, a), factors in zip(operator._input_covariances.items(), ours, strict=True):
        torch.testing.assert_close(factors.inputs, a, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(factors.gradients, operator._gradient_covariances[name], rtol=1e-12, atol=1e-12)


LAPLACE = {
    "one output": ("regression", "all", "kronecker", 0.3),
    "three outputs": ("regression", "all", "kronecker", 0.3),
    "classes": ("classification", "all", "kronecker", 1.0),
    "convolution": ("classification", "all", "kronecker", 1.0),
    "last layer": ("regression", "last_layer", "last-layer", 0.3),
    "last layer of classes": ("classification", "last_layer", "last-layer", 1.0),
}


@pytest.mark.parametrize("case", LAPLACE)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_posterior_is_that_of_laplace_torch(case):
    theirs = pytest.importorskip("laplace")
    likelihood, subset, structure, noise = LAPLACE[case]
    name = {"last layer": "one output", "last layer of classes": "classes"}.get(case, case)
    model, x, y, *_ = CASES[name]
    loader = DataLoader(TensorDataset(x, y), batch_size=5)
    other = theirs.Laplace(
        model,
        likelihood,
        subset_of_weights=subset,
        hessian_structure="kron" if subset == "all" else "full",
        prior_precision=0.7,
        sigma_noise=noise,
        backend=theirs.curvature.CurvlinopsGGN,
    )
    other.fit(loader)
    classes = likelihood == "classification"
    ours = laplace(
        model,
        loader,
        likelihood=likelihood,
        structure=structure,
        prior_precision=0.7,
        noise=None if classes else noise**2,
        joint_bias=subset != "all",
    )
    mean, covariance = other._glm_predictive_distribution(x + 0.1)
    f, v = ours.outputs(x + 0.1)
    torch.testing.assert_close(f, mean.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(v, covariance.detach(), rtol=1e-6, atol=1e-6)
    assert ours.log_marginal_likelihood() == pytest.approx(float(other.log_marginal_likelihood()), rel=1e-8)
    if classes:
        torch.testing.assert_close(ours.probabilities(x), other(x, pred_type="glm", link_approx="probit").detach())
