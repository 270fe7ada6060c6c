from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from surrogate.optim import KFAC
from tests.networks import small
from tests.networks.small import normal

LOSSES = {
    "mse": nn.MSELoss(),
    "cross-entropy": nn.CrossEntropyLoss(),
    "binary-cross-entropy": nn.BCEWithLogitsLoss(),
}


network = partial(small.network, sd=0.4)


def closure_of(optimizer, model, x, y, loss):
    def closure():
        optimizer.zero_grad()
        value = LOSSES[loss](model(x), y)
        value.backward()
        return value

    return closure


def run(optimizer, closure, steps):
    losses = [float(optimizer.step(closure).detach()) for _ in range(steps)]
    return [*losses, float(closure().detach())]


def test_one_step_solves_least_squares():
    """One linear layer: the factors are exact, so that the first step ends at the minimum as the damping vanishes."""
    model, x = network(nn.Linear(5, 1)), normal(40, 5)
    y = x @ normal(5, 1, seed=1) + 3.0 + 0.1 * normal(40, 1, seed=2)
    optimizer = KFAC(model, damping=1e-14)
    optimizer.step(closure_of(optimizer, model, x, y, "mse"))
    design = torch.cat([x, torch.ones(40, 1).double()], 1)
    expected = torch.linalg.lstsq(design, y).solution[:, 0]
    torch.testing.assert_close(torch.cat([model[0].weight[0], model[0].bias]).detach(), expected, rtol=1e-5, atol=1e-5)


def test_two_steps_are_conjugate_gradients_with_several_outputs():
    """A quadratic loss with two outputs: factors are sampled, step and momentum are exact, and so the loss falls."""
    model, x = network(nn.Linear(4, 2)), normal(60, 4)
    y = normal(60, 2, seed=3)
    optimizer = KFAC(model, damping=1e-9, generator=torch.Generator().manual_seed(0))
    losses = run(optimizer, closure_of(optimizer, model, x, y, "mse"), 12)
    design = torch.cat([x, torch.ones(60, 1).double()], 1)
    least = (design @ torch.linalg.lstsq(design, y).solution - y).square().mean()
    assert np.all(np.diff(losses) < 1e-12)
    assert losses[-1] == pytest.approx(float(least), rel=1e-8)


def targets(loss, n):
    f = normal(n, 3, seed=9)
    return {"mse": f, "cross-entropy": f.argmax(1), "binary-cross-entropy": (f > 0).double()}[loss]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("refresh_every", [1, 5])
def test_fewer_steps_than_adam(loss, refresh_every):
    x, y = normal(100, 6), targets(loss, 100)
    model = network(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = KFAC(model, loss=loss, refresh_every=refresh_every, generator=torch.Generator().manual_seed(0))
    ours = run(optimizer, closure_of(optimizer, model, x, y, loss), 30)[-1]
    model = network(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    assert ours < run(adam, closure_of(adam, model, x, y, loss), 60)[-1]


def test_convolutions_in_single_precision_on_minibatches():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 1, 8, 8, generator=generator)
    y = (x[:, 0, :4].sum((1, 2)) > x[:, 0, 4:].sum((1, 2))).long()
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2))
    for p in model.parameters():
        p.data = 0.1 * torch.randn(p.shape, generator=generator)
    optimizer = KFAC(model, loss="cross-entropy", weight_decay=1e-4, generator=generator)
    for step in range(40):
        rows = slice(32 * (step % 2), 32 * (step % 2) + 32)
        optimizer.step(closure_of(optimizer, model, x[rows], y[rows], "cross-entropy"))
    assert float((model(x).argmax(1) == y).float().mean()) > 0.95


def test_damping_falls_where_the_model_is_exact_and_is_kept_between():
    model, x = network(nn.Linear(3, 1)), normal(20, 3)
    optimizer = KFAC(model, damping=10.0, adapt_every=2)
    closure = closure_of(optimizer, model, x, x[:, :1] + normal(20, 1, seed=4), "mse")
    optimizer.step(closure)
    assert optimizer.damping == 10.0
    optimizer.step(closure)
    assert optimizer.damping == pytest.approx(10.0 * (19 / 20) ** 2)
    run(optimizer, closure, 200)
    kept = optimizer.damping
    run(optimizer, closure, 2)  # at the minimum a change of the loss is rounding, and says nothing
    assert optimizer.damping == kept < 2.0


def test_damping_rises_where_the_model_is_bad():
    """Far out in the flat part of tanh the quadratic model is off: the loss rises, and so does the damping."""
    x = torch.tensor([[1.0], [2.0]]).double()
    model = network(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1))
    for p, value in zip(model.parameters(), (3.0, 0.0, 0.01, 0.0), strict=True):
        p.data.fill_(value)
    optimizer = KFAC(model, damping=1e-12, adapt_every=1)
    closure = closure_of(optimizer, model, x, torch.tensor([[5.0], [-5.0]]).double(), "mse")
    before = [optimizer.damping]
    for _ in range(6):
        optimizer.step(closure)
        before.append(optimizer.damping)
    assert max(np.diff(np.log(before))) > 0


def test_state_is_saved_and_loaded():
    x, y = normal(30, 3), normal(30, 2, seed=1)
    models = [network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(2)]
    first = KFAC(models[0], damping=0.3, generator=torch.Generator().manual_seed(0))
    run(first, closure_of(first, models[0], x, y, "mse"), 7)
    models[1].load_state_dict(models[0].state_dict())
    second = KFAC(models[1])
    second.load_state_dict(first.state_dict())
    for optimizer, model in zip((first, second), models, strict=True):
        optimizer._generator = torch.Generator().manual_seed(5)
        run(optimizer, closure_of(optimizer, model, x, y, "mse"), 3)
    assert second.damping == first.damping
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_at_the_minimum_nothing_moves():
    model, x = network(nn.Linear(2, 1)), normal(8, 2)
    optimizer = KFAC(model)
    before = model[0].weight.detach().clone()
    losses = run(optimizer, closure_of(optimizer, model, x, model(x).detach(), "mse"), 6)
    assert losses == [0.0] * 7
    assert torch.equal(model[0].weight, before)


def test_misuse_is_refused():
    model, x = network(nn.Linear(2, 1)), normal(8, 2)
    with pytest.raises(ValueError, match="loss must be one of mse"):
        KFAC(model, loss="l1")
    with pytest.raises(ValueError, match="expected damping > 0"):
        KFAC(model, damping=0.0)
    optimizer = KFAC(model)
    with pytest.raises(ValueError, match="needs a closure"):
        optimizer.step()
    with pytest.raises(ValueError, match="got 0 calls and 2 parameters without a gradient"):
        optimizer.step(lambda: torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        optimizer.step(closure_of(optimizer, model, x, torch.full((8, 1), torch.nan).double(), "mse"))
