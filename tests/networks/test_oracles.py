"""Against curvlinops and laplace-torch, where they are installed (the extra "oracles")."""

import pytest
import torch
from torch import nn

from surrogate.networks.factors import kronecker_factors
from surrogate.networks.likelihoods import Categorical, Gaussian


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(*modules):
    model = nn.Sequential(*modules).double()
    for k, p in enumerate(model.parameters()):
        p.data = 0.5 * normal(*p.shape, seed=100 + k)
    return model


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
