"""Pruning of networks: small weights set to zero, or whole hidden units removed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

__all__ = ["keeping_zeros", "pruned", "without_units"]


def pruned(model: nn.Module, share: float) -> nn.Module:
    """A copy of a network with this fraction of the weights set to zero; biases are kept.

    Weights of all linear layers are ranked by w^2 divided by the sum of w^2 over the weights of the layer that are not
    smaller, so that no layer loses too much. Continue training within ``keeping_zeros``.

    Raises:
        ValueError: If the share is not in [0, 1).

    References:
        Lee, Park, Mo, Ahn & Shin (2021), https://arxiv.org/abs/2010.07611, for the score
    """
    _check(share)
    small = copy.deepcopy(model)
    weights = [layer.weight for layer in small.modules() if isinstance(layer, nn.Linear)]
    scores = torch.cat([_scores(weight.detach()).flatten() for weight in weights])
    count = int(share * len(scores))
    keep = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    keep[scores.argsort(stable=True)[:count]] = False
    for weight, mask in zip(weights, keep.split([weight.numel() for weight in weights]), strict=True):
        weight.data.mul_(mask.view_as(weight))
    return small


def _scores(weight: Tensor) -> Tensor:
    """Pruning scores: squared weights divided by the sum of the squares in the layer that are not smaller."""
    square = weight.square().flatten()
    order = square.argsort(descending=True, stable=True)
    sums = square[order].cumsum(0).clamp(min=torch.finfo(square.dtype).tiny)
    scores = torch.empty_like(square)
    scores[order] = square[order] / sums
    return scores.view_as(weight)


@contextmanager
def keeping_zeros(model: nn.Module) -> Iterator[None]:
    """Context in which training keeps zero weights of linear layers at zero."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        prune.custom_from_mask(layer, "weight", layer.weight.detach() != 0)
    try:
        yield
    finally:
        for layer in layers:
            prune.remove(layer, "weight")


def without_units(model: nn.Sequential, share: float, x: Tensor) -> nn.Sequential:
    """A copy of a network without some hidden units, such that this share of the weights is removed.

    All hidden layers keep the same fraction of their units. The units removed are those that contribute least to the
    next layer: mean square of the unit's value over the rows, times the squared norm of its outgoing weights. Their
    mean contribution is added to the next bias.

    Args:
        model: Linear layers with biases, separated by elementwise functions.
        share: Fraction of the weights.
        x: Inputs, with shape (n, d).

    Raises:
        ValueError: If the share is not in [0, 1), or a layer would lose all units.
    """
    _check(share)
    part = _part_of_units(model, share)
    layers = [*copy.deepcopy(model)]
    numbers = [k for k, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for this, following in zip(numbers[:-1], numbers[1:], strict=True):
            values = nn.Sequential(*layers[:following])(x)
            into = layers[following]
            score = values.square().mean(0) * into.weight.square().sum(0)
            kept = score.argsort(descending=True)[: max(1, round(part * len(score)))].sort().values
            gone = torch.ones(len(score), dtype=torch.bool, device=score.device)
            gone[kept] = False
            into.bias += into.weight[:, gone] @ values.mean(0)[gone]
            layers[this] = _linear(layers[this].weight[kept], layers[this].bias[kept])
            layers[following] = _linear(into.weight[:, kept], into.bias)
    return nn.Sequential(*layers)


def _part_of_units(model: nn.Sequential, share: float) -> float:
    """The fraction p such that the widths d, p w_1, ..., p w_L, 1 remove this share of the weights."""
    shapes = [layer.weight.shape for layer in model if isinstance(layer, nn.Linear)]
    if len(shapes) < 2:
        msg = "a network without hidden layers has no units to remove"
        raise ValueError(msg)
    inner = sum(rows * columns for rows, columns in shapes[1:-1])
    outer = sum(rows * columns for rows, columns in (shapes[0], shapes[-1]))
    target = (1.0 - share) * (inner + outer)
    # inner p^2 + outer p = target
    return float(2.0 * target / (outer + (outer**2 + 4.0 * inner * target) ** 0.5))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return layer


def _check(share: float) -> None:
    if not 0.0 <= share < 1.0:
        msg = f"the fraction of weights to prune must be in [0, 1), got {share}"
        raise ValueError(msg)
