import pytest
import torch
from torch import nn

from surrogate.networks.distillation import distil
from surrogate.networks.pruning import keeping_zeros, pruned, without_units
from surrogate.rng import torch_generator


def stream(*purpose):
    return torch_generator(0, "pruning", *purpose)


def network(width=64):
    model = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(generator=stream(value.numel())).div_(value.shape[-1] ** 0.5)
    return model


def rows(n=400):
    return torch.randn(n, 5, generator=stream("x"))


def zeros(model):
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    return sum(int((weight == 0).sum()) for weight in weights), sum(weight.numel() for weight in weights)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_the_share_of_zeros(share):
    model = network()
    none, count = zeros(pruned(model, share))
    assert none == int(share * count)
    assert zeros(model)[0] == 0


def test_in_one_layer_the_smallest_go():
    model = nn.Sequential(nn.Linear(30, 20))
    weight = pruned(model, 0.7)[0].weight
    left = model[0].weight.detach()[weight != 0].abs().min()
    assert left >= model[0].weight.detach()[weight == 0].abs().max()


def test_no_layer_loses_everything_however_small_its_weights():
    model = network()
    with torch.no_grad():
        model[2].weight.mul_(1e-3)
    small = pruned(model, 0.8)
    assert 0.1 < float((small[2].weight != 0).float().mean()) < 0.4
    assert all(bool((layer.weight != 0).any()) for layer in small if isinstance(layer, nn.Linear))


def test_training_keeps_zeros_and_moves_the_rest():
    model, x = network(), rows()
    small = pruned(model, 0.8)
    before = {name: value.detach().clone() for name, value in small.named_parameters()}
    with keeping_zeros(small):
        distil(small, model, x, generator=stream("batches"), steps=10)
    assert sorted(dict(small.named_parameters())) == sorted(before)
    for name, value in small.named_parameters():
        if name.endswith("weight"):
            assert torch.equal(value == 0, before[name] == 0)
            assert not torch.equal(value, before[name])


def test_distillation_brings_the_outputs_near_again():
    model, x = network(), rows()
    small = pruned(model, 0.7)

    def difference():
        with torch.no_grad():
            return float((small(x) - model(x)).square().mean().sqrt())

    first = difference()
    with keeping_zeros(small):
        last = distil(small, model, x, generator=stream("batches"), steps=300)
    assert difference() < 0.3 * first
    assert last < first


def test_units_that_do_nothing_go_without_a_change():
    model, x = network(32), rows()
    with torch.no_grad():
        dead = torch.arange(0, 32, 2)
        model[2].weight[:, dead] = 0.0  # the first layer's
        model[0].bias[dead] = 1.0
        model[4].weight[:, dead] = 0.0  # the second layer's
    share = 1.0 - (16 * 5 + 16 * 16 + 16) / (32 * 5 + 32 * 32 + 32)
    small = without_units(model, share, x)
    assert [layer.out_features for layer in small if isinstance(layer, nn.Linear)] == [16, 16, 1]
    torch.testing.assert_close(small(x), model(x))


def test_a_constant_unit_goes_into_the_bias():
    model, x = network(16), rows()
    with torch.no_grad():
        model[0].weight[:15] *= 10.0
        model[0].weight[15], model[0].bias[15] = 0.0, 0.01
        model[2].weight[:, 15] = 1.0
    small = without_units(model, 1.0 - (15 * 5 + 15 * 15 + 15) / (16 * 5 + 16 * 16 + 16), x)
    assert small[0].out_features == 15
    with torch.no_grad():
        whole, kept = model[2](model[:2](x)), small[2](small[:2](x))
    # The 15 units that the second layer keeps are 15 of its 16, with the same values.
    nearest = (whole[:, :, None] - kept[:, None, :]).abs().amax(0).amin(0)
    assert float(nearest.max()) < 1e-4


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95])
def test_share_of_weights_without_units(share):
    small = without_units(network(), share, rows())
    count = zeros(network())[1]
    assert zeros(small)[1] == pytest.approx((1 - share) * count, rel=0.15)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: pruned(network(), 1.0), r"\[0, 1\)"),
        (lambda: without_units(network(), -0.1, rows()), r"\[0, 1\)"),
        (lambda: without_units(nn.Sequential(nn.Linear(3, 1)), 0.5, rows()[:, :3]), "hidden layers"),
        (lambda: distil(network(), network(), rows(0), generator=stream()), "rows"),
    ],
)
def test_misuse_is_told(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_divergence_is_told():
    with pytest.raises(FloatingPointError, match="diverged"):
        distil(pruned(network(), 0.5), network(), rows(), generator=stream(), learning_rate=1e30, steps=9)
