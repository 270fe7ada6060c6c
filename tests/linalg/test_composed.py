import numpy as np
import pytest
import torch

from surrogate.gp.kernels import STATIONARY
from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.trended import Hyperparameters, Trended
from surrogate.linalg.composed import Correlated, PosteriorAccess, Scaled, Summed, scaled
from surrogate.linalg.operators import DenseOperator, FeatureOperator

N = 12


def tensor(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def correlations(z):
    """Gaussian ones between points z with shape (n, d)."""
    return torch.exp(-0.5 * (z[:, None] - z).square().sum(-1))


FEATURES, POINTS, WEIGHTS = tensor(N, 4), tensor(N, 3, seed=1), tensor(N, seed=2).exp()
MATRIX = tensor(N, N, seed=3) @ tensor(N, N, seed=3).T
CORRELATIONS = correlations(POINTS)
HALF, LEFT = 0.1 * tensor(5, N, seed=4), tensor(2, N, seed=5)

INSTANCES = {
    "dense": (DenseOperator(MATRIX), MATRIX),
    "features": (FeatureOperator(FEATURES), FEATURES @ FEATURES.T),
    "posterior": (
        PosteriorAccess(DenseOperator(CORRELATIONS), HALF, LEFT),
        CORRELATIONS - HALF.T @ HALF + LEFT.T @ LEFT,
    ),
    "correlated": (Correlated(STATIONARY["rbf"].function, POINTS, 2.5), 2.5 * CORRELATIONS),
    "scaled twice": (
        scaled(scaled(DenseOperator(MATRIX), WEIGHTS), WEIGHTS.flip(0)),
        (WEIGHTS * WEIGHTS.flip(0))[:, None] * MATRIX * WEIGHTS * WEIGHTS.flip(0),
    ),
    "scaled": (Scaled(DenseOperator(MATRIX), WEIGHTS), WEIGHTS[:, None] * MATRIX * WEIGHTS),
    "sum": (Summed((DenseOperator(MATRIX), FeatureOperator(FEATURES))), MATRIX + FEATURES @ FEATURES.T),
    "scaled sum": (
        Scaled(Summed((DenseOperator(CORRELATIONS), FeatureOperator(FEATURES))), WEIGHTS),
        WEIGHTS[:, None] * (CORRELATIONS + FEATURES @ FEATURES.T) * WEIGHTS,
    ),
}


@pytest.fixture(params=INSTANCES)
def instance(request):
    return INSTANCES[request.param]


def test_columns_are_those_of_the_dense_matrix(instance):
    gram, dense = instance
    columns = torch.stack([gram.column(i) for i in range(N)], 1)
    torch.testing.assert_close(columns, dense, rtol=1e-10, atol=1e-10)


def test_diagonal_is_that_of_the_dense_matrix(instance):
    gram, dense = instance
    torch.testing.assert_close(gram.diag(), dense.diagonal(), rtol=1e-10, atol=1e-10)


def test_reading_changes_nothing(instance):
    gram, _ = instance
    before = gram.diag().clone()
    gram.column(3)
    torch.testing.assert_close(gram.diag(), before, rtol=0, atol=0)


def test_a_posterior_is_the_covariance_of_its_process():
    """A Gram access made of the features of a process holds its covariance in units of the squared scale."""
    rng = np.random.default_rng(0)
    u, x = rng.standard_normal((20, 3)), rng.standard_normal((N, 3))
    hyper = Hyperparameters(0.0, np.log(1e-3), np.log([0.7, 1.0, 2.0]), np.log(3.0))
    model = Trended("rbf", Polynomial()).condition(Data.of(u, -(u**2).sum(1)), hyper)
    gram = PosteriorAccess(
        DenseOperator(correlations(torch.as_tensor(x / np.exp(hyper.log_lengthscale)))), *model.features(x)
    )
    columns = torch.stack([gram.column(i) for i in range(N)], 1).numpy()
    np.testing.assert_allclose(model.scale**2 * columns, model.covariance(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(model.scale**2 * gram.diag().numpy(), model.variance(x), rtol=1e-9, atol=1e-9)


def test_variances_are_never_negative():
    """Rounding may take more from the prior than it has."""
    gram = PosteriorAccess(DenseOperator(CORRELATIONS), torch.full((1, N), 1.0 + 1e-12, dtype=torch.float64), 0 * LEFT)
    assert bool((gram.diag() >= 0).all())
