"""Solvers of this package for models of gpytorch: fits, predictions and preconditioners of an ``ExactGP``.

    fit(model, likelihood)                             # hyperparameters by L-BFGS-B with rescue, put into the model
    mean, variance, residual = predict(model, likelihood, x)   # by Cholesky, or conjugate gradients and their residual
    likelihood = NystromLikelihood(rank=300)           # or gpytorch's own training, with a better preconditioner

The model is one with a constant or zero mean and a squared exponential or Matern kernel, under a ``ScaleKernel`` or
not, with one lengthscale or one a dimension, and a ``GaussianLikelihood``.
"""

from __future__ import annotations

import math
from typing import Any

import gpytorch
import torch
from linear_operator.operators import (  # type: ignore[import-untyped]
    AddedDiagLinearOperator,
    DiagLinearOperator,
    LinearOperator,
    PsdSumLinearOperator,
    RootLinearOperator,
)
from torch import Tensor

from surrogate.linalg.lowrank import accelerated_cholesky
from surrogate.linalg.operators import DenseOperator
from surrogate.linalg.preconditioners import NystromPreconditioner
from surrogate.linalg.solvers import Cholesky, cg
from surrogate.linalg.stationary import CORRELATIONS
from surrogate.models.marginal import Fit, ScalePrior, exact_marginal, maximise
from surrogate.models.neighbours import local_prediction
from surrogate.models.regression import Process

__all__ = ["NystromLikelihood", "fit", "predict", "process_of"]

_MATERN = {0.5: "matern12", 1.5: "matern32", 2.5: "matern52"}
_NEIGHBOURS = 256


def process_of(model: Any, likelihood: Any) -> Process:
    """Kernel, lengthscales, scale and noise of a gpytorch model, with the lengthscales in units of its inputs.

    Raises:
        TypeError: If the model is not of the kind that this module knows.
    """
    outer = model.covar_module
    inner = outer.base_kernel if isinstance(outer, gpytorch.kernels.ScaleKernel) else outer
    if isinstance(inner, gpytorch.kernels.RBFKernel):
        name = "rbf"
    elif isinstance(inner, gpytorch.kernels.MaternKernel):
        name = _MATERN[float(inner.nu)]
    else:
        msg = f"the kernel must be RBFKernel or MaternKernel, in a ScaleKernel or not, got {type(inner).__name__}"
        raise TypeError(msg)
    if not isinstance(likelihood, gpytorch.likelihoods.GaussianLikelihood):
        msg = f"the likelihood must be a GaussianLikelihood, got {type(likelihood).__name__}"
        raise TypeError(msg)
    if not isinstance(model.mean_module, (gpytorch.means.ConstantMean, gpytorch.means.ZeroMean)):
        msg = f"the mean must be ConstantMean or ZeroMean, got {type(model.mean_module).__name__}"
        raise TypeError(msg)
    variance = float(outer.outputscale.detach()) if outer is not inner else 1.0
    d = model.train_inputs[0].shape[-1]
    lengthscale = inner.lengthscale.detach().double().reshape(-1).expand(d).cpu().numpy().copy()
    return Process(name, float(likelihood.noise.detach()) / variance, lengthscale, math.sqrt(variance), "gpytorch")


def _data(model: Any) -> tuple[Tensor, Tensor, float]:
    x = model.train_inputs[0].detach().double()
    constant = getattr(model.mean_module, "constant", None)
    return x, model.train_targets.detach().double(), 0.0 if constant is None else float(constant.detach())


def fit(model: Any, likelihood: Any, *, max_evaluations: int = 60) -> Fit:
    """Puts the hyperparameters of the most marginal likelihood into a model, by L-BFGS-B with rescue: O(n^3) each.

    The constant becomes the mean of the targets. One lengthscale stays one: its gradient is summed over dimensions.
    Adam with 100 steps, the habit, ends far from the maximum where data have little noise.

    Raises:
        TypeError: As ``process_of``, or if the model has no ScaleKernel.
        FloatingPointError: If the kernel matrix cannot be factored with any noise.
    """
    if not isinstance(model.covar_module, gpytorch.kernels.ScaleKernel):
        msg = f"fit needs a ScaleKernel, whose output scale it finds, got {type(model.covar_module).__name__}"
        raise TypeError(msg)
    process = process_of(model, likelihood)
    kernel, (x, y, _) = CORRELATIONS[process.kernel], _data(model)
    constant = float(y.mean())
    spread = (x.max(0).values - x.min(0).values).clamp(min=1e-12) / 4.0
    prior = ScalePrior()
    found = maximise(
        lambda theta: exact_marginal(kernel, x / spread, y - constant, theta),
        prior.centre(x.shape[1]),
        prior=prior,
        max_evaluations=max_evaluations,
    )
    lengthscale = torch.as_tensor(found.lengthscale) * spread.cpu()
    base = model.covar_module.base_kernel
    shape = base.lengthscale.shape
    value = (
        lengthscale.reshape(shape) if base.lengthscale.numel() == len(lengthscale) else lengthscale.log().mean().exp()
    )
    base.lengthscale = value.to(base.lengthscale)
    operator = Process(process.kernel, found.eta, lengthscale.numpy(), None, "").operator(x)
    rest = y - constant
    variance = float(rest @ Cholesky.of(operator, found.eta).solve(rest)) / len(y)
    model.covar_module.outputscale = variance
    likelihood.noise = max(variance * found.eta, 1.01e-4)  # gpytorch's own lower bound
    if hasattr(model.mean_module, "constant"):
        model.mean_module.initialize(constant=constant)
    return found


def predict(
    model: Any, likelihood: Any, x: Tensor, *, most_exact: int = 10_000, rank: int = 1000, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor, float]:
    """Mean and variance of the function at x, without noise, and the relative residual of the solution behind the mean.

    Up to ``most_exact`` points by a Cholesky factor in float64. Beyond, the mean by preconditioned conjugate gradients
    and the variance given the 256 nearest neighbours, which is never below that given all points.

    Args:
        model: An ``ExactGP`` with its training data.
        likelihood: Its likelihood.
        x: With shape (b, d).
        most_exact: Points up to which the matrix is stored.
        rank: Of the preconditioner.
        tolerance: Relative residual to stop at.

    Raises:
        TypeError: As ``process_of``.
    """
    process, (points, y, constant) = process_of(model, likelihood), _data(model)
    new = x.detach().double()
    operator, rest = process.operator(points), y - constant
    if len(y) <= most_exact:
        factor = Cholesky.of(operator, process.eta)
        cross = operator.cross(new).dense()
        weights = factor.solve(rest)
        half = torch.linalg.solve_triangular(factor.triangle, cross.T, upper=False)
        residual = float((operator.matmul(weights) + process.eta * weights - rest).norm() / rest.norm())
        return constant + cross @ weights, process.variance * (1.0 - half.square().sum(0)).clamp(min=0.0), residual
    generator = torch.Generator(device=points.device).manual_seed(0)
    preconditioner = NystromPreconditioner.build(operator, process.eta, rank=min(rank, len(y)), generator=generator)
    solve = cg(operator, rest, noise=process.eta, preconditioner=preconditioner, tolerance=tolerance)
    scale = torch.as_tensor(process.lengthscale, dtype=points.dtype, device=points.device)
    _, local = local_prediction(
        CORRELATIONS[process.kernel],
        points / scale,
        rest,
        new / scale,
        eta=process.eta,
        m=min(_NEIGHBOURS, len(y)),
    )
    mean = constant + operator.cross(new).matmul(solve.x)
    return mean, process.variance * local, float(solve.residual.max())


class _Preconditioned(AddedDiagLinearOperator):
    """Kernel plus noise that keeps its preconditioner when the kernel is evaluated, where gpytorch's own drops it."""

    def evaluate_kernel(self) -> LinearOperator:
        """The same with the kernel as a matrix."""
        done = super().evaluate_kernel()
        return type(self)(done._linear_op, done._diag_tensor, preconditioner_override=self.preconditioner_override)


class NystromLikelihood(gpytorch.likelihoods.GaussianLikelihood):
    """A Gaussian likelihood whose covariance brings a randomly pivoted preconditioner to gpytorch's own solvers.

    gpytorch preconditions with 15 greedily chosen columns from 2,000 points on. Columns drawn by randomly pivoted
    Cholesky, more of them and at any size cut iterations and the scatter of the log-determinant; set a tolerance of
    0.01 with ``gpytorch.settings.cg_tolerance`` as well, whose default of 1 is off by hundreds of nats.

    Args:
        rank: Columns of the preconditioner.
        seed: Of the pivots; they are drawn anew at each value of the hyperparameters from the same numbers.
    """

    def __init__(self, *, rank: int = 300, seed: int = 0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rank = rank
        self.seed = seed

    def marginal(self, function_dist: Any, *params: Any, **kwargs: Any) -> Any:
        """As in gpytorch, with a covariance that knows its preconditioner."""
        out = super().marginal(function_dist, *params, **kwargs)
        covariance = out.lazy_covariance_matrix
        if not isinstance(covariance, AddedDiagLinearOperator):
            return out
        kernel, noise = covariance._linear_op, covariance._diag_tensor
        ready = _Preconditioned(kernel, noise, preconditioner_override=self._preconditioner)
        return type(out)(out.mean, ready)

    def _preconditioner(self, covariance: Any) -> tuple[Any, LinearOperator, Tensor]:
        """P^-1 as a function, P as an operator through which gradients pass, and log|P|."""
        kernel, noise = covariance._linear_op, covariance._diag_tensor._diagonal()
        generator = torch.Generator(device=noise.device).manual_seed(self.seed)
        with torch.no_grad():
            dense = DenseOperator(kernel.to_dense().double())
            drawn = accelerated_cholesky(dense, min(self.rank, len(noise)), generator=generator).pivots
        pivots = torch.arange(0) if drawn is None else drawn
        columns = kernel.to_dense()[:, pivots]
        small = columns[pivots]
        jitter = 10.0 * len(pivots) * torch.finfo(small.dtype).eps * small.diagonal().mean()
        lower = torch.linalg.cholesky(small + jitter * torch.eye(len(pivots), dtype=small.dtype, device=small.device))
        factor = torch.linalg.solve_triangular(lower, columns.T, upper=False).T
        with torch.no_grad():
            ready = NystromPreconditioner.of(factor.detach(), noise.detach())
        g = factor / noise.sqrt()[:, None]
        inner = torch.eye(g.shape[1], dtype=g.dtype, device=g.device) + g.T @ g
        logdet = torch.logdet(inner) + noise.log().sum()
        return ready.solve, PsdSumLinearOperator(RootLinearOperator(factor), DiagLinearOperator(noise)), logdet
