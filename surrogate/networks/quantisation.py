"""Linear layers in 8-bit integers, and quantisation-aware training."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Activations", "QuantisedLinear", "RoundedLinear", "integers_of_rows", "quantised", "rounded"]

Activations = Literal["none", "dynamic", "static"]

_LEVELS = 255  # steps in a range of 8-bit integers
_CLIPS = torch.linspace(0.5, 1.0, 26)  # candidates for a static range, as shares of the full range


def integers_of_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights as 8-bit integers with one scale for each row, weight ~ scale * integers.

    Symmetric, so that zeros are exact and pruned weights stay pruned.

    Args:
        weight: With shape (out, in).

    Returns:
        Integers in -127..127 with the shape of the weight, and scales with shape (out,); a row of zeros has scale 1.
    """
    largest = weight.abs().amax(1)
    scale = torch.where(largest > 0, largest / 127.0, 1.0)
    return (weight / scale[:, None]).round().to(torch.int8), scale


def _ends(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest of 0 and the values of each row, each with shape (n, 1)."""
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    return low.clamp(max=0.0), high.clamp(min=0.0)


def _grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Step size and the integer that represents 0, such that -128..127 spans the range from low to high."""
    step = ((high - low) / _LEVELS).clamp(min=torch.finfo(low.dtype).tiny)
    return step, (-low / step).round() - 128.0


class QuantisedLinear(nn.Module):
    """The layer y = W x + b with W in 8-bit integers and one scale per output; inputs may be rounded too.

    With rounded inputs the product is computed in integers with 32-bit sums, several times as fast as in single
    precision if the processor has instructions for it (VNNI, AMX). Otherwise W is first converted to single precision,
    which saves only memory.

    Args:
        layer: Layer to round.
        activations: "none" does not round the inputs, "dynamic" takes the range of each row at run time, "static" a
            fixed range from ``sample``.
        sample: For "static": inputs of the layer, with shape (n, in). The range is the fraction of their full range
            that minimises the squared rounding error.

    Raises:
        ValueError: If ``activations`` is unknown, or "static" without a sample.

    References:
        Jacob et al. (2018), https://arxiv.org/abs/1712.05877
    """

    weight: Tensor
    scale: Tensor
    sums: Tensor
    bias: Tensor | None
    ends: Tensor | None

    def __init__(self, layer: nn.Linear, activations: Activations = "dynamic", *, sample: Tensor | None = None) -> None:
        super().__init__()
        integers, scale = integers_of_rows(layer.weight.detach())
        self.activations = _known(activations)
        self.register_buffer("weight", integers)
        self.register_buffer("scale", scale)
        self.register_buffer("sums", integers.sum(1, dtype=torch.int32).to(scale.dtype))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        if activations == "static" and sample is None:
            msg = "static quantisation needs a sample of the layer's inputs"
            raise ValueError(msg)
        ends = static_ends(sample) if activations == "static" and sample is not None else None
        self.register_buffer("ends", ends)

    def forward(self, x: Tensor) -> Tensor:
        """W x + b, with shape (n, out), for inputs with shape (n, in)."""
        if self.activations == "none":
            return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale[:, None], self.bias)
        low, high = _ends(x) if self.ends is None else (self.ends[0], self.ends[1])
        step, zero = _grid(low, high)
        integers = (x / step + zero).round().clamp(-128, 127).to(torch.int8)
        product = torch._int_mm(integers, self.weight.T).to(x.dtype)
        y = (product - zero * self.sums) * (step * self.scale)
        return y if self.bias is None else y + self.bias


def static_ends(sample: Tensor) -> Tensor:
    """Ends of the input range, with shape (2,), for a sample of inputs with shape (n, in)."""
    whole = torch.stack([sample.amin().clamp(max=0.0), sample.amax().clamp(min=0.0)]).detach()
    errors = torch.stack([(_round(sample, *(share * whole)) - sample).square().mean() for share in _CLIPS.tolist()])
    return whole * _CLIPS[int(errors.argmin())].to(whole)


def _round(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The values rounded to those that 8-bit integers represent in the range."""
    step, zero = _grid(low, high)
    return ((x / step + zero).round().clamp(-128, 127) - zero) * step


class RoundedLinear(nn.Linear):
    """A floating-point layer that computes with the rounded values of ``QuantisedLinear``.

    Gradients ignore the rounding (straight-through estimator).

    References:
        Bengio, Leonard & Courville (2013), https://arxiv.org/abs/1308.3432
    """

    activations: Activations = "dynamic"

    @classmethod
    def of(cls, layer: nn.Linear, activations: Activations = "dynamic") -> RoundedLinear:
        """A layer that shares the parameters of the given one; a "static" range is taken from each batch."""
        new = cls(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        new.weight, new.bias = layer.weight, layer.bias
        new.activations = _known(activations)
        return new

    def forward(self, x: Tensor) -> Tensor:
        """W x + b, with shape (n, out), for inputs with shape (n, in)."""
        integers, scale = integers_of_rows(self.weight.detach())
        weight = _straight_through(self.weight, integers.to(scale.dtype) * scale[:, None])
        if self.activations != "none":
            low, high = _ends(x.detach())
            if self.activations == "static":
                low, high = low.amin(), high.amax()
            x = _straight_through(x, _round(x.detach(), low, high))
        return nn.functional.linear(x, weight, self.bias)


def _straight_through(x: Tensor, value: Tensor) -> Tensor:
    """The value in the forward pass, with the gradient of x in the backward pass."""
    return x + (value - x).detach()


def quantised(model: nn.Sequential, activations: Activations = "dynamic", *, sample: Tensor | None = None) -> nn.Module:
    """A copy of a network with linear layers in 8-bit integers; inputs of the first layer are not rounded.

    Args:
        model: Linear layers and elementwise functions.
        activations: See ``QuantisedLinear``.
        sample: For "static": inputs of the network, with shape (n, d).
    """
    layers: list[nn.Module] = []
    given, first = sample, True
    with torch.no_grad():
        for layer in copy.deepcopy(model):
            if isinstance(layer, nn.Linear):
                layers.append(QuantisedLinear(layer, "none" if first else activations, sample=given))
                first = False
            else:
                layers.append(layer)
            given = None if given is None else layer(given)
    return nn.Sequential(*layers)


def rounded(model: nn.Sequential, activations: Activations = "dynamic") -> nn.Sequential:
    """A network for quantisation-aware training: it shares the model's parameters and rounds like ``quantised``."""
    layers: list[nn.Module] = []
    first = True
    for layer in model:
        if isinstance(layer, nn.Linear):
            layers.append(RoundedLinear.of(layer, "none" if first else activations))
            first = False
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def _known(activations: Activations) -> Activations:
    if activations not in {"none", "dynamic", "static"}:
        msg = f"activations must be 'none', 'dynamic' or 'static', got {activations!r}"
        raise ValueError(msg)
    return activations
