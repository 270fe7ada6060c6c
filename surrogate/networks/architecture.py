"""Architecture of networks: linear layers with step sizes of the tangent parametrisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import skip_init

__all__ = ["ACTIVATIONS", "Activation", "Architecture"]


@dataclass(frozen=True)
class Activation:
    """A nonlinearity with suitable scales of weights, biases and step sizes.

    Attributes:
        name: "relu" or "silu".
        weight_gain: sigma_w: a weight of a layer with d inputs is sigma_w / sqrt(d) times a standard normal variable.
        bias_gain: sigma_b: scale of the biases, which start at 0.
        learning_rate: Learning rate of Adam in the tangent parametrisation; it decreases linearly to 0 during training.
    """

    name: str
    weight_gain: float
    bias_gain: float
    learning_rate: float

    def module(self) -> nn.Module:
        """The nonlinearity as a torch module."""
        return {"relu": nn.ReLU, "silu": nn.SiLU}[self.name]()


# Tuned by Holzmueller et al. (2023) on 15 tables for a network of two hidden layers of 512.
ACTIVATIONS = {
    "relu": Activation("relu", weight_gain=0.2, bias_gain=0.2, learning_rate=0.375),
    "silu": Activation("silu", weight_gain=0.5, bias_gain=1.0, learning_rate=0.15),
}


@dataclass(frozen=True)
class Architecture:
    """A multilayer perceptron: linear layers with a nonlinearity between them.

    In the tangent ("NTK") parametrisation a layer is y = c_w V x + c_b b with c_w = sigma_w / sqrt(d), c_b = sigma_b
    and V, b of size one. Here the layers are ordinary ones with W = c_w V, so that libraries for Laplace approximations
    and curvature accept them. Training steps stay the same if each tensor has its own step size (see
    ``training.parameter_groups``), and a tangent kernel multiplies the gradient with respect to W by c_w (see
    ``scales``).

    Attributes:
        inputs: Columns d.
        hidden: Width of each hidden layer.
        activation: Nonlinearity, with its sizes.
        outputs: Number of outputs, such as the logits of classes.

    References:
        Jacot, Gabriel & Hongler (2018), https://arxiv.org/abs/1806.07572
        Holzmueller, Zaverkin, Kaestner & Steinwart (2023), https://arxiv.org/abs/2203.09410, section 6.1
    """

    inputs: int
    hidden: tuple[int, ...] = (512, 512)
    activation: Activation = ACTIVATIONS["relu"]
    outputs: int = 1

    def widths(self) -> tuple[int, ...]:
        """Numbers of units of all layers, from the inputs to the outputs."""
        return (self.inputs, *self.hidden, self.outputs)

    def scales(self) -> list[tuple[float, float]]:
        """The constants (c_w, c_b) of each linear layer, from the first to the last."""
        gain = self.activation
        return [(gain.weight_gain / width**0.5, gain.bias_gain) for width in self.widths()[:-1]]

    def build(self, generator: torch.Generator) -> nn.Sequential:
        """A new network in single precision, with random weights on the generator's device and zero biases."""
        layers: list[nn.Module] = []
        widths = self.widths()
        for fan_in, fan_out, (scale, _) in zip(widths[:-1], widths[1:], self.scales(), strict=True):
            layers += [_linear(fan_in, fan_out, scale, generator), self.activation.module()]
        return nn.Sequential(*layers[:-1])


def _linear(fan_in: int, fan_out: int, scale: float, generator: torch.Generator) -> nn.Linear:
    layer = skip_init(nn.Linear, fan_in, fan_out, device=generator.device, dtype=torch.float32)
    with torch.no_grad():
        layer.weight.normal_(generator=generator).mul_(scale)
        layer.bias.zero_()
    return layer
