"""Additive models of numbers and categories: a sum of components, each a function of a few columns.

    components = [
        Component.of(u, numbers=[0]),                                 # a shared function of column 0
        Component.of(u, categories={1: ZeroSum(3)}),                  # an offset of each category of column 1
        Component.of(u, numbers=[0], categories={1: ZeroSum(3)}),     # how it differs
    ]

A component is a kernel together with basis functions that approximate it: sines on a box times functions of the
categories. Both have the same hyperparameters in the same order, so exact and approximate results can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.bases import HilbertBasis
from surrogate.gp.categories import CategoryKernel
from surrogate.gp.composition import Kernel, Product, Scale, Sum
from surrogate.gp.kernels import STATIONARY
from surrogate.gp.parameters import LogNormal

__all__ = ["BOUNDARY", "FUNCTIONS", "Component", "Weights", "total_kernel"]

FUNCTIONS = 16
"""Default number of sines along one column."""
BOUNDARY = 2.0
"""Ratio of the box's half-width to that of the data; 1.5 suffices for lengthscales up to a third of the half-width."""

# Largest ratio of a lengthscale to the half-width of the box, and smallest ratio times the number of functions:
# Riutort-Mayol et al. (2022), arXiv:2004.11408, section 4.2, for errors of a covariance below 1 %. They give no values
# for Matern 1/2, whose spectrum is too wide for sines.
_LONGEST = {"rbf": 1.0 / 3.2, "matern52": 1.0 / 4.1, "matern32": 1.0 / 4.5}
_SHORTEST = {"rbf": 1.75, "matern52": 2.65, "matern32": 3.42}
# For the evidence these are not strict enough. With the squared exponential, 500 points and noise of 0.3 sds it is that
# of the exact process to 0.14 nats in all draws from 2.67 c S / B to 0.7 (c - 1) S, for a box of c times the half-width
# S of the data and B functions; further out it is wrong by 0.3 to 2 nats, inside by up to 0.5 with noise of 0.1 sds.
_SHORTEST_EXACT, _LONGEST_EXACT = 2.67, 0.7
_MOST_NUMBERS = 2  # numeric columns of one component, because the number of sines is a power of it
_SLACK = 1e-9  # relative tolerance of the bounds of lengthscales, on which an optimiser stops up to rounding
SD = LogNormal(-1.0, 1.5, 1e-4, 1e2)
"""Prior of the sd of a component, in units of the output scale."""
_LENGTHSCALE_SD = 1.0  # prior sd of a log-lengthscale, around half of the data's half-width
_JITTER = 1e-10  # jitter of a learned table, relative to its trace


@dataclass(frozen=True, eq=False)
class Weights:
    """Root of the prior covariance P of the coefficients of sines times functions of categories in a component.

    sqrt(P) is the Kronecker product of diag(e^w), for the sines, and L, for the functions of categories.

    Attributes:
        log: Logarithms w, with shape (b,), which include the sd of the component.
        slopes: Derivatives of w with respect to the log-lengthscales, with shape (b, p).
        lower: L, with shape (r, r); diagonal for fixed tables.
    """

    log: Tensor
    slopes: Tensor
    lower: Tensor

    def times(self, columns: Tensor) -> Tensor:
        """A matrix with shape (k, b r) times sqrt(P): O(k b r^2)."""
        k, r = len(columns), len(self.lower)
        return ((columns.reshape(k, -1, r) * self.log.exp()[:, None]) @ self.lower).reshape(k, -1)


@dataclass(frozen=True, eq=False)
class Component:
    """One component: a function of some numeric and categorical columns, with its kernel and basis functions.

    Attributes:
        name: Name for output.
        kernel_name: Stationary kernel of the numbers.
        numbers: Columns of numbers.
        categories: Columns of categories.
        tables: Kernels of the categories.
        basis: Sines on a fixed box around the numbers; None if there are none.
        longest: Largest lengthscales that the box allows, with shape (p,).
        shortest: Smallest lengthscales that the number of sines allows, with shape (p,).
        typical: Half-widths of the data, with shape (p,).
    """

    name: str
    kernel_name: str
    numbers: tuple[int, ...]
    categories: tuple[int, ...]
    tables: tuple[CategoryKernel, ...]
    basis: HilbertBasis | None
    longest: Array
    shortest: Array
    typical: Array

    @classmethod
    def of(
        cls,
        u: Tensor,
        *,
        numbers: Sequence[int] = (),
        categories: Mapping[int, CategoryKernel] | None = None,
        name: str | None = None,
        kernel: str = "rbf",
        functions: int = FUNCTIONS,
        boundary: float = BOUNDARY,
    ) -> Component:
        """A component with a box around the data.

        Args:
            u: All columns, with shape (n, d), which define the box.
            numbers: Columns of numbers, at most two.
            categories: The kernel of each column of categories.
            name: Name; by default made of the columns.
            kernel: "rbf", "matern52" or "matern32".
            functions: Number of sines along each column.
            boundary: Ratio of the box's half-width to that of the data. A larger box allows longer lengthscales, but
                needs more functions for short ones.

        Raises:
            ValueError: If there is no column, there are more than two columns of numbers, or box and functions suit no
                lengthscale.
        """
        tables = dict(categories or {})
        if not numbers and not tables:
            msg = "a component needs a column: give numbers=[...] or categories={...}"
            raise ValueError(msg)
        if len(numbers) > _MOST_NUMBERS:
            msg = (
                f"a component takes at most {_MOST_NUMBERS} columns of numbers, got {len(numbers)}: use a sum of "
                "components"
            )
            raise ValueError(msg)
        if kernel not in _LONGEST:
            msg = f"kernel must be one of {tuple(_LONGEST)} for basis functions, got {kernel!r}"
            raise ValueError(msg)
        words = name or " x ".join(str(j) for j in (*numbers, *tables))
        empty = np.empty(0)
        component = cls(words, kernel, tuple(numbers), tuple(tables), tuple(tables.values()), None, empty, empty, empty)
        return component._with_box(u, functions, boundary) if numbers else component

    def _with_box(self, u: Tensor, functions: int, boundary: float) -> Component:
        x = u[:, list(self.numbers)]
        low, high = x.min(0).values, x.max(0).values
        reach = (0.5 * (high - low)).clamp(min=1e-12)
        half = boundary * reach
        longest = (half * _LONGEST[self.kernel_name]).cpu().numpy()
        shortest = (half * _SHORTEST[self.kernel_name] / functions).cpu().numpy()
        if not (boundary > 1.0 and (shortest < longest).all()):
            least = math.ceil(_SHORTEST[self.kernel_name] / _LONGEST[self.kernel_name]) + 1
            msg = (
                f"a box of {boundary:g} times the data with {functions} functions suits no lengthscale of the kernel "
                f"{self.kernel_name!r}: use boundary > 1 and {least} functions or more"
            )
            raise ValueError(msg)
        orders = torch.cartesian_prod(
            *[torch.arange(1.0, functions + 1.0, dtype=x.dtype, device=x.device)] * x.shape[1]
        )
        frequencies = orders.reshape(-1, x.shape[1]) * math.pi / (2.0 * half)
        basis = HilbertBasis(self.kernel_name, 0.5 * (low + high), half, frequencies)
        return replace(self, basis=basis, longest=longest, shortest=shortest, typical=reach.cpu().numpy())

    @property
    def kernel(self) -> Kernel:
        """Scale x stationary kernel x tables, with priors limited to lengthscales that the basis functions allow."""
        parts: list[Kernel] = []
        if self.numbers:
            start = np.sqrt(self.shortest * self.longest)
            limits = zip(np.log(0.5 * self.typical), self.shortest, self.longest, strict=True)
            prior = [LogNormal(float(middle), _LENGTHSCALE_SD, float(low), float(high)) for middle, low, high in limits]
            parts.append(STATIONARY[self.kernel_name](start, prior=prior).on(self.numbers))
        parts += [table.on([column]) for column, table in zip(self.categories, self.tables, strict=True)]
        return Scale(0.5, prior=SD) * reduce(Product, parts)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Number of functions of each column of categories."""
        return tuple(len(_functions_of(table)[1]) for table in self.tables)

    @property
    def size(self) -> int:
        """Number of basis functions: sines times functions of categories."""
        return (1 if self.basis is None else self.basis.size) * math.prod(self.ranks)

    @property
    def spreads(self) -> Array:
        """Prior sds of the coefficients that fixed tables give, with shape (r,)."""
        return _kron([np.sqrt(_functions_of(table)[1]) for table in self.tables], np.ones(1))

    def features(self, u: Tensor) -> Tensor:
        """The functions without weights, with shape (n, size), at u with shape (n, d).

        They are zero outside the box and for categories not in the data.
        """
        out = u.new_ones(len(u), 1) if self.basis is None else self.basis.values(u[:, list(self.numbers)])
        for column, table in zip(self.categories, self.tables, strict=True):
            functions = torch.as_tensor(_functions_of(table)[0], dtype=u.dtype, device=u.device)
            chosen = functions[table.codes(u[:, [column]])]
            out = (out[:, :, None] * chosen[:, None, :]).reshape(len(u), -1)
        return out

    def split(self, vector: Array) -> tuple[float, Array, list[Array]]:
        """Log sd, log-lengthscales and table entries in the vector of ``kernel``."""
        count = len(self.numbers)
        starts = np.cumsum([1 + count, *(table.size for table in self.tables)])
        return float(vector[0]), vector[1 : 1 + count], [vector[a:b] for a, b in zip(starts, starts[1:], strict=False)]

    def weights(self, vector: Array, like: Tensor) -> Weights:
        """Prior sds of the coefficients at these hyperparameters.

        Raises:
            ValueError: If the box and the number of functions are not accurate for a lengthscale.
        """
        log_sd, log_lengthscale, entries = self.split(vector)
        lengthscale = np.exp(log_lengthscale)
        self._check(lengthscale)
        lower = _kron([_root(table, own) for table, own in zip(self.tables, entries, strict=True)], np.eye(1))
        if self.basis is None:
            log, slopes = like.new_zeros(1), like.new_zeros(1, 0)
        else:
            log, slopes = self.basis.log_weights(lengthscale)
        return Weights(log + log_sd, slopes, torch.as_tensor(lower, dtype=like.dtype, device=like.device))

    def pullback(self, vector: Array, weights: Weights, h: Tensor) -> Array:
        """Derivatives of a negative log evidence with respect to the vector, with shape (kernel.size,).

        Args:
            vector: Vector of ``kernel``.
            weights: Prior sds at that vector.
            h: The block H of this component: twice the derivative with respect to P is P^-1/2 H P^-1/2, with shape
                (size, size).
        """
        b, r = len(weights.log), len(weights.lower)
        by_log = h.diagonal().reshape(b, r).sum(1)
        out = [[float(by_log.sum())], (by_log @ weights.slopes).cpu().numpy()]
        if any(table.size for table in self.tables):
            blocks = torch.einsum("biaj,bi->aj", h.reshape(b, r, b, r).permute(0, 2, 1, 3), torch.eye(b).to(h))
            inner = torch.linalg.solve_triangular(weights.lower.T, blocks, upper=True)
            by_table = torch.linalg.solve_triangular(weights.lower.T, inner.T, upper=True).cpu().numpy()
            out += self._table_slopes(vector, 0.5 * (by_table + by_table.T))
        return np.concatenate([*out, np.empty(0)])

    def _table_slopes(self, vector: Array, by_product: Array) -> list[Array]:
        """Derivatives with respect to the entries of each table, from those with respect to their Kronecker product."""
        entries = self.split(vector)[2]
        covariances = [_covariance(table, own) for table, own in zip(self.tables, entries, strict=True)]
        shape, out = [len(c) for c in covariances], []
        for k, (table, own) in enumerate(zip(self.tables, entries, strict=True)):
            if not table.size:
                continue
            whole = by_product.reshape(*shape, *shape)
            q = len(shape)
            operands: list = [whole, list(range(2 * q))]
            for other in set(range(q)) - {k}:
                operands += [covariances[other], [other, q + other]]
            out.append(0.5 * table.pullback(own, np.einsum(*operands, [k, q + k])))
        return out

    def prior_variance(self, vector: Array, u: Tensor) -> Tensor:
        """Variance of the component at u, with shape (n,)."""
        return self.kernel.with_vector(vector).diagonal(u)

    def inexact(self, vector: Array) -> str:
        """Why the evidence at these hyperparameters may differ from that of the exact process by more than 0.2 nats.

        Empty if it is not, at 500 points and noise of 0.3 sds, or without numbers. Other kernels than the squared
        exponential have too wide a spectrum for that with some dozens of functions.
        """
        if self.basis is None:
            return ""
        if self.kernel_name != "rbf":
            return f"component {self.name!r}: the kernel {self.kernel_name!r} takes many functions"
        half = self.basis.half.cpu().numpy()
        functions = round(self.basis.size ** (1.0 / len(self.numbers)))
        lows, highs = _SHORTEST_EXACT * half / functions, _LONGEST_EXACT * (half - self.typical)
        for value, low, high in zip(np.exp(self.split(vector)[1]), lows, highs, strict=True):
            if value > high * (1.0 + _SLACK):
                return (
                    f"component {self.name!r}: a lengthscale of {value:.3g} is above {high:.3g}, use a larger boundary"
                )
            if value < low * (1.0 - _SLACK):
                return f"component {self.name!r}: a lengthscale of {value:.3g} is below {low:.3g}, use more functions"
        return ""

    def _check(self, lengthscale: Array) -> None:
        for value, low, high in zip(lengthscale, self.shortest, self.longest, strict=True):
            if value > high * (1.0 + _SLACK):
                msg = (
                    f"component {self.name!r}: a lengthscale of {value:.3g} is too long for the box, whose edge "
                    f"would affect the data: use a boundary factor {value / high:.3g} times as large, or at most "
                    f"{high:.3g}"
                )
                raise ValueError(msg)
            if value < low * (1.0 - _SLACK):
                msg = (
                    f"component {self.name!r}: a lengthscale of {value:.3g} is too short for this many functions: use "
                    f"{low / value:.3g} times as many, or a lengthscale of at least {low:.3g}"
                )
                raise ValueError(msg)


def total_kernel(components: Sequence[Component]) -> Kernel:
    """The sum of the kernels of the components, with their vectors concatenated."""
    return reduce(Sum, [component.kernel for component in components])


def _functions_of(table: CategoryKernel) -> tuple[Array, Array]:
    """Functions of a category, with shape (c + 1, r), zero for an unseen one, and prior variances, with shape (r,).

    For a fixed table they are its eigenvectors (r is the rank), for a learned one the indicators of categories.
    """
    if table.size:
        functions, values = np.eye(table.count), np.ones(table.count)
    else:
        values, functions = np.linalg.eigh(table.table(table.vector()))
        kept = values > 1e-9 * values[-1]
        values, functions = values[kept], functions[:, kept]
    return np.concatenate([functions, np.zeros((1, functions.shape[1]))]), values


def _kron(factors: Sequence[Array], start: Array) -> Array:
    out = start
    for factor in factors:
        out = np.asarray(np.kron(out, factor), dtype=np.float64)
    return out


def _covariance(table: CategoryKernel, own: Array) -> Array:
    """Prior covariance of the coefficients of the functions of a category."""
    if not table.size:
        return np.diag(_functions_of(table)[1])
    full = table.table(own)
    return full + _JITTER * np.trace(full) * np.eye(len(full))


def _root(table: CategoryKernel, own: Array) -> Array:
    """Lower Cholesky factor of the prior covariance."""
    return np.asarray(np.linalg.cholesky(_covariance(table, own)))
