"""Laws of features, over a table of all kinds."""

import warnings

import pytest
import torch
from torch import nn

from surrogate.linalg.operators import DenseOperator
from surrogate.selection.composed import PosteriorFeatures, ProductFeatures, SumFeatures, WeightedFeatures
from surrogate.selection.features import (
    DenseFeatures,
    KernelFeatures,
    covariance_features,
    linear_features,
    prediction_features,
)
from surrogate.selection.gradients import FactoredFeatures, GradientFeatures, last_layer_features
from surrogate.selection.tangent import LaplaceKernel

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, as gpytorch is imported
    import gpytorch


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(width=6):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, 4), nn.SiLU(), nn.Linear(4, 1)).double()


X = normal(11, 3)
KINDS = {
    "dense": DenseFeatures(normal(11, 5)),
    "factored": FactoredFeatures(((normal(11, 4), normal(11, 2, seed=1)), (normal(11, 3), normal(11, 1)))),
    "gradient": GradientFeatures.of(network(), X),
    "gradient by blocks": GradientFeatures(network().requires_grad_(False), X, ((0.5, 2.0),) * 3, None, 4),
    "last layer": last_layer_features(network(), X),
    "kernel": KernelFeatures(LaplaceKernel(), X),
    "covariance": covariance_features(normal(11, 11) @ normal(11, 11).T),
    "posterior": PosteriorFeatures(KernelFeatures(LaplaceKernel(), X), 0.1 * normal(11, 2)),
    "weighted": WeightedFeatures(DenseFeatures(normal(11, 5)), normal(11).abs()),
    "scaled": WeightedFeatures(GradientFeatures.of(network(), X), torch.tensor(3.0, dtype=torch.float64)),
    "sum": SumFeatures((DenseFeatures(normal(11, 5)), GradientFeatures.of(network(), X))),
    "product": ProductFeatures(DenseFeatures(normal(11, 5)), DenseFeatures(normal(11, 2))),
    "predictions": prediction_features(normal(6, 11)),
}


@pytest.fixture(params=KINDS)
def features(request):
    return KINDS[request.param]


def test_the_diagonal_is_that_of_the_kernel(features):
    gram = features.gram(features)
    assert features.n == 11
    assert gram.shape == (11, 11)
    torch.testing.assert_close(features.diag(), gram.diagonal(), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(gram, gram.T)


def test_subsets_are_blocks_of_the_kernel(features):
    gram, some = features.gram(features), torch.tensor([7, 0, 3])
    part = features.subset(some)
    assert part.n == 3
    torch.testing.assert_close(part.gram(features), gram[some], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(features.subset(slice(2, 5)).diag(), features.diag()[2:5])


def test_explicit_features_give_the_kernel(features):
    if features.dim is None:
        with pytest.raises(ValueError, match="has no explicit features"):
            features.dense()
        with pytest.raises(ValueError, match="has no explicit features"):
            features.projector(8, torch.Generator())
        return
    phi = features.dense()
    assert phi.shape == (11, features.dim)
    torch.testing.assert_close(phi @ phi.T, features.gram(features))


def test_storing_changes_no_number(features):
    torch.testing.assert_close(features.stored().gram(features.stored()), features.gram(features))


def test_precision(features):
    single = features.to(torch.float32)
    assert single.dtype == torch.float32
    gram = single.gram(single)
    assert gram.dtype == torch.float32
    scale = float(features.diag().max())
    torch.testing.assert_close(gram.double(), features.gram(features), rtol=1e-4, atol=1e-4 * scale)


def test_gradients_pass_by_blocks_as_at_once():
    whole = GradientFeatures.of(network(), X, scales=[(0.5, 2.0)] * 3)
    torch.testing.assert_close(KINDS["gradient by blocks"].gram(whole), whole.gram(whole))
    generator = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    a, b = (f.projector(8, generator())(f) for f in (KINDS["gradient by blocks"], whole))
    torch.testing.assert_close(a, b)


def test_training_later_changes_no_features():
    net = network()
    features = GradientFeatures.of(net, X)
    before = features.gram(features)
    with torch.no_grad():
        net[0].weight.add_(1.0)
    torch.testing.assert_close(features.gram(features), before)


def test_last_layer_features_are_the_last_hidden_units():
    net = network()
    torch.testing.assert_close(
        last_layer_features(net, X, scales=[(1.0, 1.0), (1.0, 1.0), (0.5, 2.0)]).dense(),
        torch.cat([0.5 * net[:4](X).detach(), torch.full((11, 1), 2.0, dtype=torch.float64)], 1),
    )


def test_predictions_have_their_empirical_covariance():
    samples = normal(6, 11)
    features = prediction_features(samples)
    torch.testing.assert_close(features.gram(features), torch.cov(samples.T))


@pytest.mark.parametrize("samples", [normal(1, 5), normal(5)], ids=["one", "flat"])
def test_predictions_of_one_model_are_refused(samples):
    with pytest.raises(ValueError, match="m >= 2"):
        prediction_features(samples)


def test_linear_features_are_the_inputs():
    torch.testing.assert_close(linear_features(X).gram(linear_features(X)), X @ X.T)


@pytest.mark.parametrize("matrix", [torch.arange(6).reshape(2, 3), torch.ones(3)], ids=["integers", "vector"])
def test_what_is_no_feature_matrix_is_refused(matrix):
    with pytest.raises(ValueError, match="must be real with shape"):
        DenseFeatures(matrix)


def test_covariances_come_in_several_forms():
    k = normal(11, 11) @ normal(11, 11).T + torch.eye(11, dtype=torch.float64)
    forms = [k, DenseOperator(k), gpytorch.distributions.MultivariateNormal(torch.zeros(11, dtype=torch.float64), k)]
    for form in forms:
        features = covariance_features(form)
        torch.testing.assert_close(features.gram(features.subset(slice(0, 4))), k[:, :4])
    with pytest.raises(TypeError, match="got str"):
        covariance_features("posterior")


def test_the_posterior_of_a_gpytorch_model():
    class Model(gpytorch.models.ExactGP):
        def __init__(self, x, y):
            super().__init__(x, y, gpytorch.likelihoods.GaussianLikelihood().double())
            self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), gpytorch.kernels.RBFKernel().double()

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    model = Model(normal(8, 3, seed=1), normal(8, seed=2)).double().eval()
    with torch.no_grad():
        posterior = model(X)
        features = covariance_features(posterior)
        torch.testing.assert_close(features.gram(features), posterior.covariance_matrix, rtol=1e-5, atol=1e-5)
