"""Stationary correlation functions of the scaled squared distance r^2 = sum_j ((x_j - x'_j) / lengthscale_j)^2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array

__all__ = ["CORRELATIONS", "Stationary", "correlations", "squared_difference", "squared_distance"]


Numbers = TypeVar("Numbers", Array, Tensor)
"""A numpy array or a tensor."""


class Pair(Protocol):
    """A function of r^2 that returns two arrays of the same kind and shape."""

    def __call__(self, r2: Numbers, /) -> tuple[Numbers, Numbers]:
        """The two arrays at r^2."""


class Single(Protocol):
    """A function of r^2 that returns an array of the same kind and shape."""

    def __call__(self, r2: Numbers, /) -> Numbers:
        """The array at r^2."""


@dataclass(frozen=True)
class Stationary:
    """A correlation function k(r^2) with k(0) = 1, and its slopes.

    All functions may overwrite their argument, and two results may be the same array.

    Attributes:
        name: Name by which a saved run identifies the kernel.
        evaluate: Maps r^2 with any shape to (k, h) of the same shape, where h = -2 dk/d(r^2), so that
            dk / d log(lengthscale_j) = h ((x_j - x'_j) / lengthscale_j)^2.
        correlation: Maps r^2 to k.
        slopes: Maps r^2 to (k, h, g, q), g = -2 dh/d(r^2) and q = -2 dg/d(r^2). None for processes without derivatives.
            If q has a pole at zero, it only occurs multiplied by the cube of a distance.
        of_exponent: Maps arrays of e = -r^2 / 2 between -700 and 0 to k. It is a fifth faster than ``correlation`` for
            a batch, and twice as fast for a single point, where a product gives e directly.
        slope_of_exponent: Maps such e to h. None for processes without derivatives.
    """

    name: str
    evaluate: Pair
    correlation: Single
    of_exponent: Callable[[Array], Array]
    slopes: Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]] | None = None
    slope_of_exponent: Callable[[Array], Array] | None = None


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances between the rows of a and of b, with shape (n, m); O(n m d) by one product."""
    r2 = torch.mm(a, b.T).mul_(-2.0)
    return r2.add_((a * a).sum(-1, keepdim=True)).add_((b * b).sum(-1)).clamp_(min=0.0)


def squared_difference(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances from differences of coordinates, exactly zero between equal points.

    ``squared_distance`` loses half of the digits of small distances. Rows are processed in blocks that fit into the
    cache, or into a GB on a GPU. `torch.cdist` is as fast on the CPU, but on CUDA it launches a block of threads for
    each pair.
    """
    out, columns = a.new_empty(len(a), len(b)), b.T.contiguous()
    rows = max(1, (200_000 if a.device.type == "cpu" else 100_000_000) // max(1, len(b)))
    for i in range(0, len(a), rows):
        part, some = out[i : i + rows].zero_(), a[i : i + rows]
        for axis in range(a.shape[1]):
            difference = some[:, axis, None] - columns[axis]
            part.addcmul_(difference, difference)
    return out


def correlations(kernel: Stationary, z: Tensor) -> tuple[Tensor, Tensor]:
    """k and h within b sets of m scaled points, each with shape (b, m, m), for z with shape (b, m, d)."""
    z = z - z[:, -1:]  # relative to the target, so that the expanded square is accurate for neighbours
    norm = z.square().sum(-1)
    r2 = torch.baddbmm(norm[:, :, None] + norm[:, None, :], z, z.mT, alpha=-2.0).clamp_(min=0.0)
    r2.diagonal(dim1=1, dim2=2).zero_()
    return kernel.evaluate(r2)


_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"


def _exp_in_place(x: Numbers) -> Numbers:
    """e^x, overwriting x; on one thread with AVX-512 numpy takes half of torch's time."""
    if isinstance(x, np.ndarray):
        return np.exp(x, out=x)
    plain = _AVX512 and x.device.type == "cpu" and not x.requires_grad and torch.get_num_threads() == 1
    if not plain or torch.compiler.is_compiling():  # an exported program can only use torch
        return x.exp_()
    numbers = x.numpy()
    np.exp(numbers, out=numbers)
    return x


def _root_in_place(r2: Numbers) -> Numbers:
    return np.sqrt(r2, out=r2) if isinstance(r2, np.ndarray) else r2.sqrt_()


def _scaled_root(r2: Numbers, nu: float) -> Numbers:
    """t = sqrt(2 nu) r, the argument of a Matern function."""
    return math.sqrt(2.0 * nu) * _root_in_place(r2)


def _scaled_root_of_exponent(e: Array, nu: float) -> Array:
    """t = sqrt(2 nu) r from e = -r^2 / 2, which rounding may have made positive."""
    e *= -4.0 * nu
    return np.sqrt(np.maximum(e, 0.0, out=e), out=e)


# Lower limits of exponents, because denormal numbers would make exp four times slower.
_FLOORS = {8: -700.0, 4: -87.0}  # by the size of a number in bytes


# Each function is defined once in terms of its natural argument: exp(-r^2 / 2) of the exponent, Matern functions of t =
# sqrt(2 nu) r, 1 + t and exp(-t). Sums and products overwrite arrays that are no longer needed, because allocating a
# tile costs more than its exponentials. Square roots and factors of products are not overwritten, because derivatives
# use them.


def _rbf_value(r2: Numbers) -> Numbers:
    r2 *= -0.5
    floor = _FLOORS.get(r2.itemsize, -87.0)
    return _exp_in_place(np.maximum(r2, floor, out=r2) if isinstance(r2, np.ndarray) else r2.clamp_(min=floor))


def _rbf(r2: Numbers) -> tuple[Numbers, Numbers]:
    k = _rbf_value(r2)
    return k, k


def _rbf_slopes(r2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    k = _rbf_value(r2)
    return k, k, k, k


def _rbf_of_exponent(e: Array) -> Array:
    return np.exp(e, out=e)


def _matern12_value(r2: Numbers) -> Numbers:
    return _exp_in_place(-_root_in_place(r2))


def _matern12(r2: Numbers) -> tuple[Numbers, Numbers]:
    """exp(-r); its slope, infinite at r = 0, is set to zero there because it is only multiplied by 0."""
    r = _root_in_place(r2)
    k = _exp_in_place(-r)
    if isinstance(r, np.ndarray):
        return k, np.divide(k, r, out=np.zeros_like(k), where=r > 0.0)
    return k, torch.div(k, r).masked_fill_(r == 0.0, 0.0)


def _matern12_of_exponent(e: Array) -> Array:
    return _exp_in_place(-_scaled_root_of_exponent(e, 0.5))


def _matern32_of(t: Numbers, e: Numbers) -> Numbers:
    """(1 + t) exp(-t), from t and exp(-t)."""
    k = t + 1.0
    k *= e
    return k


def _matern32(r2: Numbers) -> tuple[Numbers, Numbers]:
    t = _scaled_root(r2, 1.5)
    e = _exp_in_place(-t)
    return _matern32_of(t, e), 3.0 * e


def _matern32_value(r2: Numbers) -> Numbers:
    t = _scaled_root(r2, 1.5)
    return _matern32_of(t, _exp_in_place(-t))


def _matern32_of_exponent(e: Array) -> Array:
    t = _scaled_root_of_exponent(e, 1.5)
    return _matern32_of(t, np.exp(-t))


def _matern52_of(t: Numbers, linear: Numbers, e: Numbers) -> Numbers:
    """(1 + t + t^2 / 3) exp(-t), from t, 1 + t and exp(-t)."""
    k = t * t
    k /= 3.0
    k += linear
    k *= e
    return k


def _matern52_slope_of(linear: Numbers, e: Numbers) -> Numbers:
    """5/3 (1 + t) exp(-t), from 1 + t and exp(-t)."""
    return (5.0 / 3.0) * linear * e


def _matern52_value(r2: Numbers) -> Numbers:
    t = _scaled_root(r2, 2.5)
    return _matern52_of(t, t + 1.0, _exp_in_place(-t))


def _matern52(r2: Numbers) -> tuple[Numbers, Numbers]:
    t = _scaled_root(r2, 2.5)
    e = _exp_in_place(-t)
    linear = t + 1.0
    return _matern52_of(t, linear, e), _matern52_slope_of(linear, e)


def _matern52_slopes(r2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    t = math.sqrt(5.0) * r2.sqrt()
    k, h = _matern52(r2)
    e = _exp_in_place(-t)
    return k, h, (25.0 / 3.0) * e, (125.0 / 3.0) * e / t.clamp(min=1e-6)


def _matern52_of_exponent(e: Array) -> Array:
    t = _scaled_root_of_exponent(e, 2.5)
    return _matern52_of(t, t + 1.0, np.exp(-t))


def _matern52_slope_of_exponent(e: Array) -> Array:
    t = _scaled_root_of_exponent(e, 2.5)
    return _matern52_slope_of(t + 1.0, np.exp(-t))


# Named functions, so that fitted models can be pickled.
CORRELATIONS = {
    "rbf": Stationary("rbf", _rbf, _rbf_value, _rbf_of_exponent, _rbf_slopes, _rbf_of_exponent),
    "matern12": Stationary("matern12", _matern12, _matern12_value, _matern12_of_exponent),
    "matern32": Stationary("matern32", _matern32, _matern32_value, _matern32_of_exponent),
    "matern52": Stationary(
        "matern52", _matern52, _matern52_value, _matern52_of_exponent, _matern52_slopes, _matern52_slope_of_exponent
    ),
}
"""The four named correlation functions."""
