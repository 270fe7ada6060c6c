"""Covariance functions: stationary kernels, the linear kernel, and the classes that compose them.

kernel = Scale(0.5) * Matern52([1.0, 2.0]) + Scale(2.0) * RBF([3.0]).on([0])
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.composition import Columns, Covariance, Kernel, Points, Product, Scale, Scaled, Sum
from surrogate.gp.derivative import JointCovariance, JointOperator, log_lengthscale_slopes
from surrogate.gp.means import Mean
from surrogate.gp.parameters import LogNormal, logarithms
from surrogate.gp.weights import FullWeights
from surrogate.linalg.operators import KernelOperator
from surrogate.linalg.stationary import CORRELATIONS, Stationary, correlations, squared_distance

__all__ = [
    "RBF",
    "STATIONARY",
    "Columns",
    "Covariance",
    "Kernel",
    "Linear",
    "Matern12",
    "Matern32",
    "Matern52",
    "MeanKernel",
    "Points",
    "Product",
    "Scale",
    "Scaled",
    "StationaryKernel",
    "Sum",
    "stationary_part",
]


LENGTHSCALE_PRIOR = LogNormal()
"""Flat over twelve decades."""

_TILE = 1 << 17  # correlations held at once by a thread, a megabyte: twice as fast as 1,000 x 3,400 in one piece


class StationaryKernel(Kernel):
    """A correlation function of the distance in units of the lengthscales.

    Subclasses set the function; if it has enough derivatives, data may include derivatives.

    Attributes:
        function: Function of the squared scaled distance.
    """

    function: ClassVar[Stationary]
    own_names = ("lengthscale",)

    def __init__(
        self,
        lengthscale: float | Sequence[float] | Array = 1.0,
        *,
        prior: LogNormal | Sequence[LogNormal] = LENGTHSCALE_PRIOR,
    ) -> None:
        """Sets one lengthscale per coordinate, or one for all, and one prior for each, or one for all."""
        own = logarithms("lengthscale", lengthscale)
        super().__init__(own, (), (prior,) * len(own) if isinstance(prior, LogNormal) else tuple(prior))

    @property
    def lengthscale(self) -> Array:
        """Lengthscales, with shape (d,) or (1,)."""
        return np.exp(self._own)

    def _joint(self, points: Points, lengthscale: Tensor) -> JointCovariance:
        at = points.at if points.at is not None else points.u.new_empty(0, dtype=torch.int64)
        return JointCovariance(self.function, points.u, lengthscale.expand(points.u.shape[1]), at)

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``; O(n^2 d)."""
        lengthscale = _scale(vector, points.u)
        if points.at is not None:
            return _JointCovariance(self._joint(points, lengthscale), factor)
        z = points.u / lengthscale
        if isinstance(z, np.ndarray):
            return _StationaryCovariance(z, lengthscale, *_correlations(self.function, z), factor)
        k, h = self.function.evaluate(squared_distance(z, z).fill_diagonal_(0.0))
        scaled = k.mul_(factor)
        return _StationaryCovariance(z, lengthscale, scaled, scaled if h is k else h.mul_(factor), 1.0)

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``; O(n m d)."""
        lengthscale = _scale(self._own, x)
        if points.at is not None:
            return self._joint(points, lengthscale).with_values(x)
        return self.function.correlation(squared_distance(points.u / lengthscale, x / lengthscale))

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``; equal to 1 everywhere."""
        return torch.ones_like(x[:, 0])

    def operator(self, points: Points, factor: float = 1.0) -> KernelOperator | JointOperator:
        """See ``Kernel``; a product costs O(n^2 d)."""
        if points.at is not None:
            return JointOperator(self._joint(points, _scale(self._own, points.u)), factor)
        scale = torch.as_tensor(self.lengthscale, dtype=torch.float64, device=points.u.device)
        return KernelOperator.of(self.function, points.u, lengthscale=scale, outputscale=factor)

    def covariances(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return correlations(self.function, x / _scale(self._own, x))[0]

    def distance(self, targets: Tensor, x: Tensor) -> Tensor:
        """See ``Kernel``; the squared distance in units of the lengthscales, in which the same points are nearest."""
        scale = _scale(self._own, x)
        return squared_distance(targets / scale, x / scale)

    def interpolant(self, points: Points, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """See ``Kernel``; squared distances by products of tiles that stay in the processor's cache, O(n m d)."""
        lengthscale = _scale(self._own, points.u)
        if points.at is not None:
            joint = self._joint(points, lengthscale)
            return lambda x: joint.mean(x, weights)
        z = points.u / lengthscale
        right = torch.cat([z, torch.ones_like(z[:, :1]), z.square().sum(1, keepdim=True)], 1).T.contiguous()

        def of_tile(left: Tensor) -> Tensor:
            return self.function.correlation(torch.mm(left, right).clamp_(min=0.0)) @ weights

        def function(x: Tensor) -> Tensor:
            """The interpolant at x."""
            z = x / lengthscale
            left = torch.cat([-2.0 * z, z.square().sum(1, keepdim=True), torch.ones_like(z[:, :1])], 1)
            return torch.cat([of_tile(tile) for tile in left.split(_tile_rows(right))])

        return function


def _tile_rows(right: Tensor) -> int:
    """Number of points of which the correlations with the columns of ``right`` stay in the cache of a processor."""
    if right.device.type != "cpu":
        return sys.maxsize
    return max(1, _TILE * torch.get_num_threads() // max(right.shape[1], 1))


class RBF(StationaryKernel):
    """exp(-r^2 / 2), also called squared exponential or Gaussian."""

    function = CORRELATIONS["rbf"]


class Matern12(StationaryKernel):
    """exp(-r): the Ornstein-Uhlenbeck process, continuous and nowhere smooth."""

    function = CORRELATIONS["matern12"]


class Matern32(StationaryKernel):
    """(1 + t) exp(-t), t = sqrt(3) r: one derivative."""

    function = CORRELATIONS["matern32"]


class Matern52(StationaryKernel):
    """(1 + t + t^2 / 3) exp(-t), t = sqrt(5) r: two derivatives."""

    function = CORRELATIONS["matern52"]


STATIONARY: dict[str, type[StationaryKernel]] = {
    "rbf": RBF,
    "matern12": Matern12,
    "matern32": Matern32,
    "matern52": Matern52,
}
"""The stationary kernels by name."""


def stationary_part(kernel: Kernel) -> StationaryKernel:
    """The stationary kernel in a scaled one, or the kernel itself.

    Raises:
        TypeError: If there is none.
    """
    part = kernel.parts[0] if isinstance(kernel, Scaled) else kernel
    if not isinstance(part, StationaryKernel):
        msg = f"the kernel must be a stationary one, scaled or not, got {type(kernel).__name__}"
        raise TypeError(msg)
    return part


def _scale(vector: Array, u: Any) -> Any:
    """Hyperparameters from their logarithms, as an array or tensor like u."""
    scale = np.exp(vector)
    return scale if isinstance(u, np.ndarray) else torch.as_tensor(scale, dtype=u.dtype, device=u.device)


def _correlations(function: Stationary, z: Array) -> tuple[Array, Array]:
    """k and h between all points z in units of the lengthscales; they may be one array."""
    square = (z * z).sum(1)
    r2 = z @ z.T
    r2 *= -2.0
    r2 += square
    r2 += square[:, None]
    np.maximum(r2, 0.0, out=r2)
    r2.flat[:: len(z) + 1] = 0.0
    k, h = function.evaluate(torch.from_numpy(r2))  # torch, whose square roots are faster
    values = k.numpy()
    return values, values if h is k else h.numpy()


class _StationaryCovariance(Covariance):
    """factor times k(|z - z'|), in numpy or torch. In numpy the matrices k and h do not include the factor."""

    def __init__(self, z: Any, lengthscale: Any, k: Any, h: Any, factor: float) -> None:
        self._z, self._lengthscale, self._k, self._h, self._factor = z, lengthscale, k, h, factor

    def matrix(self) -> Any:
        return self._k.clone() if isinstance(self._k, Tensor) else self._factor * self._k

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:
        """See ``Covariance``; sum_j G_ij (z_i - z_j)^2 needs two products of n x n with n x d, for G = A * h."""
        z, factor, (total, g, rows, columns) = self._z, self._factor, weights.weighted(self._k, self._h)
        both = rows + columns
        moment = g @ z
        slopes = 2.0 * weights.multiplicity * ((0.5 * both) @ (z * z) - (z * moment).sum(0))
        slopes = slopes if isinstance(slopes, np.ndarray) else slopes.cpu().numpy()
        out[:] = factor * (slopes if len(out) == len(slopes) else slopes.sum())
        if inputs is not None:
            inputs += factor * weights.multiplicity * (moment + g.T @ z - both[:, None] * z) / self._lengthscale
        return factor * total


class _JointCovariance(Covariance):
    """factor times the joint covariance of values and derivatives, in torch."""

    def __init__(self, joint: JointCovariance, factor: float) -> None:
        self._joint, self._factor, self._dense = joint, factor, joint.dense().mul_(factor)

    def matrix(self) -> Tensor:
        return self._dense.clone()

    def contract(self, weights: FullWeights, out: Array, inputs: Any = None) -> float:
        if inputs is not None:
            msg = "derivatives with respect to inputs are not available for data with derivatives"
            raise ValueError(msg)
        symmetric = (weights.matrix + weights.matrix.T).mul_(0.5 * self._factor)
        slopes = log_lengthscale_slopes(self._joint, symmetric).cpu().numpy()
        out[:] = slopes if len(out) == len(slopes) else slopes.sum()
        return weights.total(self._dense)


class Linear(Kernel):
    """sum_j x_j z_j / l_j^2: planes through the origin, whose slopes have the sd 1 / l_j."""

    own_names = ("lengthscale",)

    def __init__(
        self, lengthscale: float | Sequence[float] | Array = 1.0, *, prior: LogNormal = LENGTHSCALE_PRIOR
    ) -> None:
        """Sets one lengthscale per coordinate, or one for all; they share a prior."""
        own = logarithms("lengthscale", lengthscale)
        super().__init__(own, (), (prior,) * len(own))

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:
        """See ``Kernel``; values only."""
        if points.at is not None:
            msg = "a Linear kernel cannot be used for data with derivatives: use the mean Polynomial('linear') instead"
            raise ValueError(msg)
        lengthscale = _scale(vector, points.u)
        return _LinearCovariance(points.u / lengthscale, lengthscale, factor)

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        lengthscale = _scale(self._own, x)
        return (points.u / lengthscale) @ (x / lengthscale).T

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return (x / _scale(self._own, x)).square().sum(1)

    def features(self, x: Tensor) -> Tensor:
        """F with F F^T = k, with shape (n, d)."""
        return x / _scale(self._own, x)


class _LinearCovariance(Covariance):
    def __init__(self, z: Any, lengthscale: Any, factor: float) -> None:
        self._z, self._lengthscale, self._factor = z, lengthscale, factor

    def matrix(self) -> Any:
        return self._factor * (self._z @ self._z.T)

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:
        moment = self._factor * (weights.full() @ self._z)
        totals = (self._z * moment).sum(0)
        totals = totals if isinstance(totals, np.ndarray) else totals.cpu().numpy()
        out[:] = -2.0 * (totals if len(out) == len(totals) else totals.sum())
        if inputs is not None:
            inputs += 2.0 * moment / self._lengthscale
        return float(totals.sum())


class MeanKernel(Kernel):
    """phi(x).phi(z): the covariance of a mean with standard normal coefficients, for solvers without means."""

    def __init__(self, mean: Mean) -> None:
        """Sets the mean; there are no hyperparameters."""
        self.mean = mean
        super().__init__(np.empty(0), (), ())

    def forward(self, vector: Array, points: Points, factor: float = 1.0) -> Covariance:  # noqa: ARG002
        """See ``Kernel``; values only."""
        if points.at is not None:
            msg = "a mean kernel cannot be used for data with derivatives: give the process the mean itself"
            raise ValueError(msg)
        return _MeanCovariance(self.features(torch.as_tensor(points.u)), factor, isinstance(points.u, np.ndarray))

    def cross(self, points: Points, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.features(points.u) @ self.features(x).T

    def diagonal(self, x: Tensor) -> Tensor:
        """See ``Kernel``."""
        return self.features(x).square().sum(1)

    def features(self, x: Tensor) -> Tensor:
        """Basis functions of the mean, F with F F^T = k, with shape (n, p)."""
        return self.mean.basis(x)


class _MeanCovariance(Covariance):
    def __init__(self, phi: Tensor, factor: float, of_array: bool) -> None:
        self._phi, self._factor, self._of_array = phi, factor, of_array

    def matrix(self) -> Any:
        k = self._factor * (self._phi @ self._phi.T)
        return k.numpy() if self._of_array else k

    def contract(self, weights: Any, out: Array, inputs: Any = None) -> float:  # noqa: ARG002 - no hyperparameters
        if inputs is not None:
            msg = "a mean kernel has no derivatives with respect to its inputs"
            raise ValueError(msg)
        return float(weights.total(self.matrix()))
