import pytest
import torch
from torch import nn

from surrogate.networks.quantisation import QuantisedLinear, RoundedLinear, integers_of_rows, quantised, rounded
from surrogate.rng import torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed, "quantisation"))


def linear(columns, rows, *, bias=True):
    layer = nn.Linear(columns, rows, bias=bias)
    layer.requires_grad_(False)
    layer.weight.copy_(normal(rows, columns, seed=1))
    if bias:
        layer.bias.copy_(normal(rows, seed=2))
    return layer


def network():
    return nn.Sequential(linear(6, 64), nn.ReLU(), linear(64, 64), nn.ReLU(), linear(64, 1))


def test_integers_are_within_half_a_step_and_keep_zeros():
    weight = normal(20, 30)
    weight[weight.abs() < 0.5] = 0.0
    weight[3] = 0.0
    integers, scale = integers_of_rows(weight)
    assert integers.dtype == torch.int8
    assert ((integers * scale[:, None] - weight).abs() <= 0.5 * scale[:, None] * (1 + 1e-5)).all()
    assert (integers[weight == 0] == 0).all()
    assert (integers[[k for k in range(20) if k != 3]].abs().amax(1) == 127).all()


@pytest.mark.parametrize("activations", ["none", "dynamic", "static"])
@pytest.mark.parametrize("bias", [True, False])
def test_integer_arithmetic_equals_rounding_in_floating_point(activations, bias):
    """The layer that is trained and the one that computes with integers are one function."""
    layer, x = linear(37, 21, bias=bias), normal(50, 37, seed=3)
    exact = QuantisedLinear(layer, activations, sample=x if activations == "static" else None)
    simulated = RoundedLinear.of(layer, activations)
    if activations == "static":
        exact.ends = torch.stack([x.amin(), x.amax()])  # the simulated range is that of the batch
    torch.testing.assert_close(exact(x), simulated(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("activations", ["none", "dynamic", "static"])
def test_error_is_that_of_8_bits(activations):
    layer, x = linear(256, 64), normal(400, 256, seed=3).relu()
    y = layer(x)
    new = QuantisedLinear(layer, activations, sample=normal(400, 256, seed=4).relu())(x)
    # Uniform rounding of both factors of each product: a step of about range / 255 has sd step / sqrt(12). Ranges of
    # normal numbers are some 6 sd for weights of a row and 4 sd for their positive part: about 1 % of the output.
    assert float((new - y).std() / y.std()) < 0.015
    assert float((new - y).mean().abs()) < 5 * float((new - y).std()) / new.numel() ** 0.5 * 8  # rows share roundings


def test_row_by_row_ranges_do_not_depend_on_the_batch():
    layer, x = QuantisedLinear(linear(32, 32)), normal(10, 32, seed=3)
    torch.testing.assert_close(layer(x)[3:4], layer(x[3:4]), rtol=0, atol=0)


def test_static_ranges_cut_off_outliers():
    x = normal(1000, 32, seed=3)
    x[0, 0] = 40.0
    layer = QuantisedLinear(linear(32, 8), "static", sample=x)
    assert float(layer.ends[1]) < 40.0


def test_zero_rows_and_zero_inputs():
    layer = linear(8, 4)
    layer.weight.zero_()
    new = QuantisedLinear(layer)
    torch.testing.assert_close(new(torch.zeros(3, 8)), layer(torch.zeros(3, 8)))
    torch.testing.assert_close(new(normal(3, 8)), layer(normal(3, 8)))


def test_gradients_pass_the_rounding():
    layer = RoundedLinear.of(linear(16, 4).requires_grad_())
    x = normal(5, 16, seed=3).requires_grad_()
    layer(x).sum().backward()
    plain = nn.Linear(16, 4)
    plain.load_state_dict(layer.state_dict())
    integers, scale = integers_of_rows(plain.weight.detach())
    torch.testing.assert_close(x.grad, (integers * scale[:, None]).sum(0).expand(5, 16))
    assert layer.weight.grad.abs().sum() > 0


def test_networks_in_integers_and_in_training_agree():
    model, x = network(), normal(30, 6, seed=5)
    torch.testing.assert_close(quantised(model)(x), rounded(model)(x), rtol=1e-4, atol=1e-3)
    assert float((quantised(model, "static", sample=x)(x) - model(x)).std() / model(x).std()) < 0.05


def test_training_with_rounding_shares_the_numbers():
    model = network()
    assert rounded(model)[2].weight is model[2].weight


def test_misuse_is_told():
    with pytest.raises(ValueError, match="'none', 'dynamic' or 'static'"):
        quantised(network(), "fast")
    with pytest.raises(ValueError, match="sample"):
        quantised(network(), "static")
