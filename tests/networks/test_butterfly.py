import copy

import pytest
import torch
from torch import nn

from surrogate.networks.butterfly import BlockButterflyLinear, butterfly_partners, with_butterfly_layers
from surrogate.rng import torch_generator

# in, out, block, factors, rank
SHAPES = {
    "square": (64, 64, 8, 3, 4),
    "power of two": (512, 512, 32, 4, 32),
    "five blocks": (40, 40, 8, 2, 3),
    "padded": (37, 37, 8, 3, 3),
    "wider": (24, 70, 8, 2, 2),
    "narrower": (70, 24, 8, 2, 2),
    "no low rank": (48, 48, 16, 1, 0),
    "one block": (20, 20, 32, 0, 2),
}


def stream(*purpose):
    return torch_generator(0, "butterfly", *purpose)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def layer(request):
    columns, rows, block, factors, rank = request.param
    new = BlockButterflyLinear(
        columns, rows, block_size=block, n_factors=factors, rank=rank, dtype=torch.float64, generator=stream()
    )
    nn.init.normal_(new.bias, generator=stream("bias"))
    return new


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=stream("x"))


def test_forward_is_the_dense_matrix(layer):
    x = normal(3, 5, layer.in_features)
    torch.testing.assert_close(layer(x), x @ layer.to_dense().T + layer.bias, rtol=1e-12, atol=1e-12)


def test_forward_is_the_dense_matrix_in_single_precision():
    layer = BlockButterflyLinear(2048, 2048, generator=stream())
    x = torch.randn(16, 2048, generator=stream("x"))
    torch.testing.assert_close(layer(x), x @ layer.to_dense().T + layer.bias, rtol=1e-5, atol=1e-5)


def test_gradients(layer):
    x = normal(2, layer.in_features).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def value(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(value, (x, *layer.parameters()), fast_mode=True)


def test_the_matrix_is_zero_outside_the_mask(layer):
    low = 0.0 if layer.left is None else layer.left @ layer.right.T
    sparse = (layer.to_dense() - low).detach()
    mask = layer.mask()
    assert float(sparse[~mask].abs().sum()) < 1e-10
    assert bool((sparse[mask] != 0).all())


def test_every_input_and_output_is_used(layer):
    mask = layer.mask()
    assert bool(mask.any(0).all())
    assert bool(mask.any(1).all())


@pytest.mark.parametrize(("n_blocks", "n_factors", "blocks"), [(16, 4, 80), (8, 2, 24)])
def test_mask_is_that_of_the_paper(n_blocks, n_factors, blocks):
    """Ones on the diagonal and where the block numbers differ in one of the lowest bits, as in the published masks."""
    grid = torch.zeros(n_blocks, n_blocks, dtype=torch.bool)
    for row, partners in enumerate(butterfly_partners(n_blocks, n_factors).tolist()):
        grid[row, partners] = True
    for row in range(n_blocks):
        for column in range(n_blocks):
            different = row ^ column
            single = different & (different - 1) == 0 and different < 1 << n_factors
            assert bool(grid[row, column]) == single
    assert int(grid.sum()) == blocks


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 5, 8, 12, 100])
def test_partners_are_distinct(n_blocks):
    partners = butterfly_partners(n_blocks, (n_blocks - 1).bit_length())
    assert all(len(set(row)) == len(row) for row in partners.tolist())
    assert sorted(partners[:, -1].tolist()) == list(range(n_blocks))


def test_outputs_start_with_the_variance_of_dense_layers():
    x = torch.randn(400, 1024, generator=stream("x"))
    for rank in (0, 32):
        layer = BlockButterflyLinear(1024, 1024, rank=rank, bias=False, generator=stream(rank))
        # 400 x 1024 outputs; those of a row share its length, those of the rank-32 half 32 random numbers: 5 % is 5 sd.
        assert float(layer(x).detach().var()) == pytest.approx(1.0 / 3.0, rel=0.05)


def test_a_copy_on_the_meta_device_can_be_stacked_and_mapped():
    layers = [BlockButterflyLinear(16, 16, block_size=4, n_factors=2, rank=2, generator=stream(k)) for k in range(3)]
    parameters, _ = torch.func.stack_module_state(layers)
    skeleton = copy.deepcopy(layers[0]).to("meta")
    x = torch.randn(3, 5, 16, generator=stream("x"))
    together = torch.func.vmap(lambda p, rows: torch.func.functional_call(skeleton, p, (rows,)))(parameters, x)
    for k in range(3):
        torch.testing.assert_close(together[k], layers[k](x[k]))


def test_projection_of_a_matrix_of_this_form_is_exact():
    layer = BlockButterflyLinear(48, 48, block_size=8, n_factors=2, rank=0, generator=stream())
    dense = nn.Linear(48, 48)
    dense.weight.data.copy_(layer.to_dense())
    again = BlockButterflyLinear.of(dense, block_size=8, n_factors=2, rank=0)
    torch.testing.assert_close(again.to_dense(), layer.to_dense())
    torch.testing.assert_close(again.bias, dense.bias)


@pytest.mark.parametrize(("columns", "rows"), [(40, 40), (50, 30), (30, 50)])
def test_projection_is_nearer_than_blocks_or_low_rank_alone(columns, rows):
    dense = nn.Linear(columns, rows, dtype=torch.float64)
    dense.weight.data.copy_(normal(rows, columns))
    dense.requires_grad_(False)
    near = BlockButterflyLinear.of(dense, block_size=8, n_factors=2, rank=6)
    error = float((near.to_dense() - dense.weight).detach().norm())
    blocks_alone = float(dense.weight[~near.mask()].norm())
    rank_alone = float(torch.linalg.svdvals(dense.weight)[6:].norm())
    assert error < min(blocks_alone, rank_alone)
    both = dense.weight - torch.where(near.mask(), dense.weight, 0.0)
    assert error <= float(torch.linalg.svdvals(both)[6:].norm()) * (1 + 1e-12)  # one round would do this


def test_a_network_with_butterfly_layers():
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    for start in ("near", "random"):
        changed = with_butterfly_layers(model, block_size=8, rank=4, start=start, generator=stream())
        kinds = [type(layer) for layer in changed if not isinstance(layer, nn.ReLU)]
        assert kinds == [nn.Linear, BlockButterflyLinear, nn.Linear]
        assert changed(torch.zeros(3, 8)).shape == (3, 1)
        assert changed[0] is not model[0]
    assert isinstance(model[2], nn.Linear)


def test_random_start_has_the_size_of_the_layer_that_it_replaces():
    model = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))
    model[2].weight.data.normal_(generator=stream("w")).mul_(0.2)
    changed = with_butterfly_layers(model, start="random", generator=stream())
    # A 512 x 512 matrix whose entries are not independent: 5 % is many standard errors of its root mean square.
    assert float(changed[2].to_dense().detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: BlockButterflyLinear(0, 4), "at least 1"),
        (lambda: BlockButterflyLinear(64, 64, rank=-1), "rank"),
        (lambda: BlockButterflyLinear(64, 64, block_size=32, n_factors=2), r"n_factors must be in 0\.\.1"),
        (lambda: with_butterfly_layers(nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 1))), "smaller"),
        (
            lambda: with_butterfly_layers(
                nn.Sequential(nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 1)), start="same"
            ),
            "start",
        ),
    ],
)
def test_misuse_is_told(make, match):
    with pytest.raises(ValueError, match=match):
        make()
