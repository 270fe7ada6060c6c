"""Training of networks on scaled rows, split into training and held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from surrogate.networks.architecture import Architecture
from surrogate.networks.classes import Logits, outputs_of
from surrogate.networks.ensemble import Stack
from surrogate.networks.posteriors import Member, Rows, members_of
from surrogate.networks.training import HeldOut, Schedule, cross_entropy, squared_error, train
from surrogate.networks.uncertainty import Calibration, calibrate, in_blocks, spreads
from surrogate.rng import generator, torch_generator

__all__ = [
    "Group",
    "Split",
    "Task",
    "calibrated",
    "disagreement",
    "folds",
    "learn",
    "posteriors",
    "unseen_logits",
]


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of training rows and of held-out rows."""

    seen: Tensor
    unseen: Tensor


@dataclass(frozen=True, eq=False)
class Task:
    """Data and settings of a fit.

    Attributes:
        x: Scaled inputs, with shape (n, d).
        y: Scaled targets, or classes, integers from 0, with shape (n,).
        architecture: Architecture of every network.
        schedule: Schedule of every training.
        members: Number of networks in a group.
        seed: Seed of all random numbers.
        classes: Whether targets are classes and outputs logits.
    """

    x: Tensor
    y: Tensor
    architecture: Architecture
    schedule: Schedule
    members: int
    seed: int
    classes: bool = False


@dataclass(frozen=True, eq=False)
class Group:
    """Networks trained on the same rows, with the chosen epochs."""

    modules: tuple[nn.Sequential, ...]
    epochs: tuple[int, ...]
    split: Split


def folds(
    n: int,
    fold: int,
    count: int,
    seed: int,
    device: torch.device,
    *,
    eligible: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> list[Split]:
    """Splits of n rows into training rows and ``fold`` held-out rows, different in each split.

    Args:
        n: Number of rows.
        fold: Number of held-out rows of a split.
        count: Number of splits.
        seed: Seed of the order in which rows are drawn.
        device: Where the indices are.
        eligible: Rows that may be held out; all by default.
        groups: Group of each row, with shape (n,). If a row is held out, no row of its group is used for training.
            `learn` needs splits of equal size, so missing training rows are filled by repeating the first ones.
    """
    order = generator(seed, "folds").permutation(n if eligible is None else eligible)
    parts = [order[k * fold : (k + 1) * fold] for k in range(count)]
    every = np.arange(n)
    groups = every if groups is None else groups
    seen = [every[~np.isin(groups, groups[part])] for part in parts]
    most = max((len(rows) for rows in seen), default=0)
    return [
        Split(torch.from_numpy(np.resize(rows, most)).to(device), torch.from_numpy(part).to(device))
        for rows, part in zip(seen, parts, strict=True)
    ]


def learn(
    task: Task,
    splits: Sequence[Split],
    *,
    purpose: str,
    choose: str | None = None,
    stop: int | None = None,
    start: Sequence[nn.Sequential] = (),
) -> list[Group]:
    """Trained groups of networks, ``task.members`` for each split; all are trained at once.

    Args:
        task: Task to learn.
        splits: Splits with equal numbers of training rows and of held-out rows.
        purpose: Name of the random streams.
        choose: Whether held-out rows choose an epoch for "each" network or one for all "together"; None keeps the last
            epoch.
        stop: Epoch at which to stop, with the step sizes of the full schedule.
        start: Networks from which to continue, one for each to be trained; none to start from random weights.

    Raises:
        ValueError: If ``start`` is not empty and has the wrong number of networks.
        FloatingPointError: If a final weight is not finite.
    """
    names = [(split, member) for split in range(len(splits)) for member in range(task.members)]
    if start and len(start) != len(names):
        msg = f"training must continue from {len(names)} networks, got {len(start)}"
        raise ValueError(msg)
    streams = [torch_generator(task.seed, purpose, *name, "batches") for name in names]
    stack = Stack.of(start or [_fresh(task, purpose, *name) for name in names])
    unseen = torch.stack([splits[split].unseen for split, _ in names])
    training = train(
        stack,
        task.x,
        task.y,
        torch.stack([splits[split].seen for split, _ in names]),
        scales=task.architecture.scales(),
        schedule=task.schedule,
        generators=streams,
        held_out=HeldOut(task.x[unseen], task.y[unseen], choose == "together") if choose else None,
        stop=stop,
        loss=cross_entropy if task.classes else squared_error,
    )
    _check_finite(stack)
    modules, epochs, size = stack.modules(), training.epochs.tolist(), task.members
    return [
        Group(modules[k * size : (k + 1) * size], tuple(epochs[k * size : (k + 1) * size]), split)
        for k, split in enumerate(splits)
    ]


def _fresh(task: Task, purpose: str, split: int, member: int) -> nn.Sequential:
    stream = torch_generator(task.seed, purpose, split, member, "weights")  # on the CPU: the same on every device
    return task.architecture.build(stream).to(task.x.device)


def _check_finite(stack: Stack) -> None:
    if not all(bool(value.isfinite().all()) for value in stack.parameters.values()):
        msg = "training diverged: weights are not finite; use an Activation with a lower learning_rate"
        raise FloatingPointError(msg)


def posteriors(task: Task, groups: Sequence[Group], kind: str) -> list[list[Member]]:
    """The networks of each group with their posteriors given their training rows; see `members_of`."""
    found = []
    for number, group in enumerate(groups):
        seen = Rows(task.x[group.split.seen], task.y[group.split.seen], task.architecture, task.classes)
        names = [(number, member) for member in range(max(1, len(group.modules)))]
        streams = [torch_generator(task.seed, "posterior", len(groups), *name) for name in names]
        found.append(members_of(kind, group.modules, seen, streams))
    return found


def calibrated(task: Task, groups: Sequence[Group], members: Sequence[Sequence[Member]]) -> Calibration:
    """A calibration of the errors of all groups on their held-out rows.

    Args:
        task: The task for which the groups were trained.
        groups: Networks that were trained on the same rows.
        members: Members of each group, see `posteriors`.
    """
    errors, columns, means = [], [], []
    for group, some in zip(groups, members, strict=True):
        rows = group.split.unseen
        parts = in_blocks(partial(spreads, some, disagree=disagreement(task, some)), task.x[rows])
        errors.append((parts[0] - task.y[rows]).cpu().numpy())
        columns.append(parts[1].cpu().numpy())
        means.append(parts[0].cpu().numpy())
    return calibrate(np.concatenate(errors), np.concatenate(columns), np.concatenate(means))


def disagreement(task: Task, members: Sequence[Member]) -> bool:
    """Whether disagreement is measured between networks of a group, rather than between networks of different folds."""
    return task.members > 1 and len(members) > 1


def unseen_logits(
    task: Task, groups: Sequence[Group], members: Sequence[Sequence[Member]]
) -> tuple[list[Logits], list[Tensor]]:
    """Logits and classes of the held-out rows of each group, for ``fit_temperature``."""
    unseen = [group.split.unseen for group in groups]
    logits = [outputs_of(some, task.x[rows]) for some, rows in zip(members, unseen, strict=True)]
    return logits, [task.y[rows] for rows in unseen]
