"""This package's solvers for gpytorch: fits, predictions and a preconditioner for an ``ExactGP``.

    fit(model, likelihood)                                     # sets the hyperparameters of the model
    mean, variance, residual = predict(model, likelihood, x)   # by Cholesky or conjugate gradients
    likelihood = NystromLikelihood(rank=300)                   # for gpytorch's own training

``predict`` takes any model of one output: mean and covariance are those of its ``forward``. ``fit`` needs a constant or
zero mean, a squared exponential or Matern kernel in a ``ScaleKernel``, with one lengthscale or one per dimension, and a
``GaussianLikelihood``. Train other models by gpytorch, large ones with ``NystromLikelihood``.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
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

from surrogate.gp.evidence.exact import ExactEvidence
from surrogate.gp.operators import PairOperator
from surrogate.gp.scales import Observations, ScaledProcess, ScaleFit, ScalePrior, maximise
from surrogate.gp.solvers.local import half_solve
from surrogate.linalg.lowrank import accelerated_cholesky
from surrogate.linalg.operators import DenseOperator, KernelOperator
from surrogate.linalg.preconditioners import NystromPreconditioner
from surrogate.linalg.solvers import Cholesky, cg_growing

__all__ = ["ModelOperator", "NystromLikelihood", "fit", "operator_of", "predict", "process_of"]

_MATERN = {0.5: "matern12", 1.5: "matern32", 2.5: "matern52"}
_NEIGHBOURS = 256
_BLOCK = 4_000_000  # covariances computed at a time: 32 MB in float64


def process_of(model: Any, likelihood: Any) -> ScaledProcess:
    """Kernel, lengthscales (in units of the inputs), scale and noise of a gpytorch model.

    Raises:
        TypeError: If ``fit`` does not support the model's kernel, likelihood or mean.
    """
    outer: Any = getattr(model, "covar_module", None)
    inner = outer.base_kernel if isinstance(outer, gpytorch.kernels.ScaleKernel) else outer
    if isinstance(inner, gpytorch.kernels.RBFKernel):
        name = "rbf"
    elif isinstance(inner, gpytorch.kernels.MaternKernel):
        name = _MATERN[float(inner.nu)]
    else:
        msg = f"the kernel must be RBFKernel or MaternKernel, in a ScaleKernel or not, got {type(inner).__name__}"
        raise TypeError(msg)
    if outer.active_dims is not None or inner.active_dims is not None:
        msg = "the kernel must see all dimensions, got one with active_dims"
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
    return ScaledProcess.of(
        name, float(likelihood.noise.detach()) / variance, lengthscale, math.sqrt(variance), "gpytorch"
    )


def fit(model: Any, likelihood: Any, *, max_evaluations: int = 60) -> ScaleFit:
    """Sets a model's hyperparameters to the maximum of the marginal likelihood, and returns the fit.

    Uses L-BFGS-B, O(n^3) per evaluation. The constant mean is set to the mean of the targets. A kernel with a common
    lengthscale gets the geometric mean of those found. The usual 100 steps of Adam end far from the maximum if the data
    have little noise.

    Raises:
        TypeError: As ``process_of``, or if the model has no ScaleKernel, or its ``forward`` is not that kernel.
        FloatingPointError: If the kernel matrix cannot be factored with any noise.
    """
    if not isinstance(model.covar_module, gpytorch.kernels.ScaleKernel):
        msg = f"fit needs a ScaleKernel, because it fits the output scale, got {type(model.covar_module).__name__}"
        raise TypeError(msg)
    process = process_of(model, likelihood)
    if isinstance(operator_of(model, likelihood), ModelOperator):
        msg = "fit needs a model whose forward applies the kernel to unchanged inputs: train this one with gpytorch"
        raise TypeError(msg)
    kernel = process.correlation
    x, y = model.train_inputs[0].detach().double(), model.train_targets.detach().double()
    constant = float(y.mean())
    spread = (x.max(0).values - x.min(0).values).clamp(min=1e-12) / 4.0
    prior = ScalePrior()
    found = maximise(
        ExactEvidence(kernel, Observations(x / spread, y - constant)).objective,
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
    operator = ScaledProcess.of(kernel.name, found.eta, lengthscale.numpy(), None, "").operator(x)
    rest = y - constant
    variance = float(rest @ Cholesky.of(operator, found.eta).solve(rest)) / len(y)
    model.covar_module.outputscale = variance
    likelihood.noise = max(variance * found.eta, 1.01e-4)  # gpytorch's own lower bound
    if hasattr(model.mean_module, "constant"):
        model.mean_module.initialize(constant=constant)
    return found


@dataclass(frozen=True, eq=False)
class ModelOperator(PairOperator):
    """Prior covariance matrix of any gpytorch model, computed by its ``forward`` and never stored.

    A product with k columns evaluates the kernel at all pairs, in blocks of rows: O(n m (d + k)) and 32 MB.

    Attributes:
        model: The model in float64; must not be trained further.
        x: Points of the rows, with shape (n, d).
        others: Points of the columns, with shape (m, d); None if they are the same.
    """

    model: Any
    x: Tensor
    others: Tensor | None = None

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariance between points with shapes (..., n, d) and (..., m, d), with shape (..., n, m)."""
        # One extra row, because for square blocks with a linear part gpytorch would compute roots and add jitter.
        n = a.shape[-2] + 1
        with torch.no_grad():
            joint = self.model.forward(torch.cat([a[..., :1, :], a, b], -2)).lazy_covariance_matrix
            return joint[..., :n, n:].to_dense()[..., 1:, :]

    def matmul(self, v: Tensor) -> Tensor:
        """Product with v, with shape (m, k) or (m,)."""
        parts = self.x.split(max(1, _BLOCK // len(self.of_columns)))
        return torch.cat([self.between(part, self.of_columns) @ v for part in parts])

    def diag(self) -> Tensor:
        """Variances, with shape (n,)."""
        with torch.no_grad():
            return self.model.forward(self.x).lazy_covariance_matrix.diagonal(dim1=-2, dim2=-1).clone()


def operator_of(model: Any, likelihood: Any) -> KernelOperator | ModelOperator:
    """Covariance matrix of the training points, in float64.

    If this package has the kernel of the model, the matrix is computed in tiles, after a comparison with the model's
    ``forward`` at a few points; if they differ, or there is no such kernel, its entries come from ``forward``.
    """
    general = ModelOperator(_in_double(model), model.train_inputs[0].detach().double())
    try:
        process = process_of(model, likelihood)
    except TypeError:
        return general
    lengthscale = torch.as_tensor(process.lengthscale, device=general.device)
    known = KernelOperator.of(process.correlation, general.x, lengthscale=lengthscale, outputscale=process.variance)
    few = torch.arange(min(8, len(general.x)), device=general.device)
    same = torch.allclose(known.submatrix(few), general.submatrix(few), rtol=1e-5, atol=1e-7 * process.variance)
    return known if same else general


def _in_double(model: Any) -> Any:
    """A copy of the model in float64 without cached predictions, which cannot be copied."""
    cache, model.prediction_strategy = model.prediction_strategy, None
    try:
        return copy.deepcopy(model).double().eval()
    finally:
        model.prediction_strategy = cache


@torch.no_grad()
def predict(
    model: Any, likelihood: Any, x: Tensor, *, most_exact: int = 10_000, rank: int = 1000, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor, float]:
    """Mean and variance of the function at x, without noise, and relative residual of the linear solution.

    Up to ``most_exact`` points it uses a Cholesky factor in float64. Beyond that the mean comes from preconditioned
    conjugate gradients, with more preconditioner columns if they stall. The variance is that given the 256 training
    points with the highest correlation, which is never below that given all points.

    Args:
        model: An ``ExactGP`` of one output with its training data.
        likelihood: A ``GaussianLikelihood`` or ``FixedNoiseGaussianLikelihood``.
        x: Points, with shape (b, d).
        most_exact: Points up to which the matrix is stored.
        rank: Initial number of columns of the preconditioner.
        tolerance: Relative residual at which to stop.

    Raises:
        TypeError: If the likelihood is not supported.
    """
    operator, noise, new = operator_of(model, likelihood), _noise(likelihood), x.detach().double()
    double = _in_double(model)
    points, prior = double.train_inputs[0], double.forward(new)
    rest = double.train_targets - double.forward(points).mean
    variance = prior.lazy_covariance_matrix.diagonal(dim1=-2, dim2=-1)
    if len(rest) <= most_exact:
        factor = Cholesky.of(operator, noise)
        cross = operator.cross(new).dense()
        weights = factor.solve(rest)
        half = torch.linalg.solve_triangular(factor.triangle, cross.T, upper=False)
        residual = float((operator.matmul(weights) + noise * weights - rest).norm() / rest.norm())
        return prior.mean + cross @ weights, (variance - half.square().sum(0)).clamp(min=0.0), residual
    generator = torch.Generator(device=rest.device).manual_seed(0)
    preconditioner = NystromPreconditioner.build(operator, noise, rank=min(rank, len(rest)), generator=generator)
    solve, _ = cg_growing(
        operator, rest, noise=noise, preconditioner=preconditioner, generator=generator, tolerance=tolerance
    )
    local = _local_variance(ModelOperator(double, points), noise, new, variance)
    return prior.mean + operator.cross(new).matmul(solve.x), local, float(solve.residual.max())


def _noise(likelihood: Any) -> float | Tensor:
    """Variance of the noise, or the variances of the training points."""
    if isinstance(likelihood, gpytorch.likelihoods.FixedNoiseGaussianLikelihood):
        return likelihood.noise.detach().double()
    if isinstance(likelihood, gpytorch.likelihoods.GaussianLikelihood):
        return float(likelihood.noise.detach())
    msg = f"the likelihood must be a GaussianLikelihood or one with fixed noise, got {type(likelihood).__name__}"
    raise TypeError(msg)


def _local_variance(operator: ModelOperator, noise: float | Tensor, new: Tensor, variance: Tensor) -> Tensor:
    """Variance given the most correlated training points, with shape (b,), in O(b (n d + 256^3))."""
    points = operator.x
    n, m = len(points), min(_NEIGHBOURS, len(points))
    noises = torch.as_tensor(noise, dtype=points.dtype, device=points.device).expand(n)
    size, parts, block = operator.diag().sqrt(), [new.new_empty(0)], max(1, _BLOCK // max(n, m**2))
    for part, prior in zip(new.split(block), variance.split(block), strict=True):
        rows = (operator.between(part, points) / size).abs().topk(m, dim=1).indices
        near = points[rows]
        half = half_solve(operator.between(near, near), noises[rows], operator.between(near, part[:, None]))
        parts.append((prior - half.square().sum((1, 2))).clamp(min=0.0))
    return torch.cat(parts)


class _Preconditioned(AddedDiagLinearOperator):
    """Kernel plus noise that keeps its preconditioner when the kernel is evaluated, unlike gpytorch's class."""

    def evaluate_kernel(self) -> LinearOperator:
        """A copy with the kernel evaluated as a matrix."""
        done = super().evaluate_kernel()
        return type(self)(done._linear_op, done._diag_tensor, preconditioner_override=self.preconditioner_override)


class NystromLikelihood(gpytorch.likelihoods.GaussianLikelihood):
    """A Gaussian likelihood that gives gpytorch's solvers a randomly pivoted preconditioner.

    gpytorch uses 15 greedily chosen columns, and only from 2,000 points. More columns, drawn by randomly pivoted
    Cholesky, at any number of points reduce iterations and the scatter of the log-determinant. Also set
    ``gpytorch.settings.cg_tolerance`` to 0.01; its default of 1 gives errors of hundreds of nats.

    Args:
        rank: Columns of the preconditioner.
        seed: Seed of the pivots, which are drawn from the same random numbers at all hyperparameters.
    """

    def __init__(self, *, rank: int = 300, seed: int = 0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rank = rank
        self.seed = seed

    def marginal(self, function_dist: Any, *params: Any, **kwargs: Any) -> Any:
        """See gpytorch; the covariance also carries its preconditioner."""
        out = super().marginal(function_dist, *params, **kwargs)
        covariance = out.lazy_covariance_matrix
        if not isinstance(covariance, AddedDiagLinearOperator):
            return out
        kernel, noise = covariance._linear_op, covariance._diag_tensor
        ready = _Preconditioned(kernel, noise, preconditioner_override=self._preconditioner)
        return type(out)(out.mean, ready)

    def _preconditioner(self, covariance: Any) -> tuple[Any, LinearOperator, Tensor]:
        """P^-1 as a function, P as a differentiable operator, and log|P|."""
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
