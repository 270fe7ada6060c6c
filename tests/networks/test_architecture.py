import pytest
import torch
from torch import nn

from surrogate.networks.architecture import ACTIVATIONS, Activation, Architecture


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def test_layers_are_ordinary_ones():
    module = Architecture(7, (12, 9), ACTIVATIONS["silu"]).build(stream())
    assert [type(layer) for layer in module] == [nn.Linear, nn.SiLU, nn.Linear, nn.SiLU, nn.Linear]
    assert [tuple(p.shape) for p in module.parameters()] == [(12, 7), (12,), (9, 12), (9,), (1, 9), (1,)]
    assert all(p.dtype == torch.float32 for p in module.parameters())


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda a: a.name)
def test_weights_are_the_constants_times_standard_normal_variables(activation):
    architecture = Architecture(300, (400, 500), activation)
    linear = [layer for layer in architecture.build(stream(1)) if isinstance(layer, nn.Linear)]
    for layer, (weight, bias) in zip(linear, architecture.scales(), strict=True):
        ratio = layer.weight.detach() / weight
        n = ratio.numel()
        assert abs(float(ratio.mean())) < 5 / n**0.5
        assert abs(float(ratio.var()) - 1) < 5 * (2 / n) ** 0.5
        assert weight == pytest.approx(activation.weight_gain / layer.in_features**0.5, rel=1e-15)
        assert bias == activation.bias_gain
        assert not layer.bias.any()


def test_constants_are_those_of_the_paper():
    assert ACTIVATIONS["relu"] == Activation("relu", 0.2, 0.2, 0.375)
    assert ACTIVATIONS["silu"] == Activation("silu", 0.5, 1.0, 0.15)


def test_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    Architecture(3, (5,)).build(stream())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_seed_is_a_network():
    one, same, other = (Architecture(3, (5,)).build(stream(seed)) for seed in (4, 4, 5))
    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)
