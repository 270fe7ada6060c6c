import numpy as np
import pytest
import torch
from torch import nn

from surrogate.networks.portable import PortableNetwork, evaluator
from surrogate.networks.pruning import pruned
from surrogate.rng import generator, torch_generator

X = generator(0, "columns").normal(3.0, 2.0, (200, 5))


def network(function=nn.ReLU, seed=0, width=40):
    model = nn.Sequential(nn.Linear(5, width), function(), nn.Linear(width, width), function(), nn.Linear(width, 1))
    stream = torch_generator(seed, "portable")
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(generator=stream).div_(value.shape[-1] ** 0.5)
    return model


def portable(*networks):
    return PortableNetwork(np.full(5, 3.0), np.full(5, 2.0), 5.0, 10.0, 4.0, networks or (network(),))


def direct(many, x):
    scaled = torch.from_numpy(5.0 * np.tanh((x - 3.0) / 10.0)).float()
    with torch.no_grad():
        outputs = [net.double()(scaled.double())[:, 0] for net in many.networks]
        [net.float() for net in many.networks]
    return 10.0 + 4.0 * torch.stack(outputs).mean(0).numpy()


@pytest.mark.parametrize("function", [nn.ReLU, nn.SiLU, nn.Tanh])
def test_arrays_evaluate_as_the_networks_do(function):
    many = portable(network(function), network(function, 1))
    np.testing.assert_allclose(evaluator(many.to_arrays())(X), direct(many, X), rtol=1e-5)
    np.testing.assert_allclose(many.module()(torch.from_numpy(X)).detach().numpy(), direct(many, X), rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_arrays_and_module_of_a_precision_agree(precision):
    many = portable()
    function = evaluator(many.to_arrays(precision))
    module = many.module(precision)
    rounding = 0.02 if precision == "bf16" else 1e-5  # torch rounds what goes into a product to bf16, numpy does not
    with torch.no_grad():
        difference = function(X) - module(torch.from_numpy(X)).numpy()
    assert np.abs(difference).std() < rounding * direct(many, X).std()


def test_reading_back_is_exact():
    many = portable(network(), network(seed=1))
    again = PortableNetwork.of_arrays(many.to_arrays())
    for old, new in zip(many.networks, again.networks, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    assert again.to_arrays().keys() == many.to_arrays().keys()


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_zeros_are_left_out(precision):
    whole = portable()
    sparse = portable(pruned(network(), 0.8))
    sizes = [
        sum(a.nbytes for name, a in p.to_arrays(precision).items() if "weight" in name or "kept" in name)
        for p in (whole, sparse)
    ]
    bits = {"float32": 32, "bf16": 16, "int8": 8}[precision]
    assert sizes[1] <= sizes[0] * (0.2 + 1.0 / bits) * 1.05
    np.testing.assert_allclose(
        evaluator(sparse.to_arrays(precision))(X),
        evaluator(PortableNetwork.of_arrays(sparse.to_arrays(precision)).to_arrays())(X),
        rtol=1e-6,
    )


def test_bytes_of_8_bits():
    whole, small = (
        sum(a.nbytes for a in portable(network(width=512)).to_arrays(p).values()) for p in ("float32", "int8")
    )
    assert small < 0.27 * whole


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: portable().to_arrays("int4"), "precision must be one of float32, bf16, int8"),
        (lambda: portable(network(nn.GELU)).to_arrays(), "got .'GELU'. between"),
        (lambda: portable(nn.Sequential(nn.Linear(5, 1), nn.ReLU())).to_arrays(), "linear layers"),
        (lambda: PortableNetwork.of_arrays({"x": X}), "'activation' is missing"),
        (
            lambda: PortableNetwork.of_arrays({**portable().to_arrays(), "inputs/mean": np.zeros(4)}),
            "the first layer has another size",
        ),
    ],
)
def test_misuse_is_told(make, match):
    with pytest.raises(ValueError, match=match):
        make()
