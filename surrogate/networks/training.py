"""Training a stack of networks by Adam with a step size per tensor; can keep the best epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from surrogate.networks.ensemble import Stack
from surrogate.networks.large_batch import BatchPolicy, Lamb

__all__ = ["HeldOut", "Loss", "Schedule", "Training", "cross_entropy", "parameter_groups", "squared_error", "train"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""Function of outputs and targets of M networks that gives their mean losses, with shape (M,)."""

_FUSED = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (
    2,
    4,
)  # one pass over the parameters on the CPU


@dataclass(frozen=True)
class Schedule:
    """Number of epochs, batch size and learning rates.

    Attributes:
        epochs: Passes through the data, before any increase by the policy.
        batch_size: Rows per step, or all rows if there are fewer. The last, incomplete batch of an epoch is dropped.
        learning_rate: Learning rate of the first step, in the tangent parametrisation; it is multiplied by 1 - t / T at
            step t of T.
        policy: How settings change for batches larger than the tuned size.
    """

    epochs: int = 256
    batch_size: int = 256
    learning_rate: float = 0.375
    policy: BatchPolicy = BatchPolicy()

    def passes(self, rows: int) -> int:
        """Number of epochs for this number of rows."""
        return self.policy.epochs(self.epochs, min(self.batch_size, rows))

    def rate(self, step: int, total: int, batch: int) -> float:
        """Learning rate at a step, counted from 0."""
        policy = self.policy
        return self.learning_rate * policy.rate(batch) * policy.rise(step, total, batch) * (1.0 - step / total)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out rows for choosing the best epoch.

    Attributes:
        x: Inputs for each network of the stack, with shape (M, v, d).
        y: Targets, with shape (M, v).
        together: Whether all networks keep the same epoch, that of the lowest total loss, or each its own.
    """

    x: Tensor
    y: Tensor
    together: bool = False


@dataclass(frozen=True, eq=False)
class Training:
    """Result of training a stack of networks.

    Attributes:
        stack: The networks as they were at the end of the chosen epoch.
        epochs: The epoch chosen for each, counted from 1, with shape (M,).
        held_out_loss: Held-out loss after each epoch, with shape (epochs, M); with shape (0, M) if there are no
            held-out rows.
    """

    stack: Stack
    epochs: Tensor
    held_out_loss: Tensor


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean square error of each network, for outputs and targets with shape (M, n)."""
    return (outputs - targets).square().mean(1)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p of the classes of each network, for logits with shape (M, n, c) and classes with shape (M, n)."""
    return functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(1)


def parameter_groups(
    stack: Stack, scales: Sequence[tuple[float, float]], learning_rate: float, *, eps: float = 1e-8
) -> list[dict[str, object]]:
    """Parameter groups that make Adam train ordinary layers as in the tangent parametrisation.

    With W = c V the gradient with respect to V is c times that with respect to W. Adam normalises gradients, so the
    step of V is unchanged and W = c V moves c times as far: the step size of W is c times that of V. ``eps`` is divided
    by c to keep its ratio to the gradient. The two trainings then differ only by rounding.
    """
    groups: list[dict[str, object]] = []
    constants = [c for pair in scales for c in pair]
    for c, value in zip(constants, stack.parameters.values(), strict=True):
        groups.append({"params": [value], "lr": c * learning_rate, "scale": c, "eps": eps / c})
    return groups


def train(
    stack: Stack,
    x: Tensor,
    y: Tensor,
    rows: Tensor,
    *,
    scales: Sequence[tuple[float, float]],
    schedule: Schedule,
    generators: Sequence[torch.Generator],
    held_out: HeldOut | None = None,
    stop: int | None = None,
    loss: Loss = squared_error,
) -> Training:
    """Trains each network of a stack on its own rows, independently of the others.

    A step of a 512-512 network on 256 rows needs 0.4 GFLOP, or 5 ms on one core at 90 GFLOP/s; the overhead is small.
    Without ``held_out`` the last epoch is kept, which is good because the step size has decreased to zero.

    Args:
        stack: M networks; trained in place.
        x: Inputs, with shape (n, d).
        y: Targets, with shape (n,).
        rows: Indices of each network's training rows, with shape (M, m).
        scales: Constants of the tangent parametrisation, see ``Architecture.scales``.
        schedule: Epochs, batches and steps.
        generators: One for the order of each network's batches, on the CPU.
        held_out: Held-out rows for choosing the epoch; the earliest of equally good ones is kept.
        stop: Epoch at which to stop, with the step sizes of the full schedule.
        loss: Loss to minimise, also used on the held-out rows.

    References:
        Kingma & Ba (2015), https://arxiv.org/abs/1412.6980
        Holzmueller, Zaverkin, Kaestner & Steinwart (2023), https://arxiv.org/abs/2203.09410
    """
    optimizer = _optimizer(parameter_groups(stack, scales, schedule.learning_rate), schedule.policy, cuda=x.is_cuda)
    batch, passes = min(schedule.batch_size, rows.shape[1]), schedule.passes(rows.shape[1])
    total = passes * (rows.shape[1] // batch)
    keeper, step = _Last(stack) if held_out is None else _Best(stack, held_out, loss), 0
    for epoch in range(1, (stop or passes) + 1):
        order = rows.gather(1, _orders(generators, rows))
        for some in order.split(batch, dim=1)[: rows.shape[1] // batch]:
            _set_rate(optimizer, schedule.rate(step, total, batch))
            _step(stack, optimizer, x[some], y[some], schedule.policy, loss)
            step += 1
        keeper.look(epoch)
    return keeper.finish()


def _optimizer(groups: list[dict[str, object]], policy: BatchPolicy, *, cuda: bool) -> torch.optim.Optimizer:
    if policy.optimizer == "adam":
        return torch.optim.Adam(groups, fused=_FUSED or cuda)
    for group in groups:
        if group["params"][0].ndim > 2:  # type: ignore[index]  # weights of a stack: their steps are relative
            group["scale"] = 1.0
    return Lamb(groups, stacked=True)


def _orders(generators: Sequence[torch.Generator], rows: Tensor) -> Tensor:
    orders = [torch.randperm(rows.shape[1], generator=generator) for generator in generators]
    return torch.stack(orders).to(rows.device)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["scale"] * rate


def _step(
    stack: Stack, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, policy: BatchPolicy, loss: Loss
) -> None:
    optimizer.zero_grad(set_to_none=True)
    parts = policy.parts(x.shape[1])
    for some, target in zip(x.chunk(parts, dim=1), y.chunk(parts, dim=1), strict=True):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=policy.precision == "bf16"):
            output = stack(some)
        (loss(output.to(x.dtype), target) * (target.shape[1] / y.shape[1])).sum().backward()
    optimizer.step()


class _Best:
    """Keeps the parameters of each network at its best epoch on held-out rows."""

    def __init__(self, stack: Stack, held_out: HeldOut, loss: Loss) -> None:
        self._stack, self._held_out, self._loss = stack, held_out, loss
        self._kept = {name: value.detach().clone() for name, value in stack.parameters.items()}
        self._lowest = held_out.x.new_full((len(stack),), torch.inf)
        self._epochs = torch.zeros(len(stack), dtype=torch.long, device=held_out.y.device)
        self._losses: list[Tensor] = []

    @torch.no_grad()
    def look(self, epoch: int) -> None:
        loss = self._loss(self._stack(self._held_out.x), self._held_out.y)
        judged = loss.mean().expand_as(loss) if self._held_out.together else loss
        better = judged < self._lowest
        self._lowest[better], self._epochs[better] = judged[better], epoch
        for name, value in self._stack.parameters.items():
            self._kept[name][better] = value[better]
        self._losses.append(loss)

    @torch.no_grad()
    def finish(self) -> Training:
        for name, value in self._stack.parameters.items():
            value.copy_(self._kept[name])
        return Training(self._stack, self._epochs, torch.stack(self._losses))


class _Last:
    """Keeps the parameters of the last epoch."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._epoch = stack, 0

    def look(self, epoch: int) -> None:
        self._epoch = epoch

    def finish(self) -> Training:
        members = len(self._stack)
        return Training(self._stack, torch.full((members,), self._epoch), torch.empty((0, members)))
