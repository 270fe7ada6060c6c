"""Linear and convolutional layers as linear maps, with their inputs and the gradients at their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Layer", "Pass", "curved_layers", "matrix_gradient", "record"]

Scales = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear or convolutional layer of a network.

    Attributes:
        name: Name, as in ``named_modules``.
        module: The layer.
    """

    name: str
    module: nn.Module

    @property
    def weight(self) -> Tensor:
        """The weight tensor of the module."""
        return self.module.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The bias of the module, or None."""
        return self.module.bias  # type: ignore[return-value]

    @property
    def parameters(self) -> list[Tensor]:
        """Weight, and bias if there is one."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def inputs(self, value: Tensor) -> Tensor:
        """Inputs of the linear map, with shape (n, t, a), where each row of the batch uses the weights t times."""
        if isinstance(self.module, nn.Linear):
            return value.reshape(len(value), -1, value.shape[-1])
        return _patches(self.module, value)

    def outputs(self, value: Tensor) -> Tensor:
        """Outputs of the linear map, or gradients with respect to them, with shape (n, t, b)."""
        if isinstance(self.module, nn.Linear):
            return value.reshape(len(value), -1, value.shape[-1])
        return value.flatten(2).transpose(1, 2)


def _patches(module: nn.Module, value: Tensor) -> Tensor:
    if isinstance(module, nn.Conv1d):
        value, kernel = value.unsqueeze(2), (1, *module.kernel_size)
        stride, padding, dilation = (1, *module.stride), (0, *module.padding), (1, *module.dilation)
    else:
        kernel, stride = module.kernel_size, module.stride  # type: ignore[assignment]
        padding, dilation = module.padding, module.dilation  # type: ignore[assignment]
    return functional.unfold(value, kernel, dilation, padding, stride).transpose(1, 2)


def curved_layers(model: nn.Module) -> list[Layer]:
    """The layers with trainable parameters, in the order of registration.

    Raises:
        ValueError: If there are none, or other layers have trainable parameters: freeze these by
            ``requires_grad_(False)``.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    layers = [Layer(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    layers = [layer for layer in layers if any(p.requires_grad for p in layer.parameters)]
    for layer in layers:
        _check(layer)
    known = {id(p) for layer in layers for p in layer.parameters}
    others = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in known]
    if not layers or others:
        found = f"others in {', '.join(others)}" if others else "none"
        msg = f"parameters to be trained must be those of linear and convolutional layers, got {found}: freeze the rest"
        raise ValueError(msg)
    return layers


def _check(layer: Layer) -> None:
    module = layer.module
    if not all(p.requires_grad for p in layer.parameters):
        msg = f"weight and bias of layer {layer.name!r} must be trained together: freeze both or none"
        raise ValueError(msg)
    if isinstance(module, nn.Conv1d | nn.Conv2d) and (
        module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str)
    ):
        msg = f"convolution {layer.name!r} must have one group and zero padding of fixed width, got {module}"
        raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Pass:
    """One evaluation of a network.

    Attributes:
        layers: Layers whose inputs and outputs were recorded.
        output: Output of the network, with shape (n, c); part of the autograd graph.
        inputs: Inputs of each layer as a linear map, with shape (n, t, a), a bias as a last input of 1.
        outputs: Outputs of each layer in the module's own shape; part of the autograd graph.
    """

    layers: Sequence[Layer]
    output: Tensor
    inputs: list[Tensor]
    outputs: list[Tensor]

    def gradients(self, direction: Tensor, *, keep: bool = True) -> list[Tensor]:
        """Gradients of <direction, output> with respect to each layer's outputs, each with shape (n, t, b).

        Args:
            direction: Direction in the space of the outputs, with shape (n, c).
            keep: Whether to keep the graph for another call.
        """
        with torch.enable_grad():
            total = (self.output * direction).sum()  # of a scalar: torch imports sympy to compare other shapes
        values = torch.autograd.grad(total, self.outputs, retain_graph=keep)
        return [layer.outputs(value) for layer, value in zip(self.layers, values, strict=True)]


def record(model: nn.Module, layers: Sequence[Layer], *args: Tensor, scales: Sequence[Scales] | None = None) -> Pass:
    """Evaluates a network and records the inputs and outputs of its layers.

    Args:
        model: Any network with outputs of shape (n,) or (n, c).
        layers: Layers of this network, see `curved_layers`.
        args: Arguments of the network; rows of the batch along the first axis.
        scales: Factors (c_w, c_b) on each layer's inputs and on the constant input of its bias, as in the tangent
            parametrisation y = c_w V x + c_b b; 1 by default.

    Raises:
        ValueError: If a layer is not used exactly once, or the outputs have another shape.
    """
    taps = [_Tap(layer) for layer in layers]
    try:
        with torch.enable_grad():
            output = model(*args)
    finally:
        for tap in taps:
            tap.handle.remove()
    constants = [(1.0, 1.0)] * len(layers) if scales is None else list(scales)
    inputs = [_with_bias(tap.layer, tap.input(), *c) for tap, c in zip(taps, constants, strict=True)]
    return Pass(layers, _as_matrix(output, len(args[0])), inputs, [tap.outputs[0] for tap in taps])


class _Tap:
    """Records the input and the output of one layer during one pass."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.handle = layer.module.register_forward_hook(self._catch)

    def _catch(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not output.requires_grad:
            output.requires_grad_()
        self.inputs.append(args[0].detach())
        self.outputs.append(output)
        return output.clone()  # so that an in-place activation does not change the recorded output

    def input(self) -> Tensor:
        """The recorded input of the linear map."""
        if len(self.inputs) != 1:
            msg = (
                f"layer {self.layer.name!r} must be used exactly once per forward pass, was used "
                f"{len(self.inputs)} times"
            )
            raise ValueError(msg)
        return self.layer.inputs(self.inputs[0])


def _with_bias(layer: Layer, value: Tensor, weight_scale: float, bias_scale: float) -> Tensor:
    value = value if weight_scale == 1.0 else weight_scale * value
    return value if layer.bias is None else functional.pad(value, (0, 1), value=bias_scale)


def _as_matrix(output: Tensor, n: int) -> Tensor:
    if output.ndim == 1 and len(output) == n:
        return output[:, None]
    if output.ndim != 2 or len(output) != n:
        msg = f"outputs must have shape ({n},) or ({n}, c), got {tuple(output.shape)}"
        raise ValueError(msg)
    return output


def matrix_gradient(layer: Layer, values: Sequence[Tensor]) -> Tensor:
    """Weight and bias, or tensors of their shapes, as one matrix with shape (b, a) and the bias as last column."""
    weight = values[0].flatten(1)
    return weight if layer.bias is None else torch.cat([weight, values[1][:, None]], 1)
