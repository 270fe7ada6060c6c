"""Products with a kernel matrix on CUDA by Triton programs, which compute each tile in registers and never store it.

The only module that imports Triton. `KernelOperator.matmul` uses it on CUDA, in float32, for the kernels in
``CORRELATIONS``, if Triton can be imported. Everything else is computed in tiles by torch, against which the results
are tested.
"""

# ruff: noqa: ANN001, ANN202, ARG001
# mypy: allow-untyped-defs
# (the arguments of a Triton program are pointers and compile-time constants, and the two programs take the same ones)

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

__all__ = ["kernel_product"]

_ROWS, _COLUMNS = 64, 64  # size of a tile
_WIDEST = 64  # right-hand sides per launch
_PROGRAMS = 1024  # smallest number of programs launched: several for each multiprocessor
_KINDS = {"rbf": 0, "matern12": 1, "matern32": 3, "matern52": 5}
_INPUTS = {"full": "tf32x3", "tf32": "tf32", "float16": "tf32", "bfloat16": "tf32"}


def kernel_product(kind: str, a: Tensor, b: Tensor, v: Tensor, *, precision: str = "full") -> Tensor:
    """K v for K_ij = k(|a_i - b_j|^2), with shape (n, k); O(n m (d + k)) time and no memory beyond the result.

    Distances are computed from differences, which is accurate for close points. A single right-hand side is multiplied
    in float32. Several use the tensor cores, in full precision as three products of TF32 numbers, with the error of
    float32. Sums are in float32. Columns are divided between programs, whose partial sums are added in a fixed order.

    Args:
        kind: A name in ``CORRELATIONS``.
        a: Scaled points of the rows, with shape (n, d), in float32.
        b: Scaled points of the columns, with shape (m, d).
        v: Right-hand sides, with shape (m, k).
        precision: Precision of the product with v; the kernel is computed in float32.
    """
    scale = v.abs().amax(0).clamp_(min=torch.finfo(v.dtype).tiny)  # avoids overflow in half precision
    rows, columns, right = a.T.contiguous(), b.T.contiguous(), v / scale
    if v.shape[1] == 1 and precision == "full":
        return _launch(_vector_kernel, kind, rows, columns, right, precision) * scale
    parts = [_launch(_matrix_kernel, kind, rows, columns, part, precision) for part in right.split(_WIDEST, dim=1)]
    return torch.cat(parts, dim=1) * scale


def _launch(kernel: triton.JITFunction, kind: str, rows: Tensor, columns: Tensor, v: Tensor, precision: str) -> Tensor:
    (d, n), m, k = rows.shape, columns.shape[1], v.shape[1]
    blocks = triton.cdiv(n, _ROWS)
    splits = max(1, min(triton.cdiv(_PROGRAMS, blocks), triton.cdiv(m, 8 * _COLUMNS)))
    chunk = triton.cdiv(triton.cdiv(m, splits), _COLUMNS) * _COLUMNS
    width = max(16, triton.next_power_of_2(k))
    low = getattr(torch, precision) if precision in ("float16", "bfloat16") else torch.float32
    right = v if kernel is _vector_kernel else torch.nn.functional.pad(v, (0, width - k)).to(low)
    out = v.new_zeros(splits, n, 1 if kernel is _vector_kernel else width)
    kernel[(blocks, splits)](
        rows,
        columns,
        right.contiguous(),
        out,
        n,
        m,
        chunk,
        D=d,
        K=width,
        KIND=_KINDS[kind],
        ROWS=_ROWS,
        COLUMNS=_COLUMNS,
        INPUT=_INPUTS[precision],
    )
    return out.sum(0)[:, :k]


@triton.jit
def _correlation(r2, KIND: tl.constexpr):
    """The correlation functions of ``CORRELATIONS`` in Triton."""
    if KIND == 0:
        return tl.exp2(-0.7213475204444817 * r2)  # exp(-r^2 / 2) as a power of two, which the hardware computes
    if KIND == 1:
        return tl.exp(-tl.sqrt(r2))
    if KIND == 3:
        t = tl.sqrt(3.0 * r2)
        return (1.0 + t) * tl.exp(-t)
    t = tl.sqrt(5.0 * r2)
    return (1.0 + t + t * t / 3.0) * tl.exp(-t)


@triton.jit
def _tile(a, b, i, j, n, m, D: tl.constexpr, KIND: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """A tile of the kernel matrix, with rows i and columns j; points are stored by coordinate."""
    r2 = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for axis in tl.static_range(D):
        x = tl.load(a + axis * n + i, mask=i < n, other=0.0)
        y = tl.load(b + axis * m + j, mask=j < m, other=0.0)
        difference = x[:, None] - y[None, :]
        r2 += difference * difference
    return _correlation(r2, KIND)


@triton.jit
def _vector_kernel(
    a,
    b,
    v,
    out,
    n,
    m,
    chunk,
    D: tl.constexpr,
    K: tl.constexpr,
    KIND: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INPUT: tl.constexpr,
):
    """The product with one vector; terms are summed over the columns of the tile at the end."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for first in range(part * chunk, min((part + 1) * chunk, m), COLUMNS):
        j = first + tl.arange(0, COLUMNS)
        k = _tile(a, b, i, j, n, m, D, KIND, ROWS, COLUMNS)
        total += k * tl.load(v + j, mask=j < m, other=0.0)[None, :]
    tl.store(out + part * n + i, tl.sum(total, 1), mask=i < n)


@triton.jit
def _matrix_kernel(
    a,
    b,
    v,
    out,
    n,
    m,
    chunk,
    D: tl.constexpr,
    K: tl.constexpr,
    KIND: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INPUT: tl.constexpr,
):
    """The product with several vectors, on the tensor cores; columns after the last are multiplied by zeros."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1)
    c = tl.arange(0, K)
    total = tl.zeros((ROWS, K), dtype=tl.float32)
    for first in range(part * chunk, min((part + 1) * chunk, m), COLUMNS):
        j = first + tl.arange(0, COLUMNS)
        right = tl.load(v + j[:, None] * K + c[None, :], mask=(j < m)[:, None], other=0.0)
        k = _tile(a, b, i, j, n, m, D, KIND, ROWS, COLUMNS)
        total = tl.dot(k.to(right.dtype), right, total, input_precision=INPUT)
    tl.store(out + (part * n + i)[:, None] * K + c[None, :], total, mask=(i < n)[:, None])
