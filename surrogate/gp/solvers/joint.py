"""Posteriors given values and derivatives at many points, by conjugate gradients without a stored covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.operators import FeatureSum
from surrogate.gp.process import Data, Process
from surrogate.linalg.lowrank import accelerated_cholesky
from surrogate.linalg.preconditioners import NystromPreconditioner
from surrogate.linalg.solvers import Solve, cg

__all__ = ["JointConjugateGradients", "JointPosterior"]

_LEAST_NOISE = 1e-6  # in units of the residual's variance; with less, rounding prevents convergence
_ENTRIES = 4_000_000  # entries of the covariance with new points held in memory at once


@dataclass(frozen=True, eq=False)
class JointPosterior:
    """The posterior of a process given values and derivatives, by conjugate gradients.

    Attributes:
        process: The process.
        data: All values and derivatives.
        operator: Their prior covariance in units of the squared output scale, without noise.
        preconditioner: Preconditioner of the covariance with noise.
        noise: Noise variance in the same units.
        weights: (K + noise)^-1 y, with shape (n + m d,).
        scale: Output scale.
        solve: Report of the solver.
        solver: Settings of the solver, which also apply to variances.
    """

    process: Process
    data: Data
    operator: FeatureSum
    preconditioner: NystromPreconditioner
    noise: float
    weights: Tensor
    scale: float
    solve: Solve
    solver: JointConjugateGradients

    @property
    def iterations(self) -> int:
        """Number of products with the covariance."""
        return self.solve.iterations

    @property
    def residual(self) -> float:
        """Relative residual of the weights."""
        return float(self.solve.residual.max())

    @property
    def status(self) -> str:
        """A description of how the linear system was solved."""
        return f"conjugate gradients: {self.solve.status}, residual {self.residual:.1e}"

    def _blocks(self, u: Array) -> list[Tensor]:
        x = torch.as_tensor(u, device=self.operator.device)
        return list(x.split(max(1, _ENTRIES // self.operator.shape[0])))

    def mean(self, u: Array) -> Array:
        """Posterior mean at u with shape (m, d), with shape (m,); O(m n d)."""
        function = self.process.kernel.interpolant(self.data.points, self.weights)
        coefficients = self.operator.phi.T @ self.weights
        parts = [function(x) + self.process.mean.basis(x) @ coefficients for x in self._blocks(u)]
        return torch.cat(parts).cpu().numpy()

    def variance(self, u: Array) -> Array:
        """Posterior variance at u with shape (m, d), with shape (m,); solves a linear system for each point."""
        return self.variance_and_solve(u)[0]

    def variance_and_solve(self, u: Array) -> tuple[Array, Solve]:
        """Posterior variance at u, with shape (m,), and the solver's report, which shows any failure."""
        kernel, worst = self.process.kernel, self.solve
        parts = []
        for x in self._blocks(u):
            basis = self.process.mean.basis(x)
            cross = kernel.cross(self.data.points, x) + self.operator.phi @ basis.T
            solve = self.solver.solve(self.operator, cross, self.noise, self.preconditioner)
            worst = worst if solve.converged else solve
            inner = cross * solve.x
            parts.append(kernel.diagonal(x) + basis.square().sum(1) - inner.sum(0))
        return self.scale**2 * torch.cat(parts).clamp(min=1e-14).cpu().numpy(), worst


@dataclass(frozen=True)
class JointConjugateGradients:
    """Values and derivatives by conjugate gradients, for ``Process.condition``.

    The preconditioner combines a randomly pivoted Cholesky factor of the residual with the basis functions of the mean,
    whose part of the covariance is known exactly and has the largest eigenvalues.

    Attributes:
        rank: Columns of the factor.
        tolerance: Relative residual at which to stop.
        max_iterations: Largest number of products with the covariance.
        seed: Seed of the pivots.
        scale: Output scale if the process profiles it, such as that of a fit to fewer points; by default that of
            maximum likelihood.

    References:
        Blucher, Mueller & Chmiela (2023), doi:10.1021/acs.jctc.2c01304, who use forces without values and without a
        trend.
    """

    rank: int = 500
    tolerance: float = 1e-4
    max_iterations: int = 1000
    seed: int = 0
    scale: float | None = None

    def condition(self, process: Process, data: Data) -> JointPosterior:
        """The posterior; a residual above the tolerance is reported in it, not raised.

        Raises:
            ValueError: If the noise differs between data, or the kernel cannot take derivatives.
        """
        residual = process.kernel.operator(data.points)
        log_scale, _, vector = process.split(process.vector())
        variances = process.noise.forward(vector, data)
        noise = variances.relative * torch.ones_like(data.y)
        if variances.absolute is not None:
            noise = noise + variances.absolute * float(np.exp(-2.0 * (log_scale or 0.0)))
        if not bool((noise == noise[0]).all()):
            msg = "the noise must be the same for all values and derivatives: use a Nugget or Common noise"
            raise ValueError(msg)
        least = _LEAST_NOISE * float(process.kernel.diagonal(data.u[:1])[0])
        eta, phi = max(float(noise[0]), least), data.basis(process.mean)
        generator = torch.Generator(data.u.device).manual_seed(self.seed)
        factor = accelerated_cholesky(residual, min(self.rank, residual.shape[0]), generator=generator).factor
        preconditioner = NystromPreconditioner.of(torch.cat([factor, phi], 1), eta)
        operator = FeatureSum(residual, phi)
        solve = self.solve(operator, data.y, eta, preconditioner)
        scale = self.scale if log_scale is None else float(np.exp(log_scale))
        if scale is None:
            scale = float((data.y @ solve.x / len(data.y)).clamp(min=1e-300).sqrt())
        return JointPosterior(process, data, operator, preconditioner, eta, solve.x, scale, solve, self)

    def solve(self, operator: FeatureSum, y: Tensor, noise: float, preconditioner: NystromPreconditioner) -> Solve:
        """The solver's report on (K + noise) w = y, for y with shape (N,) or (N, k)."""
        return cg(
            operator,
            y,
            noise=noise,
            preconditioner=preconditioner,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
