"""Kernels of networks against automatic differentiation, wide random networks and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from surrogate.selection.tangent import LaplaceKernel, NNGPKernel, NTKernel, frozen_copy, layer_factors, linear_layers


def points(n=12, d=3, seed=0):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(activation, *, outputs=1, bias=True, width=7):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Linear(3, width, bias=bias),
            activation,
            nn.Linear(width, 5),
            activation,
            nn.Linear(5, outputs, bias=bias),
        )
    return net.double()


def jacobian_gram(net, x, scales=None):
    """Gram matrix of the gradients by torch.func, parameters times their scales, summed over outputs."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    jacobian = vmap(jacrev(lambda p, row: functional_call(net, p, row[None])[0]), (None, 0))(parameters, x)
    total = 0.0
    layers = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    for name, j in jacobian.items():
        layer, kind = name.rsplit(".", 1)
        c = 1.0 if scales is None else scales[layers.index(layer)][kind == "bias"]
        j = c * j.flatten(2)
        total = total + torch.einsum("nkp,mkp->nm", j, j)
    return total


ACTIVATIONS = [nn.ReLU(), nn.SiLU(), nn.Tanh(), nn.GELU(), nn.ReLU(inplace=True), nn.Softplus()]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("outputs", [1, 3])
def test_factors_give_the_gram_matrix_of_the_jacobian(activation, outputs):
    net, x = network(activation, outputs=outputs), points()
    gram = sum((u @ u.T) * (v @ v.T) for u, v in layer_factors(frozen_copy(net), x))
    torch.testing.assert_close(gram, jacobian_gram(frozen_copy(net), x), rtol=1e-12, atol=1e-12)


def test_in_single_precision_too():
    net, x = network(nn.SiLU(), width=64).float(), points().float()
    gram = sum((u @ u.T) * (v @ v.T) for u, v in layer_factors(frozen_copy(net), x))
    exact = jacobian_gram(net.double(), x.double())
    torch.testing.assert_close(gram.double(), exact, rtol=1e-5, atol=1e-5 * float(exact.max()))


def test_scales_are_those_of_the_tangent_parametrisation():
    net, x, scales = network(nn.SiLU()), points(), [(0.3, 0.7), (2.0, 0.0), (0.5, 1.5)]
    gram = sum((u @ u.T) * (v @ v.T) for u, v in layer_factors(frozen_copy(net), x, scales=scales))
    torch.testing.assert_close(gram, jacobian_gram(frozen_copy(net), x, scales))


def test_layers_without_a_bias():
    net, x = network(nn.Tanh(), bias=False), points()
    factors = layer_factors(frozen_copy(net), x)
    assert [u.shape[1] for u, _ in factors] == [3, 8, 5]
    gram = sum((u @ u.T) * (v @ v.T) for u, v in factors)
    torch.testing.assert_close(gram, jacobian_gram(frozen_copy(net), x))


def test_the_last_layer_sees_its_inputs_and_a_one():
    net, x = network(nn.ReLU()), points()
    ((u, v),) = layer_factors(frozen_copy(net), x, last=1)
    torch.testing.assert_close(u, torch.cat([net[:4](x).detach(), torch.ones(12, 1, dtype=torch.float64)], 1))
    assert torch.equal(v, torch.ones(12, 1, dtype=torch.float64))


class Residual(nn.Module):
    """Not a chain, and written without a Sequential."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)
        self.shortcut = nn.Linear(3, 1)

    def forward(self, x):
        return (self.second(torch.sin(self.first(x))) + self.shortcut(x))[:, 0]


def test_any_module_of_linear_layers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Residual().double()
    x = points()
    gram = sum((u @ u.T) * (v @ v.T) for u, v in layer_factors(frozen_copy(net), x))
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    jacobian = vmap(jacrev(lambda p, row: functional_call(net, p, row[None])[0]), (None, 0))(parameters, x)
    j = torch.cat([part.reshape(len(x), -1) for part in jacobian.values()], 1)
    torch.testing.assert_close(gram, j @ j.T)


@torch.no_grad()
def test_factors_where_gradients_are_switched_off():
    ((u, v),) = layer_factors(frozen_copy(network(nn.ReLU())), points(), last=1)
    assert u.shape == (12, 6)
    assert torch.equal(v, torch.ones(12, 1, dtype=torch.float64))


def test_the_network_of_the_caller_stays_as_it_was():
    net, x = network(nn.ReLU(inplace=True)), points()
    net.train()
    layer_factors(frozen_copy(net), x)
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert net[1].inplace
    assert not net[0]._forward_hooks


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(torch.relu(self.layer(x))).sum(1)


class Flattened(nn.Module):
    """A layer that sees each number of a row by itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x.reshape(-1, 1)).reshape(len(x), -1)


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.second(self.first(x) * 1.0).mul_(2.0)


def test_a_network_may_write_over_the_output_of_a_layer():
    net, x = frozen_copy(Overwriting(), torch.float64), points()
    gram = sum((u @ u.T) * (v @ v.T) for u, v in layer_factors(net, x))
    plain = sum((u @ u.T) * (v @ v.T) for u, v in layer_factors(nn.Sequential(net.first, net.second), x))
    torch.testing.assert_close(gram, 4.0 * plain)


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (Twice(), "must be used exactly once"),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)), "others in"),
        (nn.Sequential(nn.ReLU()), "others in no layer"),
        (nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2))), "outputs must have shape"),
        (Flattened(), "on a matrix of 12 rows"),
    ],
    ids=["twice", "norm", "none", "shape", "rows"],
)
def test_networks_that_it_cannot_differentiate_by_layers_are_refused(net, match):
    with pytest.raises(ValueError, match=match):
        layer_factors(frozen_copy(net), points().float())


def test_a_wrong_number_of_scales_is_refused():
    with pytest.raises(ValueError, match="each of the 3 linear layers, got 2"):
        layer_factors(frozen_copy(network(nn.ReLU())), points(), scales=[(1.0, 1.0)] * 2)


def test_linear_layers_come_in_order():
    assert [layer.module.out_features for layer in linear_layers(network(nn.ReLU()))] == [7, 5, 1]


KERNELS = [
    LaplaceKernel(0.7),
    NNGPKernel(),
    NNGPKernel(layers=1, weight_variance=0.5, bias_variance=0.2),
    NTKernel(),
    NTKernel(layers=4, weight_variance=1.5, bias_variance=0.3),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernels_are_symmetric_and_positive_with_their_diagonal(kernel):
    x = points(30)
    k = kernel.matrix(x, x)
    torch.testing.assert_close(k, k.T)
    torch.testing.assert_close(k.diagonal(), kernel.diag(x), rtol=1e-6, atol=1e-6)
    assert float(torch.linalg.eigvalsh(k)[0]) > -1e-6 * float(k.diagonal().max())
    torch.testing.assert_close(kernel.matrix(x[:4], x[4:]), k[:4, 4:], rtol=1e-6, atol=1e-6)


def test_one_step_of_the_recursion_is_the_expectation_it_stands_for():
    """E relu(u) relu(v) by quadrature in two dimensions."""
    x, y = points(1, seed=1), points(1, seed=2)
    kernel = NNGPKernel(layers=2, weight_variance=1.3, bias_variance=0.4)
    first = NNGPKernel(layers=1, weight_variance=1.3, bias_variance=0.4)
    both = torch.cat([x, y])
    factor = torch.linalg.cholesky(first.matrix(both, both))
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    density = torch.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    u = factor[0, 0] * grid[:, None]
    v = factor[1, 0] * grid[:, None] + factor[1, 1] * grid[None, :]
    expected = (torch.relu(u) * torch.relu(v) * density[:, None] * density[None, :]).sum()
    assert float(kernel.matrix(x, y)) == pytest.approx(1.3 * float(expected) + 0.4, rel=1e-4)


def test_the_tangent_kernel_is_the_limit_of_wide_networks():
    """Gram matrices of 24 networks of width 512: their mean is within 5 standard errors and 5 % of the limit."""
    x, w, b = points(6), 2.0, 0.0
    generator = torch.Generator().manual_seed(0)
    grams = []
    for _ in range(24):
        net = nn.Sequential(nn.Linear(3, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1)).double()
        layers = [layer.module for layer in linear_layers(net)]
        for layer in layers:
            size = math.sqrt(w / layer.in_features)
            layer.weight.data = size * torch.randn(layer.weight.shape, dtype=torch.float64, generator=generator)
            layer.bias.data.zero_()
        scales = [(math.sqrt(w / layer.in_features), 0.0) for layer in layers]
        grams.append(sum((u @ u.T) * (v @ v.T) for u, v in layer_factors(frozen_copy(net), x, scales=scales)))
    stack, limit = torch.stack(grams), NTKernel(3, w, b).matrix(x, x)
    error = (stack.mean(0) - limit).abs()
    assert bool((error < 5 * stack.std(0) / 24**0.5 + 0.01 * limit.diagonal().max()).all())
    assert float(error.norm() / limit.norm()) < 0.05


@pytest.mark.parametrize(
    "make",
    [lambda: LaplaceKernel(0.0), lambda: NNGPKernel(0), lambda: NTKernel(2, -1.0), lambda: NTKernel(2, 1.0, -0.1)],
)
def test_senseless_kernels_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()
