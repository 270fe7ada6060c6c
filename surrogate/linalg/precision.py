"""Matrix products in low precision, and the smallest noise for which they are allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["PRECISIONS", "LowPrecisionError", "product", "required_floor", "rounded"]

PRECISIONS = {"full": 0.0, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Names of the precisions of a product, with the relative rounding error of one entry."""


class LowPrecisionError(ValueError):
    """Raised if a matrix may not be positive definite when rounded to a precision."""


def required_floor(n: int, precision: str, *, outputscale: float = 1.0) -> float:
    """Smallest eigenvalue that K + noise must have for its rounded version to be positive definite.

    Rounding adds uniform noise to the entries of a kernel matrix, with sd u / sqrt(3) relative to the power of two
    below the entry, where u is the unit roundoff. For entries between 1/2 and 1 this is a symmetric random matrix of
    spectral norm 2 (u / sqrt(12)) sqrt(n) = 0.577 u sqrt(n); measured at n = 1000 it was 0.58 u sqrt(n). The bound used
    is 0.6 u sqrt(n).

    Args:
        n: Size of the matrix.
        precision: One of ``PRECISIONS``.
        outputscale: Diagonal of the matrix, which scales the bound.
    """
    return 0.6 * PRECISIONS[precision] * n**0.5 * outputscale


def rounded(values: Tensor, precision: str) -> Tensor:
    """The values rounded to the precision, in their own dtype."""
    if precision == "full":
        return values
    if precision == "tf32":  # round to nearest, dropping 13 bits of a float32's mantissa
        bits = values.to(torch.float32).contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32).to(values.dtype)
    return values.to(getattr(torch, precision)).to(values.dtype)


def product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """The product of a, with shape (m, n), entries at most 1, and b, with shape (n, k), rounded to the precision.

    Columns of b are first scaled to a largest entry of 1, which prevents overflow for n up to 65,504 and most
    underflow. On CUDA the products run on tensor cores; elsewhere, where half precision is slow, the factors are
    rounded and multiplied in their own dtype, as tensor cores do except for the rounding of the result.
    """
    if precision == "full":
        return torch.mm(a, b)
    scale = b.abs().amax(0).clamp_(min=torch.finfo(b.dtype).tiny)
    b = b / scale
    if a.device.type != "cuda":
        return torch.mm(rounded(a, precision), rounded(b, precision)).mul_(scale)
    if precision == "tf32":
        with _tf32():
            return torch.mm(a.float(), b.float()).to(a.dtype).mul_(scale)
    low = getattr(torch, precision)
    return torch.mm(a.to(low), b.to(low)).to(a.dtype).mul_(scale)


@contextmanager
def _tf32() -> Iterator[None]:
    """Context for products in TF32, for which torch has only a global switch; it is restored on exit."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
