"""Gaussian processes conditioned on the nearest neighbours of each point.

What the m nearest of n points say about a point is nearly all that n points say, at O(m^3) instead of O(n^3).
Variances are never below the exact ones, since fewer points can only leave more variance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from surrogate.linalg.stationary import Stationary, squared_distance

__all__ = ["correlations", "local_prediction", "nearest"]


BLOCK = 4_000_000
"""Kernel values held at a time: 32 MB in float64."""


def nearest(x: Tensor, targets: Tensor, m: int) -> Tensor:
    """Indices of the m points of x nearest to each target, the farthest of them first, with shape (b, m).

    By brute force in blocks: O(b n d) for x with shape (n, d) and targets with shape (b, d).

    Raises:
        ValueError: If ``m`` is not in 1..n.
    """
    if not 1 <= m <= len(x):
        msg = f"m must be in 1..{len(x)}, got {m}"
        raise ValueError(msg)
    block = max(1, BLOCK // len(x))
    parts = [
        squared_distance(part, x).topk(m, dim=1, largest=False).indices.flip(1) for part in torch.split(targets, block)
    ]
    return torch.cat(parts) if parts else torch.empty(0, m, dtype=torch.int64, device=x.device)


def correlations(kernel: Stationary, z: Tensor) -> tuple[Tensor, Tensor]:
    """k and h, each with shape (b, m, m), of batches of scaled points with shape (b, m, d)."""
    z = z - z[:, -1:]  # about the target: the expanded square loses no digits for neighbours
    norm = z.square().sum(-1)
    r2 = torch.baddbmm(norm[:, :, None] + norm[:, None, :], z, z.mT, alpha=-2.0).clamp_(min=0.0)
    r2.diagonal(dim1=1, dim2=2).zero_()
    return kernel.evaluate(r2)


def local_prediction(
    kernel: Stationary, z: Tensor, y: Tensor, new: Tensor, *, eta: float, m: int
) -> tuple[Tensor, Tensor]:
    """Mean and variance of g at new points given their m nearest neighbours, in units of s: O(b (n d + m^3 / 3)).

    The variance is never below that given all n points.

    Args:
        kernel: Correlation function.
        z: Points in units of the lengthscales, with shape (n, d).
        y: With shape (n,).
        new: In the same units, with shape (b, d).
        eta: Noise variance in units of s^2.
        m: Number of neighbours, at most n.

    Returns:
        Two tensors with shape (b,).
    """
    means, variances = (
        [torch.empty(0, dtype=z.dtype, device=z.device)],
        [torch.empty(0, dtype=z.dtype, device=z.device)],
    )
    for part in new.split(max(1, BLOCK // (m + 1) ** 2)):
        rows = nearest(z, part, m)
        k = correlations(kernel, torch.cat([z[rows], part[:, None]], 1))[0].clone()
        cross = k[:, :m, m:].clone()
        k = k[:, :m, :m].contiguous()
        k.diagonal(dim1=1, dim2=2).add_(eta)
        lower = torch.linalg.cholesky(k)
        half = torch.linalg.solve_triangular(lower, torch.cat([cross, y[rows][..., None]], -1), upper=False)
        means.append((half[..., 0] * half[..., 1]).sum(1))
        variances.append((1.0 - half[..., 0].square().sum(1)).clamp(min=0.0))
    return torch.cat(means), torch.cat(variances)
