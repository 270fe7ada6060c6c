"""Regression on mixed columns: an additive model with the necessary components, and a process of all columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.additive import SD, Component
from surrogate.gp.additive_basis import ETA, AdditiveBasis, AdditivePosterior, Sums, fit_additive
from surrogate.gp.additive_reduction import Reduction, reduced
from surrogate.gp.categories import CategoryKernel, Correlated, Overlap, ZeroSum
from surrogate.gp.composition import Kernel, Product, Scale, Sum
from surrogate.gp.fitting import fit
from surrogate.gp.kernels import RBF, Matern52
from surrogate.gp.noise import Given, Noise, Nugget
from surrogate.gp.parameters import LogNormal
from surrogate.gp.process import Data, Process
from surrogate.gp.solvers.cholesky import CholeskyPosterior

__all__ = ["MixedData", "chosen_additive", "chosen_process", "noise_variance", "process_kernel", "relevance"]

MOST_FOR_EXACT_FIT = 1000
"""Points to which the exact process's hyperparameters are fitted: about half a second per evaluation."""

_MOST_CORRELATED = 20  # largest number of categories with learned correlations, because each adds hyperparameters
_FOLDS = 5
_SCREENING_ROWS = 4000  # rows used to find interactions
_SCREENING_EVALUATIONS = 12
_LEAST_GAIN = 3.0  # nats of evidence that an interaction must gain on these rows
_MOST_SCREENED = 12  # number of columns with the largest shares, whose pairs are candidates
_MOST_FIT = 60  # evaluations in a fit of all components
# Number of sines along a column: for one column, with categories, and for each of two columns. With a box twice as wide
# as the data they are accurate for lengthscales above 0.15, 0.35 and 0.44 of its half-width.
_ALONE, _BESIDE, _EACH = 24, 10, 8
_LENGTHSCALE_SD = 1.5  # prior sd of log-lengthscales around log sqrt(d), for columns of unit variance


@dataclass(frozen=True, eq=False)
class MixedData:
    """Data with columns of numbers and of codes of categories.

    Attributes:
        u: With shape (n, d); numbers of about unit variance.
        y: Values about zero, with shape (n,).
        counts: Number of categories of each column of codes.
        names: Names of the columns.
        noise: Sd of the noise if known; None to estimate it.
    """

    u: Tensor
    y: Tensor
    counts: Mapping[int, int]
    names: Sequence[str]
    noise: float | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """Columns of numbers."""
        return tuple(j for j in range(self.u.shape[1]) if j not in self.counts)

    def rows(self, index: Tensor) -> MixedData:
        """Some of the points."""
        return replace(self, u=self.u[index], y=self.y[index])


# The process of all columns at once


def process_kernel(data: MixedData) -> Kernel:
    """The kernel of a process of all columns: joint functions, functions of the numbers, offsets of categories.

    Categories have learned correlations, or one common correlation if there are many.
    """
    numbers = data.numbers
    centre = 0.5 * math.log(max(len(numbers), 1))
    prior = LogNormal(centre, _LENGTHSCALE_SD, 1e-2, 1e3)
    start = [math.exp(centre)] * len(numbers)
    whole: list[Kernel] = [Matern52(start, prior=prior).on(numbers)] if numbers else []
    whole += [_alike(count).on([column]) for column, count in data.counts.items()]
    parts: list[Kernel] = [Scale(1.0, prior=SD) * _product(whole)]
    if numbers:
        parts.append(Scale(0.3, prior=SD) * RBF(start, prior=prior).on(numbers))
    parts += [Scale(0.3, prior=SD) * ZeroSum(count).on([column]) for column, count in data.counts.items()]
    return reduce(Sum, parts)


def _product(kernels: Sequence[Kernel]) -> Kernel:
    out = kernels[0]
    for kernel in kernels[1:]:
        out = Product(out, kernel)
    return out


def _alike(count: int) -> CategoryKernel:
    return Correlated(count, min(2, count - 1)) if count <= _MOST_CORRELATED else Overlap(count, 1.0)


def chosen_process(
    data: MixedData, generator: torch.Generator, *, start: Array | None = None, max_evaluations: int = _MOST_FIT
) -> CholeskyPosterior:
    """The process of all columns, with hyperparameters of the largest evidence of up to 1,000 points: O(n^3).

    Args:
        data: All the points.
        generator: Draws the points of the fit; on the CPU.
        start: Initial log-hyperparameters, of a process of the same columns.
        max_evaluations: Limit of the optimiser.

    Raises:
        FloatingPointError: If a covariance cannot be factored with any noise.
    """
    kernel = process_kernel(data)
    noise: Noise = Nugget(0.05, fitted=True, prior=ETA)
    if data.noise is not None:
        noise = Nugget(max(len(data.y), 10) * torch.finfo(torch.float64).eps) + Given()
    process = Process(kernel, noise=noise, scale=None if data.noise is None else 1.0)
    order = torch.randperm(len(data.y), generator=generator)[:MOST_FOR_EXACT_FIT].to(data.u.device)
    starts = () if start is None else (start,)
    found = fit(process, _given(data.rows(order)), starts=starts, max_evaluations=max_evaluations)
    return process.with_vector(found.vector).condition(_given(data))


def noise_variance(posterior: CholeskyPosterior | AdditivePosterior) -> float:
    """Estimated noise variance, in units of y squared."""
    if isinstance(posterior, AdditivePosterior):
        return posterior.noise_variance
    return float(posterior.scale) ** 2 * math.exp(float(posterior.process.noise.vector()[0]))


def _given(data: MixedData) -> Data:
    gap = torch.zeros_like(data.y)
    return Data(data.u, data.y, gap, gap if data.noise is None else torch.full_like(gap, data.noise))


# The additive model


def chosen_additive(data: MixedData, generator: torch.Generator, *, most: int) -> Reduction:
    """An additive model of the columns and of the pairwise interactions that the data support: O(n M^2).

    First come effects of single columns. Then interactions of two columns are added in the order of the evidence that
    each gains on the residual of some rows, up to M = ``most`` functions. Finally all components are fitted together,
    and those that do not reduce the cross-validated error are dropped.

    Args:
        data: All the points.
        generator: Draws the rows used to find interactions; on the CPU.
        most: Largest number of functions of all components, unless single columns already have more.

    Raises:
        ValueError: If no column varies.
        FloatingPointError: If a matrix cannot be factored with any noise.
    """
    singles = [_single(data, j) for j in range(data.u.shape[1]) if j in data.counts or _varies(data.u[:, j])]
    if not singles:
        msg = "no column of X varies: there is nothing to learn from"
        raise ValueError(msg)
    first = _fit(data, singles)
    order = torch.randperm(len(data.y), generator=generator)[:_SCREENING_ROWS].to(data.u.device)
    some = data.rows(order)
    ranked = np.argsort(first.shares()[:-1])[::-1][:_MOST_SCREENED].tolist()
    columns = sorted(column for k in ranked for column in (*singles[k].numbers, *singles[k].categories))
    pairs = _screen(data, replace(some, y=some.y - first.mean(some.u)), columns)
    components, size = list(singles), sum(part.size for part in singles)
    for pair in pairs:
        if size + pair.size <= most:
            components.append(pair)
            size += pair.size
    folds = [_sums(part, components) for part in _folds(data)]
    basis = AdditiveBasis(tuple(components), reduce(Sums.__add__, folds))
    own = first.basis.vectors(first.vector)
    start = np.concatenate([*own, *(pair.kernel.vector() for pair in components[len(singles) :]), first.vector[-1:]])
    return reduced(fit_additive(basis, start=start, max_evaluations=_MOST_FIT), folds)


def _varies(column: Tensor) -> bool:
    return float(column.max() - column.min()) > 0.0


def _single(data: MixedData, j: int) -> Component:
    if j in data.counts:
        return Component.of(data.u, categories={j: ZeroSum(data.counts[j])}, name=data.names[j])
    return Component.of(data.u, numbers=[j], functions=_ALONE, name=data.names[j])


def _pair(data: MixedData, i: int, j: int) -> Component:
    tables = {k: ZeroSum(data.counts[k]) for k in (i, j) if k in data.counts}
    numbers = [k for k in (i, j) if k not in data.counts]
    functions = _BESIDE if len(numbers) == 1 else _EACH
    name = f"{data.names[i]} x {data.names[j]}"
    return Component.of(data.u, numbers=numbers, categories=tables, functions=functions, name=name)


def _screen(data: MixedData, residual: MixedData, columns: Sequence[int]) -> list[Component]:
    """Interactions that gain evidence on a residual, in descending order of the gain."""
    n = len(residual.y)
    nothing = -0.5 * n * (math.log(2.0 * math.pi * max(float(residual.y.square().mean()), 1e-300)) + 1.0)
    gains: list[tuple[float, int, Component]] = []
    for i, j in itertools.combinations(columns, 2):
        pair = _pair(data, i, j)
        if pair.size > n:
            continue
        basis = AdditiveBasis.of([pair], residual.u, residual.y)
        found = fit_additive(basis, max_evaluations=_SCREENING_EVALUATIONS)
        gains.append((found.log_evidence - nothing, len(gains), pair))
    return [pair for gain, _, pair in sorted(gains, key=lambda row: (-row[0], row[1])) if gain > _LEAST_GAIN]


def _features(components: Sequence[Component]) -> Callable[[Tensor], Tensor]:
    return lambda rows: torch.cat([part.features(rows) for part in components], 1)


def _sums(data: MixedData, components: Sequence[Component]) -> Sums:
    return Sums.of(_features(components), data.u, data.y, sum(part.size for part in components))


def _folds(data: MixedData) -> list[MixedData]:
    count = min(_FOLDS, len(data.y))
    return [replace(data, u=data.u[k::count], y=data.y[k::count]) for k in range(count)]


def _fit(data: MixedData, components: Sequence[Component]) -> AdditivePosterior:
    return fit_additive(AdditiveBasis(tuple(components), _sums(data, components)), max_evaluations=_MOST_FIT)


def relevance(posterior: AdditivePosterior, d: int) -> Array:
    """Share of the explained variance that involves each column, with shape (d,).

    A component of two columns counts for both, so that the shares may add up to more than one.
    """
    shares = posterior.shares()[:-1]
    out = np.zeros(d)
    for share, component in zip(shares / max(float(shares.sum()), 1e-300), posterior.basis.components, strict=True):
        out[[*component.numbers, *component.categories]] += share
    return out
