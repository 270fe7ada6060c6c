"""Stationary kernels by name, and translated from gpytorch."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from surrogate.linalg.stationary import CORRELATIONS, Stationary, squared_distance

__all__ = ["KERNELS", "Stationary", "from_gpytorch", "get_kernel", "squared_distance"]


KERNELS = {name: CORRELATIONS[name] for name in ("rbf", "matern32", "matern52")}
"""Kernels that a surrogate may be given by name."""


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
