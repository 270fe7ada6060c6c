"""Recipes for compressing a trained network: pruning, rounding and further training."""

from __future__ import annotations

from dataclasses import dataclass, replace

from numpy.typing import ArrayLike
from torch import Tensor, nn

from surrogate.networks.distillation import distil
from surrogate.networks.portable import PRECISIONS, PortableNetwork, Precision
from surrogate.networks.pruning import keeping_zeros, pruned, without_units
from surrogate.networks.quantisation import Activations, rounded
from surrogate.rng import torch_generator

__all__ = ["Recipe", "lean"]

# First relative step of quantisation-aware training. It is smaller than the default of `distil`, which suits a network
# that has lost most of its weights, because here the network is near its optimum.
_AWARE_RATE = 0.01


@dataclass(frozen=True)
class Recipe:
    """How to compress a network.

    Attributes:
        precision: Precision of the weights: "float32", "bf16" or "int8".
        activations: Rounding of the inputs of hidden layers with "int8": "none" does not round them; with "dynamic" and
            "static" products are computed in integers.
        prune: Share of the weights to remove.
        structured: Whether to remove whole hidden units, which also makes the network faster, or single weights.
        aware: Whether to continue training with the rounded numbers of "int8".
        steps: Steps of that training and of the training after pruning, on the original network's outputs; 0 for none.
        seed: Seed of all random numbers.

    Raises:
        ValueError: If a value is unknown or out of range.
    """

    precision: Precision = "int8"
    activations: Activations = "none"
    prune: float = 0.0
    structured: bool = False
    aware: bool = False
    steps: int = 1500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            msg = f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            raise ValueError(msg)
        if self.precision != "int8" and (self.aware or self.activations != "none"):
            msg = f"activations= and aware=True need precision='int8', got {self.precision!r}"
            raise ValueError(msg)
        if not 0.0 <= self.prune < 1.0:
            msg = f"prune must be a fraction in [0, 1), got {self.prune}"
            raise ValueError(msg)
        if self.steps < 0:
            msg = f"steps must be at least 0, got {self.steps}"
            raise ValueError(msg)


def lean(model: PortableNetwork, recipe: Recipe, x: ArrayLike) -> PortableNetwork:
    """The compressed networks, still in floating point; ``to_arrays`` or ``module`` round them.

    They are trained on the outputs of the given networks, so rows need no labels. For two hidden layers of 512 units,
    1500 steps take 15 s on one core; pruning and ``aware`` each need such a training.

    Args:
        model: Trained networks.
        recipe: How to compress them.
        x: Inputs similar to those that will be predicted, with shape (n, d).
    """
    rows = model.scaled(x)
    return replace(model, networks=tuple(_smaller(net, recipe, rows, k) for k, net in enumerate(model.networks)))


def _smaller(network: nn.Sequential, recipe: Recipe, x: Tensor, member: int) -> nn.Sequential:
    small = _prune(network, recipe, x).requires_grad_(True)  # a saved network is frozen, and so is its copy
    stream = torch_generator(recipe.seed, "lean", member)
    if recipe.prune and recipe.steps:
        with keeping_zeros(small):
            distil(small, network, x, generator=stream, steps=recipe.steps)
    if recipe.aware and recipe.steps:
        student = rounded(small, recipe.activations)  # shares its parameters
        with keeping_zeros(student):
            distil(student, network, x, generator=stream, steps=recipe.steps, learning_rate=_AWARE_RATE)
    return small.requires_grad_(False)


def _prune(network: nn.Sequential, recipe: Recipe, x: Tensor) -> nn.Sequential:
    if recipe.structured and recipe.prune:
        return without_units(network, recipe.prune, x)
    small = pruned(network, recipe.prune)
    if not isinstance(small, nn.Sequential):
        msg = f"a network to be made smaller must be nn.Sequential, got {type(network).__name__}"
        raise TypeError(msg)
    return small
