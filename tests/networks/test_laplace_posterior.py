import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.utils.data import DataLoader, TensorDataset

import surrogate
from surrogate.networks.factors import kronecker_factors
from surrogate.networks.laplace_posterior import _negative_evidence, laplace
from surrogate.networks.layers import curved_layers
from surrogate.networks.likelihoods import Categorical, Gaussian
from tests.networks.small import network, normal


def jacobian(model, x):
    """With shape (n, c, p), in the order of ``parameters``."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    parts = vmap(jacrev(lambda values, row: functional_call(model, values, (row[None],))[0]), (None, 0))(parameters, x)
    return torch.cat([part.flatten(2) for part in parts.values()], 2)


def least_squares(x, y, precision, noise):
    """A linear model at the maximum of its posterior."""
    design = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    gram = design.T @ design / noise + precision * torch.eye(design.shape[1]).double()
    solution = torch.linalg.solve(gram, design.T @ y / noise)
    model = network(nn.Linear(x.shape[1], y.shape[1]))
    model[0].weight.data, model[0].bias.data = solution[:-1].T.clone(), solution[-1].clone()
    return model, design


@pytest.mark.parametrize("structure", ["kronecker", "last-layer"])
def test_bayesian_linear_regression_is_exact(structure):
    x, y, precision, noise = normal(15, 3), normal(15, 2, seed=1), 0.7, 0.3
    model, design = least_squares(x, y, precision, noise)
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    posterior = laplace(model, loader, structure=structure, prior_precision=precision, noise=noise)
    prior = design @ design.T / precision + noise * torch.eye(15).double()
    expected = sum(multivariate_normal(np.zeros(15), prior.numpy()).logpdf(y[:, k].numpy()) for k in range(2))
    assert posterior.log_marginal_likelihood() == pytest.approx(expected, rel=1e-12)
    new = normal(6, 3, seed=2)
    rows = torch.cat([new, torch.ones(6, 1).double()], 1)
    inverse = torch.linalg.inv(design.T @ design / noise + precision * torch.eye(4).double())
    mean, variance = posterior.predict(new)
    expected_variance = ((rows @ inverse) * rows).sum(1) + noise
    torch.testing.assert_close(mean, model(new).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(variance, expected_variance[:, None].expand(6, 2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(posterior.outputs(new)[1][:, 0, 1], torch.zeros(6).double(), atol=1e-12, rtol=0)


def test_marginal_likelihood_finds_the_noise_and_the_prior():
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.standard_normal((4000, 40)))
    weights = 2.0 * torch.from_numpy(generator.standard_normal((41, 1)))
    y = x @ weights[:-1] + weights[-1] + 0.3 * torch.from_numpy(generator.standard_normal((4000, 1)))
    model, _ = least_squares(x, y, 0.25, 0.09)
    posterior = surrogate.laplace(model, [(x, y)])
    assert posterior.noise**0.5 == pytest.approx(0.3, rel=4 * (1 / 8000) ** 0.5)
    size = float((weights.square().sum() / 41).sqrt())
    assert posterior.prior_precision[0] ** -0.5 == pytest.approx(size, rel=1e-3)


CASES = {
    "dense": (network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), normal(8, 4)),
    "no bias": (network(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)), normal(8, 4)),
    "convolution": (network(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)), normal(8, 2, 5)),
}


@pytest.mark.parametrize("joint_bias", [True, False])
@pytest.mark.parametrize("classes", [True, False], ids=["classes", "regression"])
@pytest.mark.parametrize("case", CASES)
def test_covariance_by_whole_matrices(case, classes, joint_bias):
    """J V J^T with V the inverse of the matrix of all blocks, written out."""
    (model, x), delta, noise = CASES[case], 0.6, 1.0 if classes else 0.2
    y = torch.arange(8) % 3 if classes else normal(8, 3, seed=1)
    posterior = laplace(
        model,
        [(x, y)],
        likelihood="classification" if classes else "regression",
        prior_precision=delta,
        noise=None if classes else noise,
        joint_bias=joint_bias,
    )
    factors, n = kronecker_factors(model, [x], Categorical() if classes else Gaussian(noise))
    blocks, log_det = [], 0.0
    for layer, factor in zip(curved_layers(model), factors, strict=True):
        full, a = n * torch.kron(factor.gradients, factor.inputs), len(factor.inputs)
        if layer.bias is not None:
            index = torch.arange(len(full))
            last = index % a == a - 1
            order = torch.cat([index[~last], index[last]])
            full = full[order][:, order]
            if not joint_bias:
                k = int((~last).sum())
                full[:k, k:] = full[k:, :k] = 0.0
        full = full + delta * torch.eye(len(full)).double()
        log_det += float(torch.logdet(full))
        blocks.append(full)
    j, new = jacobian(model, x + 0.1), x + 0.1
    inverse = torch.linalg.inv(torch.block_diag(*blocks))
    mean, covariance = posterior.outputs(new)
    torch.testing.assert_close(mean, model(new).detach())
    torch.testing.assert_close(covariance, j @ inverse @ j.transpose(1, 2), rtol=1e-10, atol=1e-12)
    likelihood = Categorical() if classes else Gaussian(noise)
    squares, count = sum(float(p.detach().square().sum()) for p in model.parameters()), len(inverse)
    expected = -float(likelihood.negative_log_density(model(x).detach(), y).sum())
    expected -= 0.5 * (delta * squares - count * math.log(delta) + log_det)
    assert posterior.log_marginal_likelihood() == pytest.approx(expected, rel=1e-10)


def test_last_layer_of_classes_is_the_whole_gauss_newton_matrix():
    (model, x), y, delta = CASES["dense"], torch.arange(8) % 3, 0.6
    posterior = laplace(
        model,
        [(x[:3], y[:3]), (x[3:], y[3:])],
        likelihood="classification",
        structure="last-layer",
        prior_precision=delta,
    )
    j = jacobian(model, x)[:, :, -18:]
    roots = torch.stack(Categorical().roots(model(x).detach()), 1)
    half = torch.einsum("nrc,ncp->nrp", roots, j).flatten(0, 1)
    inverse = torch.linalg.inv(half.T @ half + delta * torch.eye(18).double())
    torch.testing.assert_close(posterior.outputs(x)[1], j @ inverse @ j.transpose(1, 2), rtol=1e-10, atol=1e-12)


def test_scales_are_another_prior():
    """W = c V with a prior of precision delta for V is a prior of precision delta / c^2 for W."""
    model, x, y = network(nn.Linear(3, 1, bias=False)), normal(9, 3), normal(9, 1, seed=1)
    scaled = laplace(model, [(x, y)], prior_precision=0.5, noise=0.2, scales=[(0.1, 1.0)])
    plain = laplace(model, [(x, y)], prior_precision=50.0, noise=0.2)
    torch.testing.assert_close(scaled.predict(x)[1], plain.predict(x)[1])
    assert scaled.log_marginal_likelihood() == pytest.approx(plain.log_marginal_likelihood(), rel=1e-12)


@pytest.mark.parametrize("classes", [True, False])
def test_gradient_of_the_evidence_by_differences(classes):
    (model, x), y = CASES["dense"], torch.arange(8) % 3 if classes else normal(8, 3, seed=1)
    posterior = laplace(model, [(x, y)], likelihood="classification" if classes else "regression")
    theta = np.array([0.3, -0.4] if classes else [0.3, -0.4, -1.0])
    slope = _negative_evidence(theta, posterior)[1]
    for k in range(len(theta)):
        step = 1e-5 * np.eye(len(theta))[k]
        ends = [_negative_evidence(theta + sign * step, posterior)[0] for sign in (1, -1)]
        assert slope[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-7)


def test_a_precision_for_each_block_has_more_evidence():
    (model, x), y = CASES["dense"], normal(8, 3, seed=1)
    one = laplace(model, [(x, y)])
    each = one.maximised(per_block=True)
    assert len(set(one.prior_precision)) == 1
    assert each.log_marginal_likelihood() >= one.log_marginal_likelihood() - 1e-9
    for other in (one.with_hyperparameters(noise=2 * one.noise), one.with_hyperparameters(prior_precision=9.0)):
        assert other.log_marginal_likelihood() < one.log_marginal_likelihood()


def test_frozen_layers_are_taken_as_known():
    model, x, y = network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)), normal(9, 4), normal(9, 1, seed=1)
    settings = {"prior_precision": 1.0, "noise": 0.1}
    expected = laplace(model, [(x, y)], structure="last-layer", **settings).predict(x)[1]
    model[0].requires_grad_(False)
    torch.testing.assert_close(laplace(model, [(x, y)], **settings).predict(x)[1], expected)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]


def test_probabilities_are_less_sure_than_the_network():
    (model, x), y = CASES["convolution"], torch.arange(8) % 3
    p = laplace(model, [(x, y)], likelihood="classification").probabilities(x)
    torch.testing.assert_close(p.sum(1), torch.ones(8).double())
    assert bool((p.amax(1) <= model(x).softmax(1).amax(1) + 1e-12).all())


def test_misuse_is_refused():
    model, x, y = network(nn.Linear(2, 2)), normal(4, 2), normal(4, 2, seed=1)
    with pytest.raises(ValueError, match="likelihood must be 'regression' or 'classification', got 'poisson'"):
        laplace(model, [(x, y)], likelihood="poisson")
    with pytest.raises(ValueError, match="structure must be one of kronecker"):
        laplace(model, [(x, y)], structure="diagonal")
    with pytest.raises(ValueError, match="at least one batch"):
        laplace(model, [])
    with pytest.raises(ValueError, match=r"shape of the outputs, \(4, 2\), got \(4, 1\)"):
        laplace(model, [(x, y[:, :1])])
    with pytest.raises(ValueError, match="one pair of scales for each of the 1 layers, got 2"):
        laplace(model, [(x, y)], scales=[(1, 1), (1, 1)])
    with pytest.raises(ValueError, match="not finite"):
        laplace(model, [(x, y * torch.nan)])
    posterior = laplace(model, [(x, y)])
    with pytest.raises(ValueError, match="expected positive precisions, one or 1"):
        posterior.with_hyperparameters(prior_precision=[1.0, 2.0])
    with pytest.raises(ValueError, match="not logits of classes: use predict"):
        posterior.probabilities(x)
    classes = laplace(model, [(x, torch.tensor([0, 1, 0, 1]))], likelihood="classification")
    with pytest.raises(ValueError, match="logits of classes: use probabilities"):
        classes.predict(x)
    with pytest.raises(ValueError, match="classes have no noise"):
        classes.with_hyperparameters(noise=2.0)
    wide = network(nn.Linear(1100, 2))
    with pytest.raises(ValueError, match="up to 2048 parameters of the last layer, got 2202"):
        laplace(wide, [(normal(2, 1100), torch.tensor([0, 1]))], likelihood="classification", structure="last-layer")
