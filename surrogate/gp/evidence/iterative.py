"""The marginal likelihood by conjugate gradients, for matrices that are never stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.scales import Observations, as_tensor, scale_terms
from surrogate.linalg.logdet import (
    KnownTrace,
    LogDeterminant,
    TraceGradient,
    quadrature,
    trace_gradient,
    trace_slope,
)
from surrogate.linalg.lowrank import accelerated_cholesky, column_nystrom
from surrogate.linalg.operators import KernelOperator
from surrogate.linalg.preconditioners import NystromPreconditioner
from surrogate.linalg.solvers import Solve, cg
from surrogate.linalg.stationary import Stationary

__all__ = ["IterativeEvidence", "MarginalEstimate"]


@dataclass(frozen=True, eq=False)
class MarginalEstimate:
    """A marginal likelihood from conjugate gradients.

    Attributes:
        value: Negative log marginal likelihood in nats.
        gradient: Gradient with respect to theta, with shape (d + 1,).
        standard_error: Standard error of the value due to random probes, in nats.
        residual: Largest relative residual of the solves.
        iterations: Number of products with the kernel matrix.
    """

    value: float
    gradient: Array
    standard_error: float
    residual: float
    iterations: int


@dataclass(frozen=True, eq=False)
class IterativeEvidence:
    """The marginal likelihood by one run of conjugate gradients on the data together with random probes.

    Probes are drawn from N(0, P), where P is a low-rank preconditioner with fixed pivots, with the same normal numbers
    at every theta. Value and gradient are therefore smooth functions, as L-BFGS-B needs, and consistent up to the
    scatter given by ``standard_error``. In float64 the exact trace of P^-1 K removes most of that scatter, at the cost
    of one more product with as many columns as P has. y must be centred: subtract its mean.

    A value costs about 50 products with the kernel matrix, so on a CPU ``NeighbourEvidence`` is better for finding
    hyperparameters. This class gives the marginal likelihood itself if the matrix cannot be stored.

    Attributes:
        kernel: Correlation function.
        data: Values about zero.
        pivots: Pivots of the preconditioner, with shape (rank,).
        seed: Seed of the probes.
        noise: Mean noise variance if known, so that s^2 = noise / eta; None to profile s.
        probes: Number of probes.
        tolerance: Relative residual of the solves. At 1 the value is wrong by hundreds of nats; below 0.01 the scatter
            of the probes dominates (Maddox, Kapoor & Wilson 2021).
        max_iterations: Largest number of products with the kernel matrix.

    References:
        Gardner, Pleiss, Bindel, Weinberger & Wilson (2018), arXiv:1809.11165; Wenger et al. (2022), arXiv:2107.00243;
        Maddox, Kapoor & Wilson (2021), arXiv:2112.15246
    """

    kernel: Stationary
    data: Observations
    pivots: Tensor
    seed: int
    noise: float | None = None
    probes: int = 10
    tolerance: float = 0.01
    max_iterations: int = 500

    @classmethod
    def of(
        cls,
        kernel: Stationary,
        data: Observations,
        theta: Array,
        *,
        noise: float | None = None,
        rank: int = 100,
        seed: int = 0,
        probes: int = 10,
        tolerance: float = 0.01,
    ) -> IterativeEvidence:
        """The evidence with pivots drawn at ``theta``: O(n rank^2).

        Raises:
            ValueError: If ``tolerance`` is not in (0, 0.01].
        """
        if not 0.0 < tolerance <= 0.01:
            msg = f"tolerance must be in (0, 0.01], got {tolerance}: with a looser one the evidence is wrong by nats"
            raise ValueError(msg)
        generator = torch.Generator(device=data.x.device).manual_seed(seed)
        operator = KernelOperator.of(kernel, data.x, lengthscale=as_tensor(np.exp(theta[1:]), data.x))
        factor = accelerated_cholesky(operator, min(rank, len(data)), generator=generator)
        if factor.pivots is None:
            msg = "a preconditioner made of columns needs pivots"
            raise RuntimeError(msg)
        return cls(kernel, data, factor.pivots, seed, noise, probes, tolerance)

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Negative log marginal likelihood and its gradient, for ``maximise``."""
        estimate = self.estimate(theta)
        return estimate.value, estimate.gradient

    def estimate(self, theta: Array) -> MarginalEstimate:
        """Value and gradient with their errors: O(n^2 (d + probes)) for each iteration.

        The quadratic form is 2 y.a - a.K a, whose error is of second order in that of a = K^-1 y.
        """
        x, y, eta = self.data.x, self.data.y, math.exp(theta[0])
        operator = KernelOperator.of(self.kernel, x, lengthscale=as_tensor(np.exp(theta[1:]), x))
        noise = self.data.noise(eta)
        preconditioner = NystromPreconditioner.of(column_nystrom(operator, self.pivots), noise)
        generator = torch.Generator(device=x.device).manual_seed(self.seed + 1)
        z = preconditioner.sample(self.probes, generator=generator)
        solve = cg(
            operator,
            torch.cat([y[:, None], z], 1),
            noise=noise,
            preconditioner=preconditioner,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            min_iterations=10,
        )
        (log_determinant, error), trace = _log_determinant(operator, preconditioner, z, solve, noise)
        a = solve.x[:, 0]
        q = float(2.0 * (y @ a) - a @ (operator.matmul(a) + noise * a))
        s2, terms, by_scale = scale_terms(q, len(y), eta, self.noise)
        by_eta = 0.5 * (trace.noise - (a @ (noise * a)) / s2) + by_scale
        by_lengthscale = 0.5 * (trace.lengthscale - operator.gradient(a, a)[0] / s2)
        gradient = torch.cat([by_eta[None], by_lengthscale]).cpu().numpy()
        value = terms + 0.5 * log_determinant
        return MarginalEstimate(value, gradient, 0.5 * error, float(solve.residual.max()), solve.iterations)


def _log_determinant(
    operator: KernelOperator, preconditioner: NystromPreconditioner, z: Tensor, solve: Solve, noise: float | Tensor
) -> tuple[LogDeterminant, TraceGradient]:
    """log|K| and its derivatives from the probes, the columns after the first; in float64 with the exact trace."""
    n, probed = len(z), slice(1, None)
    known, slope = None, 0.0
    if operator.dtype == torch.float64:
        known = KnownTrace.of(operator, noise=noise, preconditioner=preconditioner)
        slope = trace_slope(solve, n, columns=probed)
    trace = None if known is None else known.value
    return (
        quadrature(solve, n, preconditioner=preconditioner, columns=probed, trace=trace),
        trace_gradient(
            operator, solve.x[:, 1:], z, noise=noise, preconditioner=preconditioner, known=known, slope=slope
        ),
    )
