import copy

import pytest
import torch
from torch import nn

from surrogate.networks.architecture import Architecture
from surrogate.networks.ensemble import Stack
from surrogate.networks.large_batch import BatchPolicy, Lamb
from surrogate.networks.training import Schedule, train
from surrogate.rng import torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch_generator(seed, "large batch"))


X = normal(128, 3)
Y = torch.sin(X[:, 0]) * X[:, 1]


def trained(policy, *, batch=32, members=1, dtype=torch.float64):
    architecture = Architecture(3, (16, 16))
    modules = [architecture.build(torch_generator(m, "weights")).to(dtype) for m in range(members)]
    return train(
        Stack.of(modules),
        X.to(dtype),
        Y.to(dtype),
        torch.arange(128).expand(members, -1),
        scales=architecture.scales(),
        schedule=Schedule(epochs=3, batch_size=batch, policy=policy),
        generators=[torch_generator(m, "batches") for m in range(members)],
    )


def equal(one, other, **tolerance):
    for name, value in one.stack.parameters.items():
        torch.testing.assert_close(value, other.stack.parameters[name], **tolerance)


def test_batches_up_to_the_tuned_size_are_not_touched():
    policy = BatchPolicy(tuned=32)
    assert policy.rate(32) == policy.rate(8) == policy.rise(0, 100, 32) == 1.0
    assert policy.epochs(7, 32) == policy.epochs(7, 8) == 7
    equal(trained(policy), trained(BatchPolicy(tuned=32, power=0.0, warmup=0.0, least_steps=0.0)), rtol=0, atol=0)


@pytest.mark.parametrize(("power", "factor"), [(0.0, 1.0), (0.5, 2.0), (1.0, 4.0)])
def test_scaling_of_the_step(power, factor):
    assert BatchPolicy(tuned=64, power=power).rate(256) == pytest.approx(factor)


def test_warm_up_rises_linearly_to_one():
    policy = BatchPolicy(tuned=64, warmup=0.2)
    assert [policy.rise(step, 50, 128) for step in range(12)] == pytest.approx(
        [min(1, (k + 1) / 10) for k in range(12)]
    )


def test_larger_batches_make_at_least_a_share_of_the_steps():
    policy = BatchPolicy(tuned=64, least_steps=0.5)
    assert policy.epochs(10, 64 * 8) == 40
    assert policy.epochs(10, 96) == 10
    assert trained(BatchPolicy(tuned=32, least_steps=0.5), batch=128).epochs.tolist() == [6]


@pytest.mark.parametrize("part", [1, 10, 32])
@pytest.mark.parametrize("members", [1, 3])
def test_sums_over_parts_of_a_batch_give_the_same_steps(part, members):
    equal(
        trained(BatchPolicy(micro_batch=part), members=members),
        trained(BatchPolicy(), members=members),
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("members", [1, 3])
def test_products_in_half_precision_stay_near(members):
    half, single = (
        trained(BatchPolicy(precision=p), members=members, dtype=torch.float32) for p in ("bf16", "float32")
    )
    x = X.float().expand(members, -1, -1)
    with torch.no_grad():
        difference = half.stack(x) - single.stack(x)
        # Products have 8 bits. Twelve steps of Adam do not enlarge that to a tenth of the outputs.
        assert 0 < float(difference.std()) < 0.1 * float(single.stack(x).std())
    assert all(value.dtype == torch.float32 for value in half.stack.parameters.values())


def reference(weights, gradients, lr, betas=(0.9, 0.999), eps=1e-8):
    """Algorithm 2 of the paper without weight decay."""
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for t, gradient in enumerate(gradients, start=1):
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        direction = (mean / (1 - betas[0] ** t)) / ((square / (1 - betas[1] ** t)).sqrt() + eps)
        weights = weights - lr * weights.norm() / direction.norm() * direction
    return weights


@pytest.mark.parametrize("stacked", [False, True])
def test_lamb_steps_as_the_paper_says(stacked):
    start, gradients = normal(2, 4, 3, seed=1), normal(5, 2, 4, 3, seed=2)
    values = [start] if stacked else [start[0], start[1]]
    values = [nn.Parameter(value.clone()) for value in values]
    optimizer = Lamb(values, lr=0.02, stacked=stacked)
    for gradient in gradients:
        for k, value in enumerate(values):
            value.grad = gradient.clone() if stacked else gradient[k].clone()
        optimizer.step()
    found = values[0] if stacked else torch.stack([*values])
    for member in range(2):
        torch.testing.assert_close(found[member].detach(), reference(start[member], gradients[:, member], 0.02))


def test_lamb_steps_biases_as_adam():
    one, other = (nn.Parameter(normal(6, seed=3)) for _ in range(2))
    optimizers = Lamb([one], lr=0.01), torch.optim.Adam([other], lr=0.01)
    for seed in range(4):
        one.grad = other.grad = normal(6, seed=10 + seed)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(one, other)


def test_lamb_trains_networks_of_a_stack_apart():
    together = trained(BatchPolicy(optimizer="lamb"), members=2)
    alone = trained(BatchPolicy(optimizer="lamb"), members=1)
    for name, value in alone.stack.parameters.items():
        torch.testing.assert_close(value[0], together.stack.parameters[name][0])


def test_a_closure_is_evaluated():
    value = nn.Parameter(normal(3, 2))

    def closure():
        value.grad = None
        loss = value.square().sum()
        loss.backward()
        return loss

    before = float(closure().detach())
    assert float(Lamb([value]).step(closure).detach()) == before
    assert float(closure().detach()) < before


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tuned": 0}, "at least 1"),
        ({"micro_batch": 0}, "at least 1"),
        ({"power": 2.0}, r"\[0, 1\]"),
        ({"warmup": 1.0}, r"\[0, 1\)"),
        ({"optimizer": "sgd"}, "'adam' or 'lamb'"),
        ({"precision": "int8"}, "'float32' or 'bf16'"),
    ],
)
def test_misuse_is_told(options, match):
    with pytest.raises(ValueError, match=match):
        BatchPolicy(**options)


def test_misuse_of_lamb_is_told():
    with pytest.raises(ValueError, match="betas"):
        Lamb([copy.deepcopy(nn.Parameter(X))], betas=(1.0, 0.9))
