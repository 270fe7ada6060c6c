import copy
import math

import pytest
import torch
from torch import nn

from surrogate.networks.architecture import ACTIVATIONS, Architecture
from surrogate.networks.ensemble import Stack
from surrogate.networks.training import HeldOut, Schedule, train

D, N = 4, 200


def stream(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def data():
    x = torch.randn(N, D, generator=stream(0), dtype=torch.float64)
    return x, torch.sin(x[:, 0]) * x[:, 1] + 0.1 * torch.randn(N, generator=stream(1), dtype=torch.float64)


def networks(count, *, activation="relu", dtype=torch.float64, hidden=(24, 16)):
    architecture = Architecture(D, hidden, ACTIVATIONS[activation])
    return architecture, [architecture.build(stream(10 + m)).to(dtype) for m in range(count)]


def run(architecture, modules, x, y, *, epochs=6, batch=64, rows=None, **options):
    rows = torch.arange(len(x)).expand(len(modules), -1) if rows is None else rows
    schedule = Schedule(epochs, batch, architecture.activation.learning_rate)
    streams = [stream(100 + m) for m in range(len(modules))]
    return train(
        Stack.of(modules), x, y, rows, scales=architecture.scales(), schedule=schedule, generators=streams, **options
    )


class Tangent(nn.Module):
    """The layer as Jacot et al. write it."""

    def __init__(self, layer, weight, bias):
        super().__init__()
        self.v = nn.Parameter(layer.weight.detach().clone() / weight)
        self.b = nn.Parameter(layer.bias.detach().clone())
        self.weight, self.bias = weight, bias

    def forward(self, x):
        return self.weight * (x @ self.v.T) + self.bias * self.b


def explicit(architecture, module, x, y, *, epochs, batch):
    """Training in the tangent parametrisation with one learning rate, step by step as the paper says it."""
    scales = iter(architecture.scales())
    model = nn.Sequential(
        *[Tangent(layer, *next(scales)) if isinstance(layer, nn.Linear) else layer for layer in copy.deepcopy(module)]
    )
    optimizer = torch.optim.Adam(model.parameters())
    order, step, steps = stream(100), 0, epochs * (len(x) // batch)
    for _ in range(epochs):
        shuffled = torch.randperm(len(x), generator=order)
        for k in range(len(x) // batch):
            some = shuffled[k * batch : (k + 1) * batch]
            for group in optimizer.param_groups:
                group["lr"] = architecture.activation.learning_rate * (1 - step / steps)
            optimizer.zero_grad()
            ((model(x[some])[:, 0] - y[some]) ** 2).mean().backward()
            optimizer.step()
            step += 1
    return model


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_ordinary_layers_train_as_tangent_layers_do(data, activation):
    """In double precision 18 steps agree to rounding: the constant in Adam's denominator is scaled as well."""
    x, y = data
    architecture, modules = networks(1, activation=activation)
    ours = run(architecture, modules, x, y).stack.modules()[0]
    theirs = explicit(architecture, modules[0], x, y, epochs=6, batch=64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("epochs", "bound"), [(1, 1e-6), (10, 2e-4)])
def test_ordinary_layers_train_as_tangent_layers_do_in_single_precision(data, epochs, bound):
    """Largest difference after 1 and 10 steps on 512-512."""
    x, y = (value.float() for value in data)
    architecture, modules = networks(1, dtype=torch.float32, hidden=(512, 512))
    ours = run(architecture, modules, x, y, epochs=epochs, batch=N).stack.modules()[0]
    theirs = explicit(architecture, modules[0], x, y, epochs=epochs, batch=N)
    assert float((ours(x) - theirs(x)).detach().abs().max()) < bound


def test_networks_trained_at_once_are_those_trained_alone(data):
    x, y = data
    architecture, modules = networks(3)
    rows = torch.stack([torch.randperm(N, generator=stream(m))[:150] for m in range(3)])
    together = run(architecture, modules, x, y, rows=rows).stack.modules()
    for member, module in enumerate(modules):
        schedule = Schedule(6, 64, architecture.activation.learning_rate)
        alone = train(
            Stack.of([module]),
            x,
            y,
            rows[member : member + 1],
            scales=architecture.scales(),
            schedule=schedule,
            generators=[stream(100 + member)],
        ).stack.modules()[0]
        torch.testing.assert_close(together[member](x), alone(x), rtol=1e-9, atol=1e-9)


def test_networks_given_are_not_changed(data):
    architecture, modules = networks(2)
    before = [p.detach().clone() for module in modules for p in module.parameters()]
    run(architecture, modules, *data)
    assert all(torch.equal(a, b) for a, b in zip(before, (p for m in modules for p in m.parameters()), strict=True))


def held_out(members, *, together=False):
    x = torch.randn(members, 60, D, generator=stream(5), dtype=torch.float64)
    return HeldOut(x, torch.randn(members, 60, generator=stream(6), dtype=torch.float64), together)  # noise: early best


def test_each_network_is_kept_at_its_best_epoch(data):
    architecture, modules = networks(3)
    judge = held_out(3)
    training = run(architecture, modules, *data, epochs=20, held_out=judge)
    losses = training.held_out_loss
    assert losses.shape == (20, 3)
    assert torch.equal(training.epochs, losses.argmin(0) + 1)
    with torch.no_grad():
        kept = (training.stack(judge.x) - judge.y).square().mean(1)
    torch.testing.assert_close(kept, losses.min(0).values, rtol=1e-12, atol=0)


def test_together_networks_are_kept_at_the_epoch_best_for_all(data):
    architecture, modules = networks(3)
    training = run(architecture, modules, *data, epochs=20, held_out=held_out(3, together=True))
    best = int(training.held_out_loss.mean(1).argmin()) + 1
    assert training.epochs.tolist() == [best] * 3


def test_stopping_at_an_epoch_is_what_keeping_it_is(data):
    architecture, modules = networks(1)
    kept = run(architecture, modules, *data, epochs=20, held_out=held_out(1))
    epoch = int(kept.epochs[0])
    assert epoch < 20
    stopped = run(architecture, modules, *data, epochs=20, stop=epoch)
    assert stopped.epochs.tolist() == [epoch]
    for a, b in zip(kept.stack.parameters.values(), stopped.stack.parameters.values(), strict=True):
        assert torch.equal(a, b)


def test_the_last_rows_of_a_pass_are_dropped(data):
    """100 rows in batches of 64 are one step a pass, so that a row outside of the batch does not matter."""
    x, y = data[0][:100], data[1][:100].clone()
    architecture, modules = networks(1)
    once = run(architecture, modules, x, y, epochs=1).stack.modules()[0]
    outside = torch.randperm(100, generator=stream(100))[64:]
    y[outside] = math.pi
    again = run(architecture, modules, x, y, epochs=1).stack.modules()[0]
    assert torch.equal(once(x), again(x))


def test_stack_evaluates_each_network_on_rows_of_its_own():
    _, modules = networks(3)
    x = torch.randn(3, 5, D, generator=stream(2), dtype=torch.float64)
    expected = torch.stack([module(rows)[:, 0] for module, rows in zip(modules, x, strict=True)])
    torch.testing.assert_close(Stack.of(modules)(x), expected, rtol=1e-12, atol=1e-12)
