"""Stationary covariance functions of the scaled squared distance r^2 = sum_j ((x_j - x'_j) / lengthscale_j)^2."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["KERNELS", "Stationary", "from_gpytorch", "get_kernel", "squared_distance"]


@dataclass(frozen=True)
class Stationary:
    """A correlation function k(r^2) with k(0) = 1, and its slope.

    Attributes:
        name: Name by which a saved run finds the kernel again.
        evaluate: Maps r^2 with any shape to (k, h) of the same shape, where h = -2 dk/d(r^2), so that
            dk / d log(lengthscale_j) = h ((x_j - x'_j) / lengthscale_j)^2. May overwrite its argument, and k and h
            may be one tensor.
        correlation: Maps r^2 to k alone; may overwrite its argument.
    """

    name: str
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]
    correlation: Callable[[Tensor], Tensor]


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances between the rows of a and of b, with shape (n, m); O(n m d) by one product."""
    r2 = torch.mm(a, b.T).mul_(-2.0)
    return r2.add_((a * a).sum(-1, keepdim=True)).add_((b * b).sum(-1)).clamp_(min=0.0)


def _rbf(r2: Tensor) -> tuple[Tensor, Tensor]:
    k = r2.mul_(-0.5).clamp_(min=-700.0).exp_()  # denormal numbers would make exp four times slower
    return k, k


def _matern32(r2: Tensor) -> tuple[Tensor, Tensor]:
    t = math.sqrt(3.0) * r2.sqrt()
    e = torch.exp(-t)
    return (1.0 + t) * e, 3.0 * e


def _matern52(r2: Tensor) -> tuple[Tensor, Tensor]:
    t = math.sqrt(5.0) * r2.sqrt()
    e = torch.exp(-t)
    return (1.0 + t + t * t / 3.0) * e, (5.0 / 3.0) * (1.0 + t) * e


KERNELS = {
    "rbf": Stationary("rbf", _rbf, lambda r2: _rbf(r2)[0]),
    "matern32": Stationary("matern32", _matern32, lambda r2: _matern32(r2)[0]),
    "matern52": Stationary("matern52", _matern52, lambda r2: _matern52(r2)[0]),
}


def get_kernel(kernel: str | Stationary | Any) -> Stationary:
    """The kernel of that name, the kernel itself, or a stationary gpytorch kernel translated.

    Raises:
        ValueError: If the name is not one of ``KERNELS``.
        TypeError: If ``kernel`` is none of the three.
    """
    if isinstance(kernel, Stationary):
        return kernel
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            msg = f"kernel must be one of {sorted(KERNELS)}, got {kernel!r}"
            raise ValueError(msg)
        return KERNELS[kernel]
    if isinstance(kernel, torch.nn.Module):
        return from_gpytorch(kernel)
    msg = f"kernel must be a name, a Stationary or a gpytorch kernel, got {type(kernel).__name__}"
    raise TypeError(msg)


def from_gpytorch(kernel: Any) -> Stationary:
    """A stationary isotropic gpytorch kernel (or a sum or product of such) as a correlation function of r^2.

    Only its shape is used: it is evaluated on one axis with the lengthscales given by the surrogate, and divided by
    its value at zero. The slope comes from automatic differentiation.

    Raises:
        ValueError: If the kernel is not stationary or has one lengthscale per dimension (they are fitted here).
    """
    kernel = copy.deepcopy(kernel).double()
    if not kernel.is_stationary:
        msg = f"the kernel must be stationary, got {type(kernel).__name__}"
        raise ValueError(msg)
    if any(getattr(part, "ard_num_dims", None) not in (None, 1) for part in kernel.modules()):
        msg = (
            "give the gpytorch kernel without ard_num_dims: the lengthscales per dimension are fitted by the surrogate"
        )
        raise ValueError(msg)
    origin = torch.zeros(1, 1, dtype=torch.float64)
    with torch.no_grad():
        scale = float(kernel(origin, origin).to_dense())

    def value(r2: Tensor) -> Tensor:
        r = r2.clamp(min=1e-24).sqrt().reshape(-1, 1)
        return (kernel(origin.to(r), r).to_dense() / scale).reshape(r2.shape)

    def evaluate(r2: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            q = r2.detach().clamp(min=1e-24).requires_grad_()
            k = value(q)
            (slope,) = torch.autograd.grad(k.sum(), q)
        return k.detach(), -2.0 * slope

    def correlation(r2: Tensor) -> Tensor:
        with torch.no_grad():
            return value(r2)

    return Stationary(f"gpytorch:{type(kernel).__name__}", evaluate, correlation)
