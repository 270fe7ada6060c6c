"""Kernels of neural networks: infinitely wide networks, the Laplace kernel, and gradients of a finite network."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surrogate.linalg.stationary import CORRELATIONS, squared_distance

__all__ = ["LaplaceKernel", "NNGPKernel", "NTKernel", "frozen_copy", "layer_factors", "linear_layers"]


@dataclass(frozen=True)
class LaplaceKernel:
    """k(x, x') = exp(-|x - x'| / lengthscale).

    Attributes:
        lengthscale: In the units of x.
    """

    lengthscale: float = 1.0

    def __post_init__(self) -> None:
        if not self.lengthscale > 0:
            msg = f"lengthscale must be positive, got {self.lengthscale}"
            raise ValueError(msg)

    def diag(self, x: Tensor) -> Tensor:
        """Ones, with shape (n,)."""
        return torch.ones_like(x[:, 0])

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """Kernel of the rows of a and of b, with shapes (n, d) and (m, d), as (n, m)."""
        return CORRELATIONS["matern12"].correlation(squared_distance(a / self.lengthscale, b / self.lengthscale))


@dataclass(frozen=True)
class _WideNetwork:
    """Common part of the kernels of infinitely wide ReLU networks, which document the attributes."""

    layers: int = 3
    weight_variance: float = 2.0
    bias_variance: float = 0.0

    def __post_init__(self) -> None:
        if self.layers < 1 or not self.weight_variance > 0 or self.bias_variance < 0:
            msg = (
                "expected layers >= 1, weight_variance > 0 and bias_variance >= 0, "
                f"got {self.layers}, {self.weight_variance} and {self.bias_variance}"
            )
            raise ValueError(msg)

    def _first(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariance of the first pre-activations, with shape (n, m)."""
        return self.weight_variance / a.shape[1] * (a @ b.T) + self.bias_variance

    def _variances(self, x: Tensor) -> list[Tensor]:
        """Variances of the pre-activations of each layer, each with shape (n,)."""
        variances = [self.weight_variance / x.shape[1] * x.square().sum(1) + self.bias_variance]
        for _ in range(self.layers - 1):
            variances.append(0.5 * self.weight_variance * variances[-1] + self.bias_variance)
        return variances


class NNGPKernel(_WideNetwork):
    """Covariance of the outputs of infinitely wide ReLU networks with random parameters (NNGP).

    K_0 = w x.x' / d + b and K <- w T(K) + b once for each further layer, with T the arc-cosine kernel of first order
    divided by two.

    Attributes:
        layers: Number of linear layers.
        weight_variance: w, the variance of a weight times the number of inputs of its layer.
        bias_variance: b.

    References:
        Cho & Saul (2009), https://papers.nips.cc/paper/3628; Lee et al. (2018), arXiv:1711.00165.
    """

    def diag(self, x: Tensor) -> Tensor:
        """Variances, with shape (n,)."""
        return self._variances(x)[-1]

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """Kernel of the rows of a and of b, with shapes (n, d) and (m, d), as (n, m)."""
        k = self._first(a, b)
        for va, vb in zip(self._variances(a)[:-1], self._variances(b)[:-1], strict=True):
            k = self.weight_variance * _arc_cosine(k, va, vb)[0] + self.bias_variance
        return k


class NTKernel(_WideNetwork):
    """Neural tangent kernel of infinitely wide ReLU networks, which describes their gradient descent.

    With K as in `NNGPKernel`, Theta_0 = K_0 and Theta <- K + w T'(K) Theta for each further layer.

    Attributes:
        layers: Number of linear layers.
        weight_variance: w, the variance of a weight times the number of inputs of its layer.
        bias_variance: b.

    References:
        Jacot, Gabriel & Hongler (2018), arXiv:1806.07572; Lee et al. (2019), arXiv:1902.06720.
    """

    def diag(self, x: Tensor) -> Tensor:
        """Diagonal, with shape (n,)."""
        variances = self._variances(x)
        theta = variances[0]
        for v in variances[1:]:
            theta = v + 0.5 * self.weight_variance * theta
        return theta

    def matrix(self, a: Tensor, b: Tensor) -> Tensor:
        """Kernel of the rows of a and of b, with shapes (n, d) and (m, d), as (n, m)."""
        k = theta = self._first(a, b)
        for va, vb in zip(self._variances(a)[:-1], self._variances(b)[:-1], strict=True):
            value, slope = _arc_cosine(k, va, vb)
            k = self.weight_variance * value + self.bias_variance
            theta = k + self.weight_variance * slope * theta
        return theta


def _arc_cosine(k: Tensor, va: Tensor, vb: Tensor) -> tuple[Tensor, Tensor]:
    """E relu(u) relu(v) and E relu'(u) relu'(v) for normal u, v with covariance k and variances va, vb."""
    scale = va.sqrt()[:, None] * vb.sqrt()[None, :]
    cosine = (k / scale.clamp(min=torch.finfo(k.dtype).tiny)).clamp(-1.0, 1.0)
    angle = torch.arccos(cosine)
    value = scale * ((1.0 - cosine.square()).sqrt() + (math.pi - angle) * cosine) / (2.0 * math.pi)
    return value, (math.pi - angle) / (2.0 * math.pi)


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """The `nn.Linear` layers of a network in the order of registration.

    Raises:
        ValueError: If there are none, or other layers have parameters, whose gradients would be missing.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    known = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    others = [name for name, p in module.named_parameters() if id(p) not in known]
    if not layers or others:
        msg = f"expected a network whose parameters are those of nn.Linear layers, got others in {others or 'no layer'}"
        raise ValueError(msg)
    return layers


def frozen_copy(module: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy in evaluation mode without gradients, which later training does not change."""
    twin = copy.deepcopy(module).eval().requires_grad_(False)
    for part in twin.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]  # would overwrite the pre-activations that gradients are taken at
    return twin if dtype is None else twin.to(dtype)


def layer_factors(
    module: nn.Module, x: Tensor, *, scales: Sequence[tuple[float, float]] | None = None, last: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Gradients of a network's outputs with respect to its parameters, as a pair of factors for each layer.

    The gradient for layer l and point i is the outer product of u_i = [c_w h_i, c_b], h the input of the layer, and
    v_i, the gradient with respect to its output. Kernels of gradients are sums over layers of <u, u'> <v, v'>, and the
    n by (number of parameters) matrix is never formed. A network with k outputs gives k factors a layer: the kernel is
    then the sum over outputs.

    Args:
        module: A `frozen_copy` of a network.
        x: Inputs, with shape (n, d).
        scales: (c_w, c_b) per layer: the constants in front of weights and biases in the tangent parametrisation
            y = c_w W x + c_b b. Ones by default.
        last: Only this many of the last layers.

    Returns:
        Pairs (u, v) with shapes (n, inputs + 1) and (n, outputs) of the layer; without its bias (n, inputs).

    Raises:
        ValueError: If the output is not (n,) or (n, k), a layer is not used exactly once on a matrix of n rows, or the
            network modifies its pre-activations in place.
    """
    layers = linear_layers(module)
    scales = [(1.0, 1.0)] * len(layers) if scales is None else list(scales)
    if len(scales) != len(layers):
        msg = f"expected one pair of scales for each of the {len(layers)} linear layers, got {len(scales)}"
        raise ValueError(msg)
    start = 0 if last is None else max(len(layers) - last, 0)
    taps = [_Tap(layer) for layer in layers[start:]]
    try:
        with torch.enable_grad():
            totals = [column.sum() for column in _as_matrix(module(x), len(x)).unbind(1)]
    finally:
        for tap in taps:
            tap.handle.remove()
    inputs = [tap.checked(len(x)) for tap in taps]
    us = [_with_bias(tap.layer, h, *c) for tap, h, c in zip(taps, inputs, scales[start:], strict=True)]
    factors = []
    for k, total in enumerate(totals):  # gradients of scalars, because torch imports sympy to compare other shapes
        grads = torch.autograd.grad(total, [tap.outputs[0] for tap in taps], retain_graph=k + 1 < len(totals))
        factors += list(zip(us, grads, strict=True))
    return factors


class _Tap:
    """Records the input and the output of one layer during one pass."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.handle = layer.register_forward_hook(self._catch)

    def _catch(self, _layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not output.requires_grad:
            output.requires_grad_()
        self.inputs.append(args[0].detach())
        self.outputs.append(output)
        return output

    def checked(self, n: int) -> Tensor:
        """The input, with shape (n, inputs)."""
        if len(self.inputs) != 1 or self.inputs[0].shape[:-1] != (n,):
            shapes = [tuple(h.shape) for h in self.inputs]
            msg = f"each linear layer must be used once, on a matrix of {n} rows; {self.layer} was used on {shapes}"
            raise ValueError(msg)
        if self.outputs[0]._version != 0:
            msg = f"the output of {self.layer} was modified in place: use an activation that returns a new tensor"
            raise ValueError(msg)
        return self.inputs[0]


def _with_bias(layer: nn.Linear, h: Tensor, weight_scale: float, bias_scale: float) -> Tensor:
    """[c_w h, c_b], with shape (n, inputs + 1), or c_w h for a layer without a bias."""
    h = h if weight_scale == 1.0 else weight_scale * h
    return h if layer.bias is None else nn.functional.pad(h, (0, 1), value=bias_scale)


def _as_matrix(output: Tensor, n: int) -> Tensor:
    if output.ndim == 1 and len(output) == n:
        return output[:, None]
    if output.ndim == 2 and len(output) == n:
        return output
    msg = f"expected outputs with shape ({n},) or ({n}, k), got {tuple(output.shape)}"
    raise ValueError(msg)
