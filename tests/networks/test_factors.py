import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian
from torch.func import functional_call, jacrev, vmap

from surrogate.networks.factors import Kronecker, kronecker_factors, pass_factors
from surrogate.networks.layers import curved_layers, matrix_gradient, record
from surrogate.networks.likelihoods import Bernoulli, Categorical, Gaussian
from tests.networks.small import network, normal

LIKELIHOODS = [Gaussian(0.3), Categorical(), Bernoulli(0.5)]


def fisher(model, x, likelihood):
    """The mean over rows of J^T H J, with the parameters in the order of ``named_parameters``, by whole Jacobians."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def single(values, row):
        return functional_call(model, values, (row[None],))[0]

    jacobians = vmap(jacrev(single), (None, 0))(parameters, x)
    j = torch.cat([value.flatten(2) for value in jacobians.values()], 2)
    roots = torch.stack(likelihood.roots(model(x).detach()), 1)
    half = torch.einsum("nrc,ncp->nrp", roots, j).flatten(0, 1)
    return half.T @ half / len(x)


def as_weight_then_bias(factors, has_bias=True):
    """A (x) G in the order of torch's parameters: the weight by rows, then the bias."""
    full = torch.kron(factors.gradients, factors.inputs)
    a = len(factors.inputs)
    index = torch.arange(len(full))
    last = index % a == a - 1
    order = torch.cat([index[~last], index[last]]) if has_bias else index
    return full[order][:, order]


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_roots_and_curvature_are_the_hessian_in_the_outputs(likelihood):
    f = normal(1, 3)
    y = {Categorical: torch.tensor([1])}.get(type(likelihood), torch.tensor([[1.0, 0.0, 1.0]]).double())
    h = hessian(lambda value: likelihood.negative_log_density(value, y).sum(), f)[0, :, 0, :]
    roots = torch.cat(likelihood.roots(f))
    torch.testing.assert_close(roots.T @ roots, h, rtol=1e-12, atol=1e-12)
    a, b = normal(1, 3, seed=1), normal(1, 3, seed=2)
    torch.testing.assert_close(likelihood.curvature(f, a, b), (a @ h @ b.T)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_sampled_gradients_have_the_hessian_as_covariance(likelihood):
    n = 40_000
    f = normal(1, 3).expand(n, 3)
    g = likelihood.sampled_gradients(f, torch.Generator().manual_seed(1))
    roots = torch.cat(likelihood.roots(f[:1]))
    products = g[:, :, None] * g[:, None, :]
    for value, expected in ((products, roots.T @ roots), (g, torch.zeros(3).double())):
        error = (value.mean(0) - expected).abs() / (value.std(0) / n**0.5).clamp(min=1e-12)
        assert error.max() < 4.5


@pytest.mark.parametrize("bias", [True, False])
def test_exact_for_one_linear_layer_with_normal_targets(bias):
    model, x = network(nn.Linear(4, 3, bias=bias)), normal(7, 4)
    likelihood = Gaussian(0.3)
    (factors,), n = kronecker_factors(model, [x[:3], x[3:]], likelihood)
    exact = fisher(model, x, likelihood)
    assert n == 7
    torch.testing.assert_close(as_weight_then_bias(factors, bias), exact, rtol=1e-12, atol=1e-12)


def test_inverse_is_the_exact_inverse_for_one_linear_layer():
    model, x, gradient = network(nn.Linear(4, 1)), normal(9, 4), normal(1, 5, seed=3)
    (factors,), _ = kronecker_factors(model, [x], Gaussian())
    solved = factors.damped(1e-16).solve(gradient)
    expected = torch.linalg.solve(fisher(model, x, Gaussian()), gradient[0])
    torch.testing.assert_close(solved[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_blocks_of_a_single_row_are_exact(likelihood):
    """One row and one root: the mean of products is the product of means."""
    model, x = network(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), normal(1, 4)
    exact = fisher(model, x, likelihood)
    factors, _ = kronecker_factors(model, [x], likelihood)
    start = 0
    for layer, factor in zip(curved_layers(model), factors, strict=True):
        size = sum(p.numel() for p in layer.parameters)
        block = exact[start : start + size, start : start + size]
        torch.testing.assert_close(as_weight_then_bias(factor), block, rtol=1e-10, atol=1e-12)
        start += size


CONVOLUTIONS = [
    (nn.Conv2d(2, 3, 3, stride=2, padding=1, dilation=1), (5, 2, 7, 6)),
    (nn.Conv1d(2, 3, 3, stride=1, padding=2, dilation=2), (5, 2, 9)),
]


@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS, ids=["2d", "1d"])
def test_patches_and_gradients_of_a_convolution(module, shape):
    model = network(module)
    (layer,), x = curved_layers(model), normal(*shape)
    taps: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _, args, output: taps.append(output))
    passed = record(nn.Sequential(model, nn.Flatten()), [layer], x)
    handle.remove()
    rows = passed.inputs[0] @ matrix_gradient(layer, layer.parameters).T
    torch.testing.assert_close(rows, layer.outputs(taps[0]), rtol=1e-12, atol=1e-12)
    direction = normal(*passed.output.shape, seed=5)
    (value,) = passed.gradients(direction)
    gradient = torch.einsum("ntb,nta->ba", value, passed.inputs[0])
    (model(x).flatten(1) * direction).sum().backward()
    torch.testing.assert_close(gradient, matrix_gradient(layer, [p.grad for p in layer.parameters]))


@pytest.mark.slow
def test_sampled_factors_are_right_in_the_mean():
    model, x = network(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3)), normal(4, 3)
    exact, _ = kronecker_factors(model, [x], Categorical())
    generator, draws = torch.Generator().manual_seed(0), 2000
    layers, values = curved_layers(model), []
    for _ in range(draws):
        passed = record(model, layers, x)
        values.append(pass_factors(passed, Categorical(), sampled=True, generator=generator)[0].gradients)
    values = torch.stack(values)
    error = (values.mean(0) - exact[0].gradients).abs() / (values.std(0) / draws**0.5)
    assert error.max() < 4.5


def test_activations_that_write_in_place():
    plain = network(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    inplace = network(nn.Linear(3, 2), nn.ReLU(inplace=True), nn.Linear(2, 1))
    for a, b in zip(*(kronecker_factors(m, [normal(6, 3)], Gaussian())[0] for m in (plain, inplace)), strict=True):
        assert torch.equal(a.gradients, b.gradients)
        assert torch.equal(a.inputs, b.inputs)


def test_scales_are_those_of_the_tangent_parametrisation():
    model, x = network(nn.Linear(3, 2)), normal(6, 3)
    (plain,), _ = kronecker_factors(model, [x], Gaussian())
    (scaled,), _ = kronecker_factors(model, [x], Gaussian(), scales=[(0.5, 2.0)])
    c = torch.tensor([0.5, 0.5, 0.5, 2.0]).double()
    torch.testing.assert_close(scaled.inputs, plain.inputs * c * c[:, None])


def test_whitened_rows_have_the_inverse_as_inner_product():
    a, g = normal(6, 3), normal(6, 2, seed=1)
    damped = Kronecker(a.T @ a / 6, g.T @ g / 6).damped(0.1)
    u, v = damped.whitened(a, g)
    matrices = g[:, :, None] * a[:, None, :]
    solved = torch.stack([damped.solve(m) for m in matrices])
    torch.testing.assert_close((u @ u.T) * (v @ v.T), torch.einsum("nba,mba->nm", matrices, solved))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Tanh()), "got none"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "got others in 1.weight, 1.bias: freeze the rest"),
        (nn.Conv2d(2, 2, 3, groups=2), "must have one group"),
        (nn.Conv2d(2, 2, 3, padding="same"), "zero padding of fixed width"),
    ],
    ids=["no layer", "others", "groups", "padding"],
)
def test_what_cannot_be_treated_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        curved_layers(model)


def test_misuse_is_refused():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="must be trained together"):
        curved_layers(model)
    shared = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="must be used exactly once per forward pass, was used 2 times"):
        kronecker_factors(nn.Sequential(shared, shared), [torch.ones(1, 2)], Gaussian())
    with pytest.raises(ValueError, match="at least one batch"):
        kronecker_factors(nn.Linear(2, 2), [], Gaussian())
    with pytest.raises(ValueError, match="outputs must have shape"):
        kronecker_factors(nn.Sequential(nn.Conv1d(1, 1, 1)), [torch.ones(2, 1, 3)], Gaussian())
    with pytest.raises(ValueError, match="variance must be positive, got 0"):
        Gaussian(0.0)
    with pytest.raises(ValueError, match="not positive definite: use a larger damping"):
        Kronecker(-torch.eye(2), torch.eye(2)).damped(1e-20)
