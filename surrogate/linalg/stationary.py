"""Stationary correlation functions of the scaled squared distance r^2 = sum_j ((x_j - x'_j) / lengthscale_j)^2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["CORRELATIONS", "Stationary", "squared_difference", "squared_distance"]


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


def squared_difference(a: Tensor, b: Tensor) -> Tensor:
    """As `squared_distance` from differences, dimension by dimension: exactly zero between equal points.

    The other loses half of the digits of a small distance. Rows are taken as many at a time as fit a cache, or a GB on
    a card; `torch.cdist` does it as fast on the CPU, but on CUDA it launches a block of threads for each pair.
    """
    out, columns = a.new_empty(len(a), len(b)), b.T.contiguous()
    rows = max(1, (200_000 if a.device.type == "cpu" else 100_000_000) // max(1, len(b)))
    for i in range(0, len(a), rows):
        part, some = out[i : i + rows].zero_(), a[i : i + rows]
        for axis in range(a.shape[1]):
            difference = some[:, axis, None] - columns[axis]
            part.addcmul_(difference, difference)
    return out


_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"


def _exp_in_place(x: Tensor) -> Tensor:
    """e^x, written over x. On one thread of a processor with AVX-512 numpy takes half of torch's time."""
    if not _AVX512 or x.device.type != "cpu" or x.requires_grad or torch.get_num_threads() > 1:
        return x.exp_()
    numbers = x.numpy()
    np.exp(numbers, out=numbers)
    return x


def _rbf(r2: Tensor) -> tuple[Tensor, Tensor]:
    # Denormal numbers would make exp four times slower: floors above the smallest normal number.
    k = _exp_in_place(r2.mul_(-0.5).clamp_(min=-700.0 if r2.dtype == torch.float64 else -87.0))
    return k, k


# Matern kernels: sums and products are written into what is no longer needed, since a tile's worth of new memory costs
# more than its exponentials. No square root and no factor of a product is overwritten, which their derivatives use.


def _matern12(r2: Tensor) -> tuple[Tensor, Tensor]:
    """The slope is infinite at r = 0, where it only ever multiplies 0: zero is returned there."""
    r = r2.sqrt_()
    k = _exp_in_place(torch.neg(r))
    return k, torch.div(k, r).masked_fill_(r == 0.0, 0.0)


def _matern32(r2: Tensor) -> tuple[Tensor, Tensor]:
    t = math.sqrt(3.0) * r2.sqrt_()
    e = _exp_in_place(torch.neg(t))
    return t.add(1.0).mul_(e), 3.0 * e


def _matern52(r2: Tensor) -> tuple[Tensor, Tensor]:
    t = math.sqrt(5.0) * r2.sqrt_()
    e = _exp_in_place(torch.neg(t))
    linear = t + 1.0
    return t.square().div_(3.0).add_(linear).mul_(e), (5.0 / 3.0) * linear * e


def _rbf_value(r2: Tensor) -> Tensor:
    return _rbf(r2)[0]


def _matern12_value(r2: Tensor) -> Tensor:
    return _exp_in_place(torch.neg(r2.sqrt_()))


def _matern32_value(r2: Tensor) -> Tensor:
    t = math.sqrt(3.0) * r2.sqrt_()
    return t.add(1.0).mul_(_exp_in_place(torch.neg(t)))


def _matern52_value(r2: Tensor) -> Tensor:
    t = math.sqrt(5.0) * r2.sqrt_()
    return t.square().div_(3.0).add_(t + 1.0).mul_(_exp_in_place(torch.neg(t)))


# Named functions, so that fitted models can be copied to other processes.
CORRELATIONS = {
    "rbf": Stationary("rbf", _rbf, _rbf_value),
    "matern12": Stationary("matern12", _matern12, _matern12_value),
    "matern32": Stationary("matern32", _matern32, _matern32_value),
    "matern52": Stationary("matern52", _matern52, _matern52_value),
}
"""The four that are known by name."""
