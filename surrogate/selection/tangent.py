"""Kernels of neural networks: infinitely wide networks, the Laplace kernel, and gradients of a finite network."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surrogate.linalg.stationary import CORRELATIONS, squared_distance
from surrogate.networks.layers import Layer, record

__all__ = ["LaplaceKernel", "NNGPKernel", "NTKernel", "frozen_copy", "layer_factors", "linear_layers"]


@dataclass(frozen=True)
class LaplaceKernel:
    """k(x, x') = exp(-|x - x'| / lengthscale).

    Attributes:
        lengthscale: Lengthscale, in the units of x.
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


def linear_layers(module: nn.Module) -> list[Layer]:
    """The `nn.Linear` layers of a network in the order of registration.

    Raises:
        ValueError: If there are none, or other layers have parameters, whose gradients would be missing.
    """
    layers = [Layer(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    known = {id(p) for layer in layers for p in layer.parameters}
    others = [name for name, p in module.named_parameters() if id(p) not in known]
    if not layers or others:
        msg = f"expected a network whose parameters are those of nn.Linear layers, got others in {others or 'no layer'}"
        raise ValueError(msg)
    return layers


def frozen_copy(module: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy in evaluation mode without gradients, which later training does not change."""
    twin = copy.deepcopy(module).eval().requires_grad_(False)
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
        ValueError: If the output is not (n,) or (n, k), or a layer is not used exactly once on a matrix of n rows.
    """
    layers = linear_layers(module)
    scales = [(1.0, 1.0)] * len(layers) if scales is None else list(scales)
    if len(scales) != len(layers):
        msg = f"expected one pair of scales for each of the {len(layers)} linear layers, got {len(scales)}"
        raise ValueError(msg)
    start = 0 if last is None else max(len(layers) - last, 0)
    passed = record(module, layers[start:], x, scales=scales[start:])
    if any(u.shape[:2] != (len(x), 1) for u in passed.inputs):
        shapes = [tuple(u.shape[:2]) for u in passed.inputs]
        msg = f"each linear layer must be used on a matrix of {len(x)} rows, got rows and uses of {shapes}"
        raise ValueError(msg)
    us = [u[:, 0] for u in passed.inputs]
    directions = torch.eye(passed.output.shape[1], dtype=passed.output.dtype, device=passed.output.device)
    factors = []
    for k, direction in enumerate(directions):
        gradients = passed.gradients(direction.expand_as(passed.output), keep=k + 1 < len(directions))
        factors += [(u, v[:, 0]) for u, v in zip(us, gradients, strict=True)]
    return factors
