"""Linear layers in 8-bit integers, and training that knows of the rounding."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Activations", "QuantisedLinear", "RoundedLinear", "integers_of_rows", "quantised", "rounded"]

Activations = Literal["none", "dynamic", "static"]

_LEVELS = 255  # steps between the ends of a range in 8 bits
_CLIPS = torch.linspace(0.5, 1.0, 26)  # shares of the largest range that a static range may be


def integers_of_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights as 8-bit integers with one scale for each row, weight ~ scale * integers.

    Symmetric, so that 0 stays 0: pruned weights stay pruned.

    Args:
        weight: With shape (out, in).

    Returns:
        Integers in -127..127 with the shape of the weight, and scales with shape (out,); a row of zeros has scale 1.
    """
    largest = weight.abs().amax(1)
    scale = torch.where(largest > 0, largest / 127.0, 1.0)
    return (weight / scale[:, None]).round().to(torch.int8), scale


def _ends(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each row, with shape (n, 1), 0 included."""
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    return low.clamp(max=0.0), high.clamp(min=0.0)


def _grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Step and the integer that stands for 0, so that -128..127 spans from low to high."""
    step = ((high - low) / _LEVELS).clamp(min=torch.finfo(low.dtype).tiny)
    return step, (-low / step).round() - 128.0


class QuantisedLinear(nn.Module):
    """y = W x + b with W in 8-bit integers, one scale for each output, and the inputs rounded to 8 bits or not.

    With rounded inputs the product is one of integers, summed in 32 bits; where the processor has instructions for it
    (VNNI, AMX) it is several times as fast as one in single precision. Without, W is made single precision first: that
    saves memory alone.

    Args:
        layer: Layer to round.
        activations: "none" leaves the inputs as they are, "dynamic" takes a range for each row when it comes, "static"
            the range that ``sample`` has.
        sample: For "static": inputs of the layer, with shape (n, in). The range is the share of their whole range that
            rounds them with the least square error.

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
        """W x + b for inputs with shape (n, in), with shape (n, out)."""
        if self.activations == "none":
            return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale[:, None], self.bias)
        low, high = _ends(x) if self.ends is None else (self.ends[0], self.ends[1])
        step, zero = _grid(low, high)
        integers = (x / step + zero).round().clamp(-128, 127).to(torch.int8)
        product = torch._int_mm(integers, self.weight.T).to(x.dtype)
        y = (product - zero * self.sums) * (step * self.scale)
        return y if self.bias is None else y + self.bias


def static_ends(sample: Tensor) -> Tensor:
    """Ends of the range for all inputs, with shape (2,), with shape (n, in) of the sample."""
    whole = torch.stack([sample.amin().clamp(max=0.0), sample.amax().clamp(min=0.0)]).detach()
    errors = torch.stack([(_rounded(sample, *(share * whole)) - sample).square().mean() for share in _CLIPS.tolist()])
    return whole * _CLIPS[int(errors.argmin())].to(whole)


def _rounded(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The values that 8-bit integers over the range stand for."""
    step, zero = _grid(low, high)
    return ((x / step + zero).round().clamp(-128, 127) - zero) * step


class RoundedLinear(nn.Linear):
    """A layer in floating point that computes with the values that ``QuantisedLinear`` would round to.

    Gradients pass the rounding as if it were not there.

    References:
        Bengio, Leonard & Courville (2013), https://arxiv.org/abs/1308.3432
    """

    activations: Activations = "dynamic"

    @classmethod
    def of(cls, layer: nn.Linear, activations: Activations = "dynamic") -> RoundedLinear:
        """A layer with the same numbers, shared with the given one; a "static" range is that of each batch."""
        new = cls(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        new.weight, new.bias = layer.weight, layer.bias
        new.activations = _known(activations)
        return new

    def forward(self, x: Tensor) -> Tensor:
        """W x + b for inputs with shape (n, in), with shape (n, out)."""
        integers, scale = integers_of_rows(self.weight.detach())
        weight = _passed(self.weight, integers.to(scale.dtype) * scale[:, None])
        if self.activations != "none":
            low, high = _ends(x.detach())
            if self.activations == "static":
                low, high = low.amin(), high.amax()
            x = _passed(x, _rounded(x.detach(), low, high))
        return nn.functional.linear(x, weight, self.bias)


def _passed(x: Tensor, value: Tensor) -> Tensor:
    """The value, with the gradient of x."""
    return x + (value - x).detach()


def quantised(model: nn.Sequential, activations: Activations = "dynamic", *, sample: Tensor | None = None) -> nn.Module:
    """A copy of a network with all linear layers in 8-bit integers; inputs of the first are not rounded.

    Args:
        model: Linear layers and functions of single numbers.
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
    """A network that shares the model's numbers and computes as ``quantised`` will: for training on."""
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
