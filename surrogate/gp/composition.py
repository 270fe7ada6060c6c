"""Composition of covariance functions: sums, products, scales, and kernels of chosen columns.

    kernel = Scale(0.5) * Matern52([1.0, 2.0]) + Scale(2.0) * RBF([3.0]).on([0])

A kernel is an immutable value with named hyperparameters and priors. ``forward`` gives the covariance of points as an
object that also has derivatives: the gradient of any weighted sum of its entries with respect to log-hyperparameters
and inputs, by analytic formulas and at the cost of a few passes over the matrix.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.operators import TiledOperator
from surrogate.gp.parameters import LogNormal, Parametric, Prior, logarithms
from surrogate.gp.weights import FullWeights

__all__ = ["SD_PRIOR", "Columns", "Covariance", "Kernel", "Points", "Product", "Scale", "Scaled", "Sum"]

SD_PRIOR = LogNormal()
"""Default prior, flat over twelve decades."""


@dataclass(frozen=True, eq=False)
class Points:
    """The rows of a covariance: values at n points, followed by derivatives at m of them.

    Attributes:
        u: Inputs, with shape (n, d), as a numpy array or a tensor.
        at: Indices of the points whose derivatives are rows too, with shape (m,); None for none. Tensors only.
    """

    u: Any
    at: Tensor | None = None

    @property
    def rows(self) -> int:
        """Number of rows n + m d."""
        n, d = self.u.shape
        return int(n + (0 if self.at is None else len(self.at) * d))

    def columns(self, columns: Any) -> Points:
        """The same points restricted to some of the coordinates."""
        return Points(self.u[:, columns], self.at)


class Covariance:
    """Covariance matrix of a set of points at given hyperparameters, with its derivatives."""

    @abstractmethod
    def matrix(self) -> Any:
        """The matrix with shape (n, n), where n includes derivatives; the caller may overwrite it."""

    @abstractmethod
    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:
        """The sum of weights times matrix entries, and its derivatives with respect to the hyperparameters.

        Args:
            weights: ``surrogate.gp.weights.Weights``, with the shape of the matrix; may be overwritten.
            out: Receives the derivatives with respect to the log-hyperparameters, with shape (size,).
            inputs: The derivatives with respect to the inputs are added to this array, with shape (n, d); None to skip
                them. If it is given, there must be no derivatives among the rows.

        Returns:
            The sum. O(n^2 d).
        """


class Kernel(Parametric):
    """A covariance function of points with d coordinates."""

    parts: tuple[Kernel, ...]

    @abstractmethod
    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """The covariance matrix of a set of points with its derivatives.

        Args:
            vector: Log-hyperparameters, with shape (size,), used instead of the kernel's own.
            points: The points, with or without derivatives.
            factor: Factor on the covariance.
        """

    @abstractmethod
    def cross(self, points: Points, x: Tensor) -> Tensor:
        """Covariance of all rows of the points with the values at x, shape (m, d), with shape (rows, m)."""

    @abstractmethod
    def diagonal(self, x: Tensor) -> Tensor:
        """Prior variances of the values at x, shape (m, d), with shape (m,)."""

    def covariance(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Covariance of the values at x with those at z (by default x), with shape (n, m)."""
        return self.forward(self.vector(), Points(x)).matrix() if z is None else self.cross(Points(x), z)

    def interpolant(self, points: Points, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """The function x -> ``cross(points, x).T @ weights`` of x with shape (m, d), for weights with shape (rows,)."""
        return lambda x: self.cross(points, x).T @ weights

    def operator(self, points: Points, factor: float = 1.0) -> Any:
        """The covariance of all rows times a factor, with products, columns and diagonal, never stored.

        Args:
            points: The points, with shape (n, d).
            factor: Factor on the covariance.

        Returns:
            An operator of ``surrogate.linalg``; for values alone it also has ``cross``, ``to`` and ``dense``.

        Raises:
            TypeError: If there are derivatives, which only scaled stationary kernels can take here.
        """
        if points.at is not None:
            msg = f"products with derivatives need a scaled stationary kernel, got {type(self).__name__}"
            raise TypeError(msg)
        return TiledOperator(self if factor == 1.0 else Scaled(self, math.sqrt(factor)), points.u)

    def covariances(self, x: Tensor) -> Tensor:
        """Covariances within each of b sets of m points, with shape (b, m, m), for x with shape (b, m, d)."""
        return torch.stack([self.covariance(part) for part in x]) if len(x) else x.new_empty(0, x.shape[1], x.shape[1])

    def distance(self, targets: Tensor, x: Tensor) -> Tensor:
        """Distances for choosing neighbours, with shape (b, n), which decrease with the squared correlation.

        Args:
            targets: Targets, with shape (b, d).
            x: Points, with shape (n, d).
        """
        prior = self.diagonal(targets)[:, None] * self.diagonal(x)
        return 1.0 - self.covariance(targets, x).square() / prior.clamp(min=1e-300)

    def on(self, columns: Sequence[int]) -> Columns:
        """The same kernel applied to some of the coordinates."""
        return Columns(self, columns)

    def __add__(self, other: Kernel) -> Sum:
        return Sum(self, other)

    def __mul__(self, other: Kernel) -> Kernel:
        for scale, kernel in ((self, other), (other, self)):
            if isinstance(scale, Scale):
                return scale.times(kernel)
        return Product(self, other)


class Scaled(Kernel):
    """sd^2 k: a kernel times a constant."""

    own_names = ("sd",)

    def __init__(self, kernel: Kernel, sd: float, *, prior: Prior = SD_PRIOR) -> None:
        """Sets the kernel and its standard deviation."""
        super().__init__(logarithms("sd", sd), (kernel,), (prior,))

    @property
    def variance(self) -> float:
        """sd^2."""
        return float(np.exp(2.0 * self._own[0]))

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``; the factor is passed on to the inner kernel."""
        return _ScaledCovariance(self.parts[0].forward(vector[1:], points, factor * np.exp(2.0 * vector[0])))

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.parts[0].cross(points, x) * self.variance

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.variance * self.parts[0].diagonal(x)

    def interpolant(self, points: Points, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``Kernel``."""
        return self.parts[0].interpolant(points, self.variance * weights)

    def operator(self, points: Points, factor: float = 1.0) -> Any:
        """See ``Kernel``."""
        return self.parts[0].operator(points, factor * self.variance)

    def covariances(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.variance * self.parts[0].covariances(x)

    def distance(self, targets: Tensor, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.parts[0].distance(targets, x)


class _ScaledCovariance(Covariance):
    """A covariance whose matrix already includes the factor."""

    def __init__(self, part: Covariance) -> None:
        self._part = part

    def matrix(self) -> Any:
        return self._part.matrix()

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:
        total = self._part.contract(weights, out[1:], inputs)
        out[0] = 2.0 * total
        return total


class Sum(Kernel):
    """k_1 + k_2: a sum of independent processes."""

    def __init__(self, first: Kernel, second: Kernel) -> None:
        """Sets the two kernels."""
        super().__init__(np.empty(0), (first, second), ())

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``."""
        (first, second), size = self.parts, self.parts[0].size
        parts = first.forward(vector[:size], points, factor), second.forward(vector[size:], points, factor)
        return _SumCovariance(*parts, size)

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.parts[0].cross(points, x) + self.parts[1].cross(points, x)

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.parts[0].diagonal(x) + self.parts[1].diagonal(x)

    def interpolant(self, points: Points, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``Kernel``."""
        first, second = (part.interpolant(points, weights) for part in self.parts)
        return lambda x: first(x) + second(x)


class _SumCovariance(Covariance):
    def __init__(self, first: Covariance, second: Covariance, size: int) -> None:
        self._first, self._second, self._size = first, second, size

    def matrix(self) -> Any:
        out = self._first.matrix()
        out += self._second.matrix()
        return out

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:
        total = self._first.contract(weights.copy(), out[: self._size], inputs)
        return total + self._second.contract(weights, out[self._size :], inputs)


class Product(Kernel):
    """k_1 k_2, entry by entry."""

    def __init__(self, first: Kernel, second: Kernel) -> None:
        """Sets the two kernels."""
        super().__init__(np.empty(0), (first, second), ())

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``."""
        if points.at is not None:
            msg = "data with derivatives need a kernel without products; use a sum of scaled kernels"
            raise ValueError(msg)
        (first, second), size = self.parts, self.parts[0].size
        return _ProductCovariance(
            first.forward(vector[:size], points, factor), second.forward(vector[size:], points), size
        )

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.parts[0].cross(points, x) * self.parts[1].cross(points, x)

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.parts[0].diagonal(x) * self.parts[1].diagonal(x)


class _ProductCovariance(Covariance):
    def __init__(self, first: Covariance, second: Covariance, size: int) -> None:
        self._first, self._second, self._size = first, second, size

    def matrix(self) -> Any:
        out = self._first.matrix()
        out *= self._second.matrix()
        return out

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:
        others = weights.times(self._first.matrix())
        total = self._first.contract(weights.times(self._second.matrix()), out[: self._size], inputs)
        self._second.contract(others, out[self._size :], inputs)
        return total


class Columns(Kernel):
    """A kernel applied to some of the coordinates.

    Attributes:
        columns: Indices of the coordinates, in the order in which the kernel takes them.
    """

    def __init__(self, kernel: Kernel, columns: Sequence[int]) -> None:
        """Sets the kernel and the indices of its coordinates, which must be distinct."""
        self.columns = tuple(int(j) for j in columns)
        if len(set(self.columns)) != len(self.columns) or not self.columns or min(self.columns) < 0:
            msg = f"columns must be distinct indices, counted from 0, got {list(columns)}"
            raise ValueError(msg)
        super().__init__(np.empty(0), (kernel,), ())

    def _rows(self, points: Points) -> Tensor:
        """Row numbers of the chosen coordinates among the rows of all coordinates."""
        n, d = points.u.shape
        at = points.u.new_empty(0, dtype=torch.int64) if points.at is None else points.at
        first = n + d * torch.arange(len(at), device=at.device)
        slopes = first[:, None] + torch.tensor(self.columns, device=at.device)
        return torch.cat([torch.arange(n, device=at.device), slopes.reshape(-1)])

    def _chosen(self, x: Any) -> Any:
        chosen = x[:, list(self.columns)]
        return np.ascontiguousarray(chosen) if isinstance(x, np.ndarray) else chosen

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``; the rows of derivatives along other coordinates are zero."""
        part = self.parts[0].forward(vector, Points(self._chosen(points.u), points.at), factor)
        return _ColumnsCovariance(part, self.columns, None if points.at is None else self._rows(points), points.rows)

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        part = self.parts[0].cross(Points(self._chosen(points.u), points.at), self._chosen(x))
        if points.at is None:
            return part
        out = part.new_zeros(points.rows, len(x))
        out[self._rows(points)] = part
        return out

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.parts[0].diagonal(self._chosen(x))

    def interpolant(self, points: Points, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``Kernel``."""
        some = weights if points.at is None else weights[self._rows(points)]
        function = self.parts[0].interpolant(Points(self._chosen(points.u), points.at), some)
        return lambda x: function(self._chosen(x))


class _ColumnsCovariance(Covariance):
    def __init__(self, part: Covariance, columns: tuple[int, ...], rows: Tensor | None, size: int) -> None:
        self._part, self._columns, self._rows, self._size = part, columns, rows, size

    def matrix(self) -> Any:
        part = self._part.matrix()
        if self._rows is None:
            return part
        out = part.new_zeros(self._size, self._size)
        out[self._rows[:, None], self._rows] = part
        return out

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:
        if self._rows is not None:
            return self._part.contract(FullWeights(weights.matrix[self._rows[:, None], self._rows]), out, inputs)
        chosen = None if inputs is None else 0.0 * inputs[:, list(self._columns)]
        total = self._part.contract(weights, out, chosen)
        if inputs is not None:
            inputs[:, list(self._columns)] += chosen
        return total


class Scale(Kernel):
    """The constant kernel sd^2: the variance of an unknown constant, or the scale of a kernel that it multiplies."""

    own_names = ("sd",)

    def __init__(self, sd: float = 1.0, *, prior: LogNormal = SD_PRIOR) -> None:
        """Sets the standard deviation of the constant."""
        super().__init__(logarithms("sd", sd), (), (prior,))

    @property
    def variance(self) -> float:
        """sd^2."""
        return float(np.exp(2.0 * self._own[0]))

    def times(self, kernel: Kernel) -> Scaled:
        """``kernel`` multiplied by this scale."""
        scaled = Scaled(kernel, 1.0, prior=self._priors[0])
        return scaled.with_vector(np.concatenate([self._own, kernel.vector()]))

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``; the rows of derivatives are zero."""
        return _ConstantCovariance(points, factor * float(np.exp(2.0 * vector[0])))

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        out = x.new_zeros(points.rows, len(x))
        out[: len(points.u)] = self.variance
        return out

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return torch.full_like(x[:, 0], self.variance)

    def features(self, x: Tensor) -> Tensor:
        """F with F F^T = k, with shape (n, 1)."""
        return torch.full_like(x[:, :1], math.sqrt(self.variance))


class _ConstantCovariance(Covariance):
    def __init__(self, points: Points, variance: float) -> None:
        self._points, self._variance = points, variance

    def matrix(self) -> Any:
        u, rows = self._points.u, self._points.rows
        out = np.zeros((rows, rows)) if isinstance(u, np.ndarray) else u.new_zeros(rows, rows)
        out[: len(u), : len(u)] = self._variance
        return out

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:  # noqa: ARG002 - inputs do not matter
        total = weights.total(self.matrix())
        out[0] = 2.0 * total
        return total
