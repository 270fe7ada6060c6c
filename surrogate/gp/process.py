"""A Gaussian process as a value, and the data on which it is conditioned.

    y = s (phi(u).b + g(u)) + noise,    b ~ N(0, I),    g ~ GP(0, kernel),

with basis functions phi of the mean and an output scale s. If s is None it is profiled: it takes the value of maximum
likelihood, s^2 = y.K^-1 y / n, and all noise is in units of it.

    posterior = Process(Scale(0.5) * Matern52([1.0, 2.0]), mean=Polynomial("quadratic")).condition(Data.of(u, y))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array, Indices
from surrogate.gp.kernels import Kernel, Points
from surrogate.gp.means import Mean, Zero
from surrogate.gp.noise import Noise, Nugget
from surrogate.gp.optimise import rescue
from surrogate.gp.parameters import LogNormal, Parametric, logarithms
from surrogate.gp.solvers.lapack import MOST_POINTS, FewPoints

if TYPE_CHECKING:
    from surrogate.gp.solvers.cholesky import CholeskyPosterior

__all__ = ["Data", "Process", "Solver"]

SCALE_PRIOR = LogNormal(low=1e-12, high=1e12)
P = TypeVar("P", covariant=True)


class Solver(Protocol[P]):
    """Interface of solvers, which condition a process on data."""

    def condition(self, process: Process, data: Data) -> P:
        """The posterior.

        Raises:
            torch.linalg.LinAlgError: If the covariance is not positive definite in floating point.
        """


@dataclass(frozen=True, eq=False)
class Data:
    """Data of a process: points with values, derivatives at some of them, and quantities on which noise depends.

    Attributes:
        u: Inputs, with shape (n, d).
        y: The values followed by the derivatives, point by point, with shape (n + m d,); for several outputs with a
            common kernel, with shape (n + m d, q).
        depth: For each row of y, with shape (n + m d,), its depth below the relevant region, 0 inside it.
        noise: Known sd of each row, in units of y, 0 if exact.
        at: Points whose derivatives are known, with shape (m,); None if there are none.
        unit: Unit of common noise for each row, in units of y; None if it is one.
    """

    u: Tensor
    y: Tensor
    depth: Tensor
    noise: Tensor
    at: Tensor | None = None
    unit: Tensor | None = None

    @classmethod
    def of(
        cls,
        u: Array,
        y: Array,
        *,
        depth: Array | None = None,
        noise: Array | None = None,
        unit: Array | None = None,
        slope: Array | None = None,
        device: torch.device | str = "cpu",
    ) -> Data:
        """Data from numpy arrays; depths and noise are zero by default.

        Args:
            u: Inputs, with shape (n, d).
            y: Values, with shape (n,), or (n, q) for q outputs without derivatives.
            depth: Depths of the points below the relevant region, with shape (n,).
            noise: Known sds of the values, with shape (n,).
            unit: Factors of the sd of common noise at each point, in units of y, with shape (n,); None if they are one.
            slope: Derivatives of y with respect to u, with shape (n, d); nan where unknown.
            device: Device of the tensors.
        """
        n = len(y)
        known = np.empty(0, dtype=np.int64) if slope is None else np.flatnonzero(np.isfinite(slope).all(1))
        columns = [np.zeros(n) if depth is None else depth, np.zeros(n) if noise is None else noise]
        columns += [] if unit is None else [unit]
        if slope is not None and len(known):
            y = np.concatenate([y, slope[known].ravel()])
            columns = [np.concatenate([c, np.repeat(c[known], u.shape[1])]) for c in columns]
        tensors = [torch.as_tensor(np.asarray(p, dtype=np.float64), device=device) for p in (u, y, *columns)]
        at = torch.as_tensor(known, device=device) if len(known) else None
        return cls(tensors[0], tensors[1], tensors[2], tensors[3], at, None if unit is None else tensors[4])

    @property
    def points(self) -> Points:
        """The points of the rows of y."""
        return Points(self.u, self.at)

    @cached_property
    def noise_variance(self) -> Tensor:
        """Known noise variances of the rows of y, with shape (n + m d,)."""
        return self.noise.square()

    @cached_property
    def unit_variance(self) -> Tensor:
        """Squares of the units of common noise, with shape (n + m d,)."""
        return torch.ones_like(self.noise) if self.unit is None else self.unit.square()

    def basis(self, mean: Mean) -> Tensor:
        """Basis functions of the mean in the rows of y, with shape (n + m d, p)."""
        phi = mean.basis(self.u)
        if self.at is None:
            return phi
        return torch.cat([phi, mean.slopes(self.u[self.at]).reshape(-1, phi.shape[1])])

    def subset(self, rows: Indices) -> Data:
        """Some of the points, with their derivatives."""
        index, at = torch.as_tensor(rows, device=self.u.device), None
        of_y = index
        if self.at is not None:
            n, d = self.u.shape
            place = torch.full((n,), -1, device=self.u.device)
            place[self.at] = torch.arange(len(self.at), device=self.u.device)
            at = torch.nonzero(place[index] >= 0)[:, 0]
            slopes = n + d * place[index[at]][:, None] + torch.arange(d, device=self.u.device)
            of_y = torch.cat([index, slopes.reshape(-1)])
        unit = None if self.unit is None else self.unit[of_y]
        return Data(self.u[index], self.y[of_y], self.depth[of_y], self.noise[of_y], at, unit)

    def begins_with(self, other: Data) -> bool:
        """Whether the other data are the first points of these data; the result is cached."""
        if other not in self._beginnings:
            n = len(other.y)
            same = n <= len(self.y) and torch.equal(self.u[:n], other.u) and torch.equal(self.y[:n], other.y)
            self._beginnings[other] = same
        return self._beginnings[other]

    @cached_property
    def _beginnings(self) -> dict[Data, bool]:
        return {}

    @cached_property
    def is_small(self) -> bool:
        """Whether numpy is faster than torch: few points, one output, on the CPU, without derivatives."""
        plain = self.at is None and self.y.ndim == 1 and self.u.device.type == "cpu" and self.u.dtype == torch.float64
        return plain and len(self.u) <= MOST_POINTS

    def few(self, mean: Mean) -> FewPoints:
        """The same data for ``surrogate.gp.solvers.lapack``, cached for each mean."""
        if mean not in self._few:
            sides = np.asfortranarray(torch.cat([self.basis(mean), self.y[:, None]], 1).numpy())
            columns = (self.depth, self.noise_variance, self.unit_variance)
            self._few[mean] = FewPoints(self.u.numpy(), sides, *(column.numpy() for column in columns))
        return self._few[mean]

    @cached_property
    def _few(self) -> dict[Mean, FewPoints]:
        return {}


class Process(Parametric):
    """A Gaussian process before data: kernel and mean, multiplied by an output scale, and noise.

    Its vector has the log scale, unless that is profiled, then the entries of the kernel and of the noise.

    Attributes:
        kernel: Covariance of the residual, in units of the squared output scale.
        mean: Basis functions, in units of the output scale.
        noise: Independent variances.
    """

    own_names = ("scale",)

    def __init__(
        self,
        kernel: Kernel,
        mean: Mean | None = None,
        noise: Noise | None = None,
        *,
        scale: float | None = 1.0,
        prior: LogNormal = SCALE_PRIOR,
    ) -> None:
        """Sets the parts of a process before data.

        Args:
            kernel: Covariance function.
            mean: Mean; by default zero.
            noise: Noise; by default a nugget of 1e-6. It bounds the condition number of the covariance by about n k(0)
                / 1e-6, and its sd of 1e-3 times the scale is negligible in a fit.
            scale: Output scale; None to profile it.
            prior: Prior of the output scale.
        """
        own = np.empty(0) if scale is None else logarithms("scale", scale)
        super().__init__(own, (kernel, Nugget(1e-6) if noise is None else noise), (prior,) * len(own))
        self.mean: Mean = Zero() if mean is None else mean

    @property
    def kernel(self) -> Kernel:
        """Covariance function of the residual."""
        kernel = self.parts[0]
        if not isinstance(kernel, Kernel):
            msg = f"the first argument of Process must be a kernel, got {type(kernel).__name__}"
            raise TypeError(msg)
        return kernel

    @property
    def noise(self) -> Noise:
        """Independent variances of the data."""
        noise = self.parts[1]
        if not isinstance(noise, Noise):
            msg = f"the second argument of Process must be a noise, got {type(noise).__name__}"
            raise TypeError(msg)
        return noise

    @property
    def is_profiled(self) -> bool:
        """Whether the output scale is profiled, that is, set by the data."""
        return len(self._own) == 0

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each entry of the vector."""
        return (() if self.is_profiled else self.own_names) + self.kernel.names + self.noise.names

    def split(self, vector: Array) -> tuple[float | None, Array, Array]:
        """Logarithm of the scale (None if profiled), hyperparameters of the kernel, and those of the noise."""
        own, kernel = len(self._own), self.parts[0].size
        return float(vector[0]) if own else None, vector[own : own + kernel], vector[own + kernel :]

    def raised(self, factor: float) -> Process:
        """The same process with the nugget multiplied by a factor."""
        process = Process(self.kernel, self.mean, self.noise.raised(factor), scale=None)
        process._own, process._priors = self._own, self._priors
        return process

    def condition(self, data: Data, solver: Solver[P] | None = None) -> P | CholeskyPosterior:
        """The posterior given data.

        If the covariance cannot be factored the nugget is raised tenfold until it can, which the posterior's status
        reports.

        Args:
            data: Values and derivatives.
            solver: Solver; by default a Cholesky factor.

        Raises:
            FloatingPointError: If the covariance cannot be factored with any nugget.
        """
        from surrogate.gp.solvers.cholesky import Cholesky

        way: Solver[P] | Solver[CholeskyPosterior] = Cholesky() if solver is None else solver
        return rescue(lambda factor: way.condition(self.raised(factor) if factor > 1.0 else self, data)).value
