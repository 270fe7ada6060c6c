"""Covariance functions of unordered categories, and of integers.

A category kernel is a function of one column of codes 0, 1, ..., c - 1, given by a table with shape (c, c):

    kernel = Scale(1.0) * Correlated(3).on([2]) * Matern52([1.0, 2.0]).on([0, 1])

The code ``UNSEEN`` stands for a category not in the data, which is uncorrelated with all others and has the prior
variance of a category. Codes are rounded to the nearest integer, so small rounding errors do not matter.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.composition import Covariance, Kernel, Points
from surrogate.gp.parameters import LogNormal, Normal, Prior, logarithms

__all__ = ["UNSEEN", "CategoryKernel", "Correlated", "Overlap", "Rounded", "Unstructured", "ZeroSum"]

UNSEEN = -1
"""Code of a category that is not in the data."""

_OFF_CODE = 1e-3  # distance from an integer beyond which a number is not a code, which detects standardised columns
LOADING_CENTRE = 1.5
"""Prior mean of the first loading of each category in ``Correlated``, for a prior correlation of 0.7."""
LOADING_SD = 1.0
"""Prior standard deviation of loadings, for correlations mostly between -0.5 and 0.95."""


class CategoryKernel(Kernel):
    """A covariance function of one column of codes, as a table with shape (c, c).

    Attributes:
        count: Number c of categories.
    """

    def __init__(self, count: int, own: Array, priors: tuple[Prior, ...]) -> None:
        """Sets the number of categories and the entries of the vector with their priors.

        Raises:
            ValueError: If there are fewer than two categories.
        """
        if int(count) != count or count < 2:
            msg = f"a category kernel needs two categories or more, got {count!r}"
            raise ValueError(msg)
        self.count = int(count)
        super().__init__(own, (), priors)

    @abstractmethod
    def table(self, vector: Array) -> Array:
        """Covariances of the categories, with shape (c, c), positive semi-definite."""

    @abstractmethod
    def pullback(self, vector: Array, weights: Array) -> Array:
        """Derivatives, with shape (size,), of the sum of the table multiplied by symmetric weights (c, c)."""

    @property
    def unseen_variance(self) -> float:
        """Prior variance of an unseen category: the mean over the categories in the data."""
        return float(self.table(self._own).diagonal().mean())

    def similarity(self) -> Array:
        """Correlations of the categories, with shape (c, c)."""
        table = self.table(self._own)
        root = np.sqrt(table.diagonal())
        return table / root[:, None] / root

    def extended(self, vector: Array) -> Array:
        """The table with a last row and column for ``UNSEEN``, with shape (c + 1, c + 1)."""
        out = np.zeros((self.count + 1, self.count + 1))
        out[:-1, :-1] = table = self.table(vector)
        out[-1, -1] = table.diagonal().mean()
        return out

    def codes(self, u: Any) -> Any:
        """The codes of a column u with shape (n, 1), as integers with shape (n,); c stands for an unseen category.

        Raises:
            ValueError: If there are several columns, or a number is not a code.
        """
        if u.shape[1] != 1:
            msg = f"a category kernel takes one column, got {u.shape[1]}: choose it with kernel.on([j])"
            raise ValueError(msg)
        column = u[:, 0]
        codes = column.round()
        wrong = (abs(column - codes) > _OFF_CODE) | (codes < UNSEEN) | (codes >= self.count) | (column != column)
        if bool(wrong.any()):
            msg = (
                f"a column of {self.count} categories holds codes 0 to {self.count - 1}, or {UNSEEN} for a "
                f"category not in the data, got {float(column[wrong][0])!r}"
            )
            raise ValueError(msg)
        integers = codes.astype(np.int64) if isinstance(u, np.ndarray) else codes.long()
        return integers % (self.count + 1)

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``; values only."""
        _refuse_derivatives(points)
        return _CategoryCovariance(self, vector, self.codes(points.u), points.u, factor)

    def _tensor(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.extended(self._own), dtype=x.dtype, device=x.device)

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        _refuse_derivatives(points)
        return self._tensor(x)[self.codes(points.u)][:, self.codes(x)]

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self._tensor(x).diagonal()[self.codes(x)]

    def interpolant(self, points: Points, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``Kernel``; sums weights by category once, then costs O(m)."""
        _refuse_derivatives(points)
        sums = weights.new_zeros(self.count + 1, *weights.shape[1:]).index_add_(0, self.codes(points.u), weights)
        values = self._tensor(points.u) @ sums
        return lambda x: values[self.codes(x)]


class _CategoryCovariance(Covariance):
    def __init__(self, kernel: CategoryKernel, vector: Array, codes: Any, u: Any, factor: float) -> None:
        self._kernel, self._vector, self._codes, self._u, self._factor = kernel, vector, codes, u, factor

    def matrix(self) -> Any:
        table = self._factor * self._kernel.extended(self._vector)
        if isinstance(self._u, np.ndarray):
            return table[np.ix_(self._codes, self._codes)]
        return torch.as_tensor(table, dtype=self._u.dtype, device=self._u.device)[self._codes][:, self._codes]

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:  # noqa: ARG002 - codes do not move
        """See ``Covariance``; weights are summed by pairs of categories, O(n^2 c)."""
        c = self._kernel.count
        shape = (len(self._codes), c + 1)
        if isinstance(self._u, np.ndarray):
            members = np.zeros(shape)
            members[np.arange(shape[0]), self._codes] = 1.0
        else:
            members = self._u.new_zeros(shape).scatter_(1, self._codes[:, None], 1.0)
        grouped = self._factor * weights.grouped(members)
        # The variance of an unseen category is the mean of those of the others.
        seen = grouped[:c, :c] + grouped[c, c] / c * np.eye(c)
        out[:] = self._kernel.pullback(self._vector, seen)
        return float((grouped * self._kernel.extended(self._vector)).sum())


def _refuse_derivatives(points: Points) -> None:
    if points.at is not None:
        msg = "a kernel of categories or integers cannot be used for data with derivatives: leave the derivatives out"
        raise ValueError(msg)


class ZeroSum(CategoryKernel):
    """1 within a category and -1 / (c - 1) between two; the categories' effects add up to zero.

    It has rank c - 1 and no hyperparameters. In addition to a shared effect it describes differences between
    categories.

    References:
        Kaufman & Sain (2010), doi:10.1214/10-BA604; Timonen et al. (2021), doi:10.1093/bioinformatics/btab021
    """

    def __init__(self, count: int) -> None:
        """Sets the number of categories."""
        super().__init__(count, np.empty(0), ())

    def table(self, vector: Array) -> Array:  # noqa: ARG002 - no hyperparameters
        """See ``CategoryKernel``."""
        c = self.count
        return (c * np.eye(c) - 1.0) / (c - 1.0)

    def pullback(self, vector: Array, weights: Array) -> Array:  # noqa: ARG002
        """See ``CategoryKernel``."""
        return np.empty(0)


class Overlap(CategoryKernel):
    """1 within a category and exp(-1 / l) between any two, so that all are equally similar.

    A product of several over columns is exp(-sum_j [x_j != z_j] / l_j), the kernel of the weighted Hamming distance,
    which BoTorch's CategoricalKernel uses with the mean instead of the sum.

    References:
        Ru et al. (2020), arXiv:1906.08878
    """

    own_names = ("lengthscale",)

    def __init__(self, count: int, lengthscale: float = 1.0, *, prior: LogNormal | None = None) -> None:
        """Sets the number of categories and the lengthscale l, by default with a prior of one e-fold about 1."""
        prior = LogNormal(0.0, 1.0, 1e-2, 1e4) if prior is None else prior
        super().__init__(count, logarithms("lengthscale", lengthscale), (prior,))

    def table(self, vector: Array) -> Array:
        """See ``CategoryKernel``."""
        out = np.full((self.count, self.count), math.exp(-math.exp(-vector[0])))
        np.fill_diagonal(out, 1.0)
        return out

    def pullback(self, vector: Array, weights: Array) -> Array:
        """See ``CategoryKernel``."""
        between = float(weights.sum() - np.trace(weights))
        return np.array([between * math.exp(-math.exp(-vector[0]) - vector[0])])


class Correlated(CategoryKernel):
    """A table of free correlations with unit variances: T_ij = w_i.w_j / (|w_i|' |w_j|'), |w|'^2 = 1 + |w|^2.

    Each category has r loadings w_i on r hidden factors, and an independent part with unit variance before
    normalisation. Any correlation matrix of a factor model has this form, and with r = c - 1 nearly every correlation
    matrix.
    """

    own_names = ("loading",)

    def __init__(self, count: int, rank: int = 1, *, prior: Normal | None = None) -> None:
        """Sets the number of categories and of hidden factors; all categories start equally similar.

        Args:
            count: Number c of categories.
            rank: Number r of factors, 1 to c.
            prior: Prior of all loadings; by default one for similar categories, with correlations near 0.7.

        Raises:
            ValueError: If the rank is not in 1..c.
        """
        self.rank = _rank(rank, count)
        first, rest = (Normal(LOADING_CENTRE, LOADING_SD), Normal(0.0, LOADING_SD)) if prior is None else (prior,) * 2
        loadings = np.zeros((count, self.rank))
        loadings[:, 0] = first.centre
        super().__init__(count, _broken_symmetry(loadings), _alternating(first, rest, count, self.rank))

    @property
    def names(self) -> tuple[str, ...]:
        """Names loading[i,k], for category i and factor k."""
        return _numbered("loading", self.count, self.rank)

    @property
    def loadings(self) -> Array:
        """w, with shape (c, r)."""
        return self._own.reshape(self.count, self.rank)

    def with_loadings(self, loadings: Array) -> Correlated:
        """The same kernel with other loadings, with shape (c, r)."""
        return self.with_vector(np.asarray(loadings, dtype=np.float64).reshape(-1))

    def _directions(self, vector: Array) -> tuple[Array, Array]:
        """w_i / |w_i|', with shape (c, r), and 1 / |w_i|', with shape (c,)."""
        w = vector.reshape(self.count, self.rank)
        inverse = 1.0 / np.sqrt(1.0 + (w * w).sum(1))
        return w * inverse[:, None], inverse

    def table(self, vector: Array) -> Array:
        """See ``CategoryKernel``."""
        directions, _ = self._directions(vector)
        out = directions @ directions.T
        np.fill_diagonal(out, 1.0)
        return out

    def pullback(self, vector: Array, weights: Array) -> Array:
        """See ``CategoryKernel``; with v = w / |w|', dv = (dw - v (v.dw)) / |w|'."""
        directions, inverse = self._directions(vector)
        between = weights - np.diag(weights.diagonal())
        by_direction = 2.0 * between @ directions
        along = (by_direction * directions).sum(1, keepdims=True)
        return ((by_direction - along * directions) * inverse[:, None]).reshape(-1)


class Unstructured(CategoryKernel):
    """A table of free covariances, W W^T + diag(v), of low rank r plus a separate variance for each category.

    It is gpytorch's IndexKernel, and includes the scale of a kernel that it multiplies.

    References:
        Bonilla, Chai & Williams (2007), https://papers.nips.cc/paper/3189-multi-task-gaussian-process-prediction
    """

    def __init__(self, count: int, rank: int = 1, *, prior: Normal | None = None, own: LogNormal | None = None) -> None:
        """Sets the number of categories and the rank; all categories start equally similar, with unit variance.

        Args:
            count: Number c of categories.
            rank: Number r of columns of W, 1 to c.
            prior: Prior of the entries of W.
            own: Prior of the variances v.

        Raises:
            ValueError: If the rank is not in 1..c.
        """
        self.rank = _rank(rank, count)
        prior = Normal(0.0, LOADING_SD) if prior is None else prior
        own = LogNormal(-1.0, 1.5, 1e-6, 1e4) if own is None else own
        factor = np.zeros((count, self.rank))
        factor[:, 0] = math.sqrt(0.7)
        vector = np.concatenate([_broken_symmetry(factor), np.full(count, math.log(0.3))])
        super().__init__(count, vector, _alternating(prior, prior, count, self.rank) + (own,) * count)

    @property
    def names(self) -> tuple[str, ...]:
        """Names factor[i,k], for category i and column k of W, then variance[i]."""
        variances = tuple(f"variance[{i}]" for i in range(self.count))
        return _numbered("factor", self.count, self.rank) + variances

    def with_factor(self, factor: Array, variances: Array) -> Unstructured:
        """A copy with another W, with shape (c, r), and other variances v, with shape (c,)."""
        return self.with_vector(np.concatenate([np.reshape(factor, -1), logarithms("variances", variances)]))

    def _split(self, vector: Array) -> tuple[Array, Array]:
        size = self.count * self.rank
        return vector[:size].reshape(self.count, self.rank), np.exp(vector[size:])

    def table(self, vector: Array) -> Array:
        """See ``CategoryKernel``."""
        factor, variances = self._split(vector)
        return factor @ factor.T + np.diag(variances)

    def pullback(self, vector: Array, weights: Array) -> Array:
        """See ``CategoryKernel``."""
        factor, variances = self._split(vector)
        return np.concatenate([(2.0 * weights @ factor).reshape(-1), weights.diagonal() * variances])


class Rounded(Kernel):
    """A kernel of coordinates rounded to a grid, k(round(x), round(z)), for ordered integers.

    All points that round to the same grid point have the same value, like a count. Also round candidates to the grid
    before comparing them with evaluated points.

    References:
        Garrido-Merchan & Hernandez-Lobato (2020), arXiv:1805.03463
    """

    def __init__(self, kernel: Kernel, *, step: float = 1.0, origin: float = 0.0) -> None:
        """Sets the kernel and the grid, ``origin`` plus multiples of ``step``, of all its coordinates.

        Raises:
            ValueError: If the step is not positive or the origin is not finite.
        """
        if not (step > 0.0 and math.isfinite(step) and math.isfinite(origin)):
            msg = f"a grid needs a positive step and a finite origin, got step={step!r} and origin={origin!r}"
            raise ValueError(msg)
        self.step, self.origin = float(step), float(origin)
        super().__init__(np.empty(0), (kernel,), ())

    def rounded(self, u: Any) -> Any:
        """The nearest points of the grid, with the shape of u."""
        return ((u - self.origin) / self.step).round() * self.step + self.origin

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``; values only."""
        _refuse_derivatives(points)
        return _RoundedCovariance(self.parts[0].forward(vector, Points(self.rounded(points.u)), factor))

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        _refuse_derivatives(points)
        return self.parts[0].cross(Points(self.rounded(points.u)), self.rounded(x))

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.parts[0].diagonal(self.rounded(x))

    def interpolant(self, points: Points, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``Kernel``."""
        _refuse_derivatives(points)
        function = self.parts[0].interpolant(Points(self.rounded(points.u)), weights)
        return lambda x: function(self.rounded(x))


class _RoundedCovariance(Covariance):
    def __init__(self, part: Covariance) -> None:
        self._part = part

    def matrix(self) -> Any:
        return self._part.matrix()

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:  # noqa: ARG002 - the grid does not move
        return self._part.contract(weights, out)


def _rank(rank: int, count: int) -> int:
    if int(rank) != rank or not 1 <= rank <= count:
        msg = f"rank must be in 1..{count}, the number of categories, got {rank!r}"
        raise ValueError(msg)
    return int(rank)


def _broken_symmetry(factor: Array) -> Array:
    """The factor as a vector with small distinct entries in later columns, because their gradient is zero at zero."""
    c, r = factor.shape
    out = factor.copy()
    for k in range(1, r):
        out[:, k] += 0.1 * np.cos(np.pi * k * (np.arange(c) + 0.5) / c)
    return out.reshape(-1)


def _alternating(first: Prior, rest: Prior, count: int, rank: int) -> tuple[Prior, ...]:
    """Priors of a factor in row-major order: one for its first column, another for later ones."""
    return (first, *((rest,) * (rank - 1))) * count


def _numbered(name: str, count: int, rank: int) -> tuple[str, ...]:
    return tuple(f"{name}[{i},{k}]" for i in range(count) for k in range(rank))
