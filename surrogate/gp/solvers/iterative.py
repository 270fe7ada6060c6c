"""The process given all points, by conjugate gradients: never stores the kernel matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from surrogate.gp.operators import TiledOperator
from surrogate.gp.scales import CALIBRATION, Observations, ScaledProcess, scale_and_size
from surrogate.gp.solvers.local import predict_locally
from surrogate.linalg.lowrank import accelerated_cholesky
from surrogate.linalg.operators import KernelOperator
from surrogate.linalg.preconditioners import NystromPreconditioner
from surrogate.linalg.solvers import Solve, refine

__all__ = ["PRECISIONS", "IterativePosterior", "iterative_posterior"]

PRECISIONS = ("auto", "float64", "float32", "float16")
"""Of the products with the kernel matrix inside the solver; residuals are always in float64."""

_LOCAL = 256  # neighbours that a variance is conditioned on
_FILL = 64  # neighbours from which the mean takes what the solver left
_ENTRIES = 2**31 - 1  # of a matrix that is factored: GPU libraries count them in 32 bits
# Times the mean variance that the preconditioner leaves: eta below which conjugate gradients take hundreds of products.
_SOLVABLE = 1e-3
# Times sqrt(n): noise, in units of s^2, above which products in float32 keep K + noise positive definite.
_SINGLE = 1e-6
_INNER = 1e-4  # least relative residual of a correction: below it float32 gains nothing


@dataclass(frozen=True, eq=False)
class IterativePosterior:
    """The process given all points: the mean by conjugate gradients, variances from the nearest neighbours.

    What the solver left of y, the rest, is interpolated from the 64 nearest neighbours and added to the mean. The sum
    is the exact mean where either the rest is zero or all points are neighbours, and it needs far fewer iterations,
    which are slowest with the short waves that neighbours know best: on 9,000 points of a robot arm's kinematics
    (kin40k) the error of the mean was 0.283 after 36 iterations and 0.116 with the rest, 0.1123 and 0.1107 after 76,
    where the exact mean has 0.1107.

    Attributes:
        process: Kernel and hyperparameters.
        data: All the points.
        weights: (k(X, X) + eta R)^-1 (y - constant), with shape (n,), up to the rest.
        constant: Constant of the mean.
        rest: y - constant - (k(X, X) + eta R) weights, with shape (n,).
        factor: Factor of the variance given the neighbours, from held-out errors; 1 leaves it as the bound that it is.
        residual: |rest| / |y - constant|.
        status: Report of the solver.
    """

    process: ScaledProcess
    data: Observations
    weights: Tensor
    constant: float
    rest: Tensor
    factor: float
    residual: float
    status: str

    def mean(self, new: Tensor) -> Tensor:
        """Posterior mean, with shape (b,): O(b (n d + 64^3))."""
        solved = self.process.operator(self.data.x).cross(new).matmul(self.weights)
        left = predict_locally(self.process, replace(self.data, y=self.rest), new, _FILL)[0]
        return self.constant + solved + left

    def variance(self, new: Tensor) -> Tensor:
        """Posterior variance of the function without noise, with shape (b,): O(b (n d + 256^3)).

        The variance given the 256 nearest neighbours, which is never below that given all points, times ``factor``.
        """
        local = predict_locally(self.process, self.data, new, _LOCAL)[1]
        return self.process.variance * self.factor * local


def iterative_posterior(
    process: ScaledProcess,
    data: Observations,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-2,
    rank: int | None = None,
    max_iterations: int = 300,
    precision: str = "auto",
) -> IterativePosterior:
    """The process given the points, by conjugate gradients with a randomly pivoted preconditioner.

    The system is first solved without some points, whose honest errors set the size of the variances; the solution
    with all points goes on from there. O(n^2 d) an iteration, O(n rank) memory. A residual above the tolerance is
    reported in the result, not raised.

    Products are in float32 where ``precision`` is "auto" and the noise allows it. Data with hardly any noise are then
    solved in float64, and with an eta of at least a thousandth of the mean variance that the preconditioner leaves,
    which the status tells: on 2,500 exact values of a smooth function in 8 dimensions the solver stood still in 600
    iterations with eta = 6e-13, and converged in 111 with 2e-7, its error 1.05 times the exact one.

    Args:
        process: Kernel and hyperparameters. A scale that it has is kept.
        data: In float64.
        generator: Draws the pivots and the points held out; on the device of the points.
        tolerance: Relative residual to stop at; neighbours make up for it in the mean.
        rank: Rank of the preconditioner; a sixteenth of the points, but 1,000 to 3,000, or 2^31 / n, where it is None.
        max_iterations: Most products with the kernel matrix, of each of the two solutions.
        precision: Of the products, one of ``PRECISIONS``; corrections make up for it in float64. Half precision runs on
            the tensor cores of a GPU; on a CPU, which has none, it is imitated and slower.

    Raises:
        LowPrecisionError: If the noise is too small for half precision.
    """
    n = len(data)
    columns = min(n, min(max(n // 16, 1000), 3000, _ENTRIES // n) if rank is None else rank)
    low = _low_precision(process, data, precision)
    factor = accelerated_cholesky(low, columns, generator=generator).factor
    prior = float(low.diag().mean())
    floor = max(_SOLVABLE * (prior - float(factor.square().sum()) / n), 10.0 * n * torch.finfo(torch.float64).eps)
    raised = f", eta raised to {floor:.1e} for it" if process.eta < floor else ""
    process = replace(process, eta=max(process.eta, floor))
    order = torch.randperm(n, generator=generator, device=data.x.device)
    held, kept = order[: min(CALIBRATION, n // 20)], order[min(CALIBRATION, n // 20) :]
    limits: dict[str, Any] = {"tolerance": tolerance, "max_iterations": max_iterations}
    part, first = _solved(process, data.rows(kept), low, factor[kept], None, **limits)
    local = predict_locally(process, data.rows(kept), data.x[held], _LOCAL)[1]
    errors, noise = data.y[held] - part.mean(data.x[held]), data.rows(held).noise(process.eta)
    scale, of_variance = scale_and_size(errors, local, noise, scale=process.scale)
    start = torch.zeros_like(data.y)
    start[kept] = part.weights
    whole, second = _solved(process, data, low, factor, start, **limits)
    word = "converged" if whole.residual <= tolerance else "stopped"
    status = (
        f"conjugate gradients {word} at a residual of {whole.residual:.1e}, for {tolerance:g}, after "
        f"{first.iterations} + {second.iterations} products, rank {factor.shape[1]}{raised}"
    )
    return replace(whole, process=replace(process, scale=scale), factor=of_variance, status=status)


def _low_precision(process: ScaledProcess, data: Observations, precision: str) -> KernelOperator | TiledOperator:
    """The kernel matrix in the precision of the inner solver."""
    operator = process.operator(data.x)
    if precision == "auto" and not isinstance(operator, KernelOperator):
        return operator  # whose points cannot be centred, so that float32 may lose what they differ by
    if precision == "auto":
        noise = data.noise(process.eta)
        least = float(noise.min()) if isinstance(noise, Tensor) else noise
        precision = "float32" if least > _SINGLE * len(data) ** 0.5 else "float64"
    if precision == "float16":
        return operator.to(torch.float32, precision="float16")
    return operator.to(getattr(torch, precision))


def _solved(
    process: ScaledProcess,
    data: Observations,
    like: KernelOperator | TiledOperator,
    factor: Tensor,
    start: Tensor | None,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[IterativePosterior, Solve]:
    """The posterior mean by products in the precision of ``like``; its variances are not yet calibrated."""
    constant, noise = data.level(process.eta), data.noise(process.eta)
    target, operator = data.y - constant, process.operator(data.x)
    solve = refine(
        operator,
        target,
        low=operator.to(like.dtype, precision=like.precision),
        noise=noise,
        preconditioner=NystromPreconditioner.of(factor, noise),
        start=start,
        tolerance=tolerance,
        inner_tolerance=_INNER,
        max_corrections=max_iterations,
        max_iterations=max_iterations,
    )
    rest = target - operator.matmul(solve.x) - noise * solve.x
    residual = float(solve.residual[0])
    return IterativePosterior(process, data, solve.x, constant, rest, 1.0, residual, ""), solve
