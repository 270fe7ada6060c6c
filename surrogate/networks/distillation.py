"""Distillation: training a smaller network on the outputs of a larger one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["distil"]

_FUSED = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)


def distil(
    student: nn.Module,
    teacher: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    generator: torch.Generator,
    steps: int = 1500,
    batch_size: int = 256,
    learning_rate: float = 0.05,
    mix: float = 0.5,
) -> float:
    """Trains a network in place on the outputs of another, at the rows and between them; needs no labels.

    The teacher was stopped early by held-out labels; a student trained on the labels would fit their noise. "Between
    rows" means at x + a (x' - x) with a in (0, ``mix``), for pairs of rows drawn anew in each batch. The teacher
    provides targets there too, so a few thousand rows are enough for a network with many more weights.

    Args:
        student: Network to train, with outputs of the teacher's shape. Adam's step for each tensor is ``learning_rate``
            times the tensor's root mean square, and decreases linearly to 0.
        teacher: Network whose outputs are the targets.
        x: Inputs, with shape (n, d).
        generator: Draws the batches; on the CPU.
        steps: Steps of Adam.
        batch_size: Rows per step, drawn anew for each step.
        learning_rate: Relative size of the first step.
        mix: Largest weight of the second row; 0 uses only the rows themselves.

    Returns:
        Root mean square difference between the outputs over the last tenth of the steps.

    Raises:
        ValueError: If there are no rows or no steps.
        FloatingPointError: If training diverges.

    References:
        Hinton, Vinyals & Dean (2015), https://arxiv.org/abs/1503.02531
        Zhang, Cisse, Dauphin & Lopez-Paz (2018), https://arxiv.org/abs/1710.09412, for rows between rows
    """
    if len(x) == 0 or steps < 1:
        msg = f"distillation needs rows and steps, got {len(x)} and {steps}"
        raise ValueError(msg)
    groups = [{"params": [value], "scale": _size(value)} for value in student.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(groups, fused=_FUSED or x.is_cuda)
    losses = []
    for number in range(steps):
        rows = _points_between(x, batch_size, mix, generator)
        with torch.no_grad():
            wanted = teacher(rows)
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate * (1.0 - number / steps)
        optimizer.zero_grad(set_to_none=True)
        error = (student(rows) - wanted).square().mean()
        error.backward()
        optimizer.step()
        losses.append(error.detach())
    loss = float(torch.stack(losses[-max(1, steps // 10) :]).mean())
    if not loss < float("inf"):
        msg = f"distillation diverged at a relative step size of {learning_rate}"
        raise FloatingPointError(msg)
    return loss**0.5


def _points_between(x: Tensor, count: int, mix: float, generator: torch.Generator) -> Tensor:
    """Points on the lines between pairs of rows drawn with replacement, with shape (count, d)."""
    one, other = torch.randint(len(x), (2, count), generator=generator).to(x.device)
    share = mix * torch.rand(count, 1, generator=generator, dtype=x.dtype).to(x.device)
    return torch.lerp(x[one], x[other], share)


def _size(value: Tensor) -> float:
    """Root mean square of the nonzero entries; 1 if all are zero."""
    entries = value.detach()[value.detach() != 0]
    return float(entries.square().mean().sqrt()) if len(entries) else 1.0
