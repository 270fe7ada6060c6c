"""Basis functions that approximate a stationary kernel: k(x, x') ~ F(x) F(x')^T with p columns.

They turn a process into linear regression, with O(n p^2) instead of O(n^3) operations, for any number of points. Sines
on a box converge fast in one to three dimensions; random Fourier features work in any number of dimensions, with an
error that falls as p^-1/2.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.kernels import Columns, Kernel, Linear, MeanKernel, Scale, Scaled, StationaryKernel, Sum
from surrogate.gp.scales import as_tensor
from surrogate.rng import torch_generator

__all__ = ["Basis", "ComposedBasis", "Features", "FourierBasis", "HilbertBasis", "basis_of", "choose_basis"]

_DEGREES = {"matern12": 1, "matern32": 3, "matern52": 5}  # twice the smoothness nu
# Lengthscales between the points and the edge of the box, which acts as a mirror; the correlation with a mirror image
# is below 1e-3.
_REACH = {"rbf": 2.0, "matern52": 2.5, "matern32": 3.0, "matern12": 3.5}
_MOST_DIMENSIONS = (
    3  # dimensions of a box, because the necessary number of sines grows exponentially with the dimension
)
_CAPTURED = 0.98  # share of the points' prior variance that sines must capture to be chosen
_PROBES = 1024  # points at which that share is measured


class Features(Protocol):
    """Features F with F F^T ~ k."""

    @property
    def size(self) -> int:
        """Number p of features."""

    def features(self, x: Tensor, lengthscale: Array) -> Tensor:
        """F, with shape (n, p), at points x with shape (n, d)."""


class Basis(Features, Protocol):
    """Features as differentiable functions of the lengthscales, as an evidence needs them."""

    def pullback(self, x: Tensor, lengthscale: Array, weight: Tensor) -> Tensor:
        """Derivatives of sum_ij weight_ij F_ij with respect to the log-lengthscales, with shape (d,)."""


@dataclass(frozen=True, eq=False)
class HilbertBasis:
    """Products of sines on a box, weighted by the square root of the kernel's spectral density.

    On the box [c - L, c + L] the functions prod_k L_k^-1/2 sin(w_k (x_k - c_k + L_k)), w_k = pi j_k / (2 L_k), are
    eigenfunctions of the Laplacian, and a stationary kernel is nearly diagonal in them. They do not depend on
    hyperparameters, so one pass over the data serves all values of these. The box must be wider than the data, because
    every function is zero at its edge, and outside it.

    Attributes:
        kernel: Name of the kernel.
        center: c, with shape (d,).
        half: L, with shape (d,).
        frequencies: w, with shape (p, d).

    References:
        Solin & Sarkka (2020), arXiv:1401.5508. Riutort-Mayol et al. (2022), arXiv:2004.11408, make the box a multiple
        of the data's width and use all products up to an order in each dimension. Here the margin is a number of
        lengthscales, and the products are those with the largest spectral density.
    """

    kernel: str
    center: Tensor
    half: Tensor
    frequencies: Tensor

    @classmethod
    def of(cls, kernel: str, x: Tensor, lengthscale: Array, size: int) -> HilbertBasis:
        """The basis on a box around points x, made of the ``size`` functions with the largest prior variance.

        Args:
            kernel: Name of the kernel.
            x: Points, with shape (n, d).
            lengthscale: Lengthscales for which the box and the functions are chosen, with shape (d,).
            size: Number of functions.
        """
        low, high = x.min(0).values, x.max(0).values
        scale = as_tensor(lengthscale, x)
        half = 0.5 * (high - low) + _REACH[kernel] * scale
        order = _lowest((scale * math.pi / (2.0 * half)).square().tolist(), size)
        return cls(kernel, 0.5 * (low + high), half, as_tensor(np.array(order), x) * math.pi / (2.0 * half))

    @property
    def size(self) -> int:
        """Number p of functions."""
        return len(self.frequencies)

    def values(self, x: Tensor) -> Tensor:
        """The functions without weights, with shape (n, p): O(n p d)."""
        from_edge = x - self.center + self.half
        inside = ((from_edge >= 0.0) & (from_edge <= 2.0 * self.half)).all(1)
        out = inside[:, None].to(x.dtype).expand(len(x), self.size).clone()
        for k in range(x.shape[1]):
            out *= torch.sin(from_edge[:, k, None] * self.frequencies[:, k])
        return out.mul_(float(self.half.log().sum().mul(-0.5).exp()))

    def log_weights(self, lengthscale: Array) -> tuple[Tensor, Tensor]:
        """Logarithms of the weights, with shape (p,), and their derivatives in log l, with shape (p, d)."""
        scale, d = as_tensor(lengthscale, self.half), len(self.half)
        squares = (scale * self.frequencies).square()
        if self.kernel == "rbf":
            log_density = 0.5 * d * math.log(2.0 * math.pi) - 0.5 * squares.sum(1)
            slopes = 1.0 - squares
        else:
            m = _DEGREES[self.kernel]
            constant = d * math.log(2.0) + 0.5 * d * math.log(math.pi) + 0.5 * m * math.log(m)
            constant += math.lgamma(0.5 * (m + d)) - math.lgamma(0.5 * m)
            total = m + squares.sum(1)
            log_density = constant - 0.5 * (m + d) * total.log()
            slopes = 1.0 - (m + d) * squares / total[:, None]
        return 0.5 * (log_density + scale.log().sum()), 0.5 * slopes

    def features(self, x: Tensor, lengthscale: Array) -> Tensor:
        """F, with shape (n, p)."""
        return self.values(x) * self.log_weights(lengthscale)[0].exp()

    def pullback(self, x: Tensor, lengthscale: Array, weight: Tensor) -> Tensor:
        """Derivatives of sum_ij weight_ij F_ij with respect to the log-lengthscales, with shape (d,)."""
        return (weight * self.features(x, lengthscale)).sum(0) @ self.log_weights(lengthscale)[1]


def _lowest(steps: list[float], count: int) -> list[tuple[int, ...]]:
    """The ``count`` tuples of positive integers j with the smallest sums of steps_k j_k^2, in ascending order."""
    first = (1,) * len(steps)
    queue, seen = [(sum(steps), first)], {first}
    found: list[tuple[int, ...]] = []
    while len(found) < count:
        _, j = heapq.heappop(queue)
        found.append(j)
        for k in range(len(steps)):
            more = (*j[:k], j[k] + 1, *j[k + 1 :])
            if more not in seen:
                seen.add(more)
                heapq.heappush(queue, (sum(s * i * i for s, i in zip(steps, more, strict=True)), more))
    return found


@dataclass(frozen=True, eq=False)
class FourierBasis:
    """Random Fourier features, with frequencies drawn from the spectral density, so that E F F^T = k.

    Attributes:
        frequencies: For unit lengthscales, with shape (p / 2, d).

    References:
        Rahimi & Recht (2007), https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    """

    frequencies: Tensor

    @classmethod
    def of(cls, kernel: str, x: Tensor, size: int, *, generator: torch.Generator) -> FourierBasis:
        """A basis with ``size`` features, or one fewer if ``size`` is odd.

        The frequencies of a Matern kernel have Student's t distribution with 2 nu degrees of freedom.

        Args:
            kernel: Name of the kernel.
            x: Points, with shape (n, d); only its width, dtype and device matter.
            size: Number of features, at least 2.
            generator: Draws the frequencies; on the CPU.
        """
        count, d = max(1, size // 2), x.shape[1]
        normal = torch.randn(count, d, dtype=torch.float64, generator=generator)
        if kernel in _DEGREES:
            m = _DEGREES[kernel]
            chi2 = torch.randn(count, m, dtype=torch.float64, generator=generator).square().sum(1, keepdim=True)
            normal = normal * (m / chi2).sqrt()
        return cls(normal.to(x))

    @property
    def size(self) -> int:
        """Number p of features."""
        return 2 * len(self.frequencies)

    def _phases(self, x: Tensor, lengthscale: Array) -> Tensor:
        return (x / as_tensor(lengthscale, x)) @ self.frequencies.T

    def features(self, x: Tensor, lengthscale: Array) -> Tensor:
        """F, with shape (n, p)."""
        phases = self._phases(x, lengthscale)
        return torch.cat([phases.cos(), phases.sin()], 1).mul_(len(self.frequencies) ** -0.5)

    def pullback(self, x: Tensor, lengthscale: Array, weight: Tensor) -> Tensor:
        """Derivatives of sum_ij weight_ij F_ij with respect to the log-lengthscales, with shape (d,)."""
        f = self.features(x, lengthscale)
        m = len(self.frequencies)
        by_phase = weight[:, m:] * f[:, :m] - weight[:, :m] * f[:, m:]
        return -((x / as_tensor(lengthscale, x)) * (by_phase @ self.frequencies)).sum(0)


def choose_basis(kernel: str, x: Tensor, lengthscale: Array, size: int, *, seed: int) -> tuple[Basis, str]:
    """Sines if they capture nearly all of the points' prior variance, otherwise random Fourier features.

    Args:
        kernel: Name of the kernel.
        x: Points, with shape (n, d).
        lengthscale: Lengthscales, with shape (d,).
        size: Number of features.
        seed: Seed of the frequencies, which otherwise depend only on the kernel, the size and d.

    Returns:
        The basis, and a description of it.
    """
    if x.shape[1] <= _MOST_DIMENSIONS:
        sines = HilbertBasis.of(kernel, x, lengthscale, size)
        held = float(sines.features(x[:: max(1, len(x) // _PROBES)], lengthscale).square().sum(1).mean())
        if held >= _CAPTURED:
            return sines, f"{size} sines on a box, with {held:.1%} of the prior variance"
    random = FourierBasis.of(kernel, x, size, generator=torch_generator(seed, "frequencies"))
    return random, f"{random.size} random Fourier features"


@dataclass(frozen=True, eq=False)
class ComposedBasis:
    """Features of a composed kernel at fixed hyperparameters: those of its parts, concatenated.

    Attributes:
        parts: Functions from points with shape (n, d) to features with shape (n, p_i).
        size: Number p of all features.
    """

    parts: tuple[Callable[[Tensor], Tensor], ...]
    size: int

    def features(self, x: Tensor, lengthscale: Array) -> Tensor:  # noqa: ARG002 - the parts have their own
        """F, with shape (n, p)."""
        return torch.cat([part(x) for part in self.parts], 1)


def basis_of(kernel: Kernel, x: Tensor, size: int, *, seed: int) -> tuple[Features, str]:
    """Basis functions of a kernel at its hyperparameters.

    Args:
        kernel: A stationary kernel, or a sum of scaled stationary, linear, constant and mean kernels, of all or some
            columns.
        x: Points, with shape (n, d).
        size: Number of features, shared evenly by the stationary parts.
        seed: Seed of random frequencies.

    Returns:
        The basis, and a description of it.

    Raises:
        TypeError: If the kernel has another part, such as a product.
    """
    if isinstance(kernel, StationaryKernel):
        return choose_basis(kernel.function.name, x, kernel.lengthscale, size, seed=seed)
    terms = _terms(kernel, 1.0)
    count = max(1, sum(isinstance(term, StationaryKernel) for _, term, _ in terms))
    parts = tuple(_function(sd, term, columns, x, max(2, size // count), seed) for sd, term, columns in terms)
    total = sum(part(x[:1]).shape[1] for part in parts)
    return ComposedBasis(parts, total), f"{total} functions of {len(terms)} terms"


def _terms(
    kernel: Kernel, sd: float, columns: tuple[int, ...] | None = None
) -> list[tuple[float, Kernel, list[int] | None]]:
    """The terms of a sum, each with its sd and its columns, or None for all columns."""
    if isinstance(kernel, Sum):
        return [term for part in kernel.parts for term in _terms(part, sd, columns)]
    if isinstance(kernel, Scaled):
        return _terms(kernel.parts[0], sd * math.sqrt(kernel.variance), columns)
    if isinstance(kernel, Columns):
        inner = kernel.columns if columns is None else tuple(columns[j] for j in kernel.columns)
        return _terms(kernel.parts[0], sd, inner)
    if isinstance(kernel, (StationaryKernel, Linear, Scale, MeanKernel)):
        return [(sd, kernel, None if columns is None else list(columns))]
    msg = (
        "basis functions exist for sums of scaled stationary, linear and constant kernels, got the part "
        f"{type(kernel).__name__}: use ConjugateGradients, Local or Projections"
    )
    raise TypeError(msg)


def _function(
    sd: float, kernel: Kernel, columns: list[int] | None, x: Tensor, size: int, seed: int
) -> Callable[[Tensor], Tensor]:
    """The features of one term as a function of points with all columns."""
    some = x if columns is None else x[:, columns]
    if isinstance(kernel, StationaryKernel):
        lengthscale = np.broadcast_to(kernel.lengthscale, (some.shape[1],)).copy()
        basis, _ = choose_basis(kernel.function.name, some, lengthscale, size, seed=seed)

        def features(x: Tensor) -> Tensor:
            return basis.features(x, lengthscale)
    else:
        features = kernel.features  # type: ignore[attr-defined]  # of finitely many dimensions
    return lambda x: sd * features(x if columns is None else x[:, columns])
