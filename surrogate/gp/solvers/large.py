"""Solvers for many points, for ``Process.condition``, which do not store the covariance.

    posterior = Process(Scale(2.0) * Matern52([1.0, 3.0]), noise=Nugget(0.01)).condition(data, ConjugateGradients())

They support any kernel, any noise that is positive at every point, and any mean; the posteriors take tensors. Basis
functions exist for sums of scaled stationary, linear and constant kernels of all or some columns. A stationary kernel
of all coordinates is the fastest. A profiled output scale is estimated from the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.gp.bases import basis_of
from surrogate.gp.kernels import STATIONARY, MeanKernel, Scaled, StationaryKernel
from surrogate.gp.means import Polynomial, Zero
from surrogate.gp.process import Data, Process
from surrogate.gp.scales import CALIBRATION, Observations, ScaledProcess
from surrogate.gp.solvers.basis import BasisPosterior, basis_posterior
from surrogate.gp.solvers.iterative import IterativePosterior, iterative_posterior
from surrogate.gp.solvers.local import LocalPosterior, local_posterior
from surrogate.gp.solvers.projected import ComputationAware, actions_of, computation_aware
from surrogate.rng import torch_generator

__all__ = ["BasisFunctions", "ConjugateGradients", "Local", "Projections", "in_units_of_the_scale"]


def in_units_of_the_scale(process: Process, data: Data) -> tuple[ScaledProcess, Observations]:
    """The process and data in the form of ``surrogate.gp.scales``.

    Raises:
        ValueError: If the data have derivatives or several outputs, or some have no noise.
    """
    if data.at is not None or data.y.ndim != 1:
        msg = "the data must be values of one output, got derivatives or several outputs: use JointConjugateGradients"
        raise ValueError(msg)
    kernel, variance = process.kernel, 1.0
    constant = 0.0 if isinstance(process.mean, Zero) else None
    if not isinstance(process.mean, Zero) and process.mean != Polynomial("constant"):
        kernel, constant = kernel + MeanKernel(process.mean), 0.0
    elif isinstance(kernel, Scaled) and isinstance(kernel.parts[0], StationaryKernel):
        variance, kernel = kernel.variance, kernel.parts[0]
    if isinstance(kernel, StationaryKernel):  # expanded to a lengthscale for each coordinate
        lengthscale = np.broadcast_to(kernel.lengthscale, (data.u.shape[1],))
        kernel = STATIONARY[kernel.function.name](lengthscale).with_vector(np.log(lengthscale))
    log_scale, _, of_noise = process.split(process.vector())
    noise = _relative_variances(process, data, of_noise, log_scale) / variance
    if not bool((noise > 0.0).all()):
        msg = "the noise must be positive for every point: add a Nugget"
        raise ValueError(msg)
    eta = float(noise.mean())
    relative = None if bool((noise == noise[0]).all()) else noise / eta
    scale = None if log_scale is None else math.exp(log_scale) * math.sqrt(variance)
    return ScaledProcess(kernel, eta, scale, "given"), Observations(data.u, data.y, relative, constant)


def _relative_variances(process: Process, data: Data, vector: np.ndarray, log_scale: float | None) -> Tensor:
    """Noise variances in units of the squared output scale, with shape (n,)."""
    variances = process.noise.forward(vector, data)
    relative = variances.relative * torch.ones_like(data.y)
    if variances.absolute is None:
        return relative
    return relative + variances.absolute * (1.0 if log_scale is None else math.exp(-2.0 * log_scale))


def _calibration(n: int, seed: int, like: Tensor) -> Tensor:
    return torch.randperm(n, generator=torch_generator(seed, "calibration")).to(like.device)[:CALIBRATION]


@dataclass(frozen=True)
class ConjugateGradients:
    """All points, by preconditioned conjugate gradients; see ``iterative_posterior``.

    Attributes:
        rank: Columns of the preconditioner; None for a sixteenth of the points, within 1,000 to 3,000.
        tolerance: Relative residual at which to stop.
        max_iterations: Largest number of products with the kernel matrix in each of two solutions.
        precision: Precision of the products: "auto", "float64", "float32" or "float16".
        seed: Seed of the pivots and of the held-out points.
    """

    rank: int | None = None
    tolerance: float = 1e-2
    max_iterations: int = 300
    precision: str = "auto"
    seed: int = 0

    def condition(self, process: Process, data: Data) -> IterativePosterior:
        """The posterior of a process given data."""
        scaled, points = in_units_of_the_scale(process, data)
        return iterative_posterior(
            scaled,
            points,
            generator=torch_generator(self.seed, "pivots", device=data.u.device),
            rank=self.rank,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            precision=self.precision,
        )


@dataclass(frozen=True)
class Local:
    """The nearest neighbours of each new point; see ``local_posterior``.

    Attributes:
        neighbours: Number of neighbours.
        seed: Seed of the points whose errors calibrate the variances.
    """

    neighbours: int = 256
    seed: int = 0

    def condition(self, process: Process, data: Data) -> LocalPosterior:
        """The posterior of a process given data."""
        scaled, points = in_units_of_the_scale(process, data)
        calibration = _calibration(len(points), self.seed, data.y)
        return local_posterior(scaled, points, neighbours=self.neighbours, calibration=calibration)


@dataclass(frozen=True)
class Projections:
    """Projections of the data, with a variance that includes the error of the projection; see ``computation_aware``.

    Attributes:
        size: Number of projections; at most the number of points.
        policy: One of ``POLICIES``.
        seed: Seed of random pivots.
    """

    size: int = 500
    policy: str = "inducing"
    seed: int = 0

    def condition(self, process: Process, data: Data) -> ComputationAware:
        """The posterior of a process given data."""
        scaled, points = in_units_of_the_scale(process, data)
        generator = torch_generator(self.seed, "pivots", device=data.u.device)
        actions = actions_of(self.policy, scaled, points, min(self.size, len(points)), generator=generator)
        return computation_aware(scaled, points, actions)


@dataclass(frozen=True)
class BasisFunctions:
    """Basis functions that approximate the kernel; see ``basis_of`` and ``basis_posterior``.

    Attributes:
        size: Number of functions.
        seed: Seed of random frequencies.
    """

    size: int = 1000
    seed: int = 0

    def condition(self, process: Process, data: Data) -> BasisPosterior:
        """The posterior.

        Raises:
            TypeError: If there is no basis for the kernel, such as a product.
        """
        scaled, points = in_units_of_the_scale(process, data)
        basis, words = basis_of(scaled.kernel, data.u, self.size, seed=self.seed)
        return basis_posterior(scaled, points, basis, words)
