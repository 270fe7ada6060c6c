"""Marginal likelihoods of y = s (g(x) + sqrt(eta) e): exact, iterative, of basis functions, and by minibatches.

g is a stationary process of unit variance with one lengthscale per dimension and e is white, so that the covariance of
y is s^2 K with K = k(X, X) + eta I. The output scale s is profiled, s^2 = y.K^-1 y / n, which leaves

    theta = (log eta, log l_1, ..., log l_d),     NLL = n/2 (log 2 pi s^2 + 1) + 1/2 log|K|,

and turns the flat valleys that noise and output scale have together into one well-posed coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.means import Trend
from surrogate.gp.process import GPRecipe, TrainingSet, negative_log_marginal
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

__all__ = [
    "BasisMarginal",
    "Fit",
    "IterativeMarginal",
    "MarginalEstimate",
    "Objective",
    "ScalePrior",
    "exact_marginal",
    "maximise",
    "minibatch_fit",
    "rescued",
]

Objective = Callable[[Array], tuple[float, Array]]


@dataclass(frozen=True)
class ScalePrior:
    """Weak independent normal priors on log eta and on the log-lengthscales, with bounds.

    Attributes:
        eta_sd: Of log eta, about log 0.01: twelve decades lie within three standard deviations.
        lengthscale_sd: Of log l, about log sqrt(d), for inputs of unit variance: a column that says nothing may get a
            lengthscale of a hundred for some five nats.
        eta_bounds: Of eta. The floor bounds the condition number of K by about n / eta.
        lengthscale_bounds: Of l.
    """

    eta_sd: float = 4.5
    lengthscale_sd: float = 1.5
    eta_bounds: tuple[float, float] = (1e-10, 1e3)
    lengthscale_bounds: tuple[float, float] = (5e-3, 1e3)

    def bounds(self, d: int) -> Array:
        """Bounds of theta, with shape (d + 1, 2)."""
        return np.log(np.array([self.eta_bounds, *([self.lengthscale_bounds] * d)]))

    def centre(self, d: int) -> Array:
        """The mean of the prior, with shape (d + 1,): where a fit starts cold."""
        return np.array([math.log(0.01), *([0.5 * math.log(d)] * d)])

    def penalty(self, theta: Array) -> tuple[float, Array]:
        """Negative log density up to a constant, and its gradient."""
        d = len(theta) - 1
        precision = np.array([self.eta_sd**-2, *([self.lengthscale_sd**-2] * d)])
        pull = precision * (theta - self.centre(d))
        return 0.5 * float(pull @ (theta - self.centre(d))), pull


def exact_marginal(
    kernel: Stationary, x: Tensor, y: Tensor, theta: Array, *, noise: float | None = None
) -> tuple[float, Array]:
    """Negative log marginal likelihood in nats and its gradient, by a Cholesky factor: O(n^3), five n x n matrices.

    The process of ``surrogate.gp.process`` with a nugget of one and an amplitude a = eta^-1/2: the same density, with
    the noise as the unit. A constant with a wide prior is added to the mean.

    Args:
        kernel: Correlation function.
        x: With shape (n, d), float64.
        y: With shape (n,).
        theta: (log eta, log l_1, ..., log l_d), natural logarithms.
        noise: Noise variance where it is known: then s^2 = noise / eta instead of the profiled one.

    Raises:
        torch.linalg.LinAlgError: If K is not positive definite in floating point.
    """
    zero = torch.zeros_like(y)
    recipe = GPRecipe(kernel, Trend("constant"), nugget=1.0, device=x.device)
    scale = [] if noise is None else [0.5 * math.log(noise)]
    vector = np.concatenate([[-0.5 * theta[0], -300.0], theta[1:], scale])
    value, gradient = negative_log_marginal(recipe, TrainingSet(x, y, zero, zero), vector)
    return value, np.concatenate([[-0.5 * gradient[0]], gradient[2 : len(theta) + 1]])


def rescued(objective: Objective, log: list[float]) -> Objective:
    """The objective with eta raised tenfold as often as the Cholesky factorisation needs it; the etas go into ``log``.

    An infinite value would end the line search of L-BFGS-B, which then reports convergence at a useless point.
    """

    def value(theta: Array) -> tuple[float, Array]:
        """The objective at theta, or at the least of the raised etas at which it is finite."""
        for power in range(13):
            raised = theta + np.eye(1, len(theta))[0] * power * math.log(10.0)
            try:
                out = objective(raised)
            except torch.linalg.LinAlgError:
                continue
            if math.isfinite(out[0]) and np.isfinite(out[1]).all():
                if power:
                    log.append(float(np.exp(raised[0])))
                return out
        msg = f"the covariance cannot be factored even with eta = {math.exp(raised[0]):g}: are all inputs finite?"
        raise FloatingPointError(msg)

    return value


@dataclass(frozen=True, eq=False)
class Fit:
    """Hyperparameters at a maximum of a marginal likelihood.

    Attributes:
        theta: (log eta, log l_1, ..., log l_d).
        value: The objective there, negative log posterior in nats.
        n_evaluations: How often it was evaluated.
        n_rescues: How many evaluations needed a raised eta.
        status: What the optimiser said.
    """

    theta: Array
    value: float
    n_evaluations: int
    n_rescues: int
    status: str

    @property
    def eta(self) -> float:
        """Noise variance in units of the squared output scale."""
        return math.exp(self.theta[0])

    @property
    def lengthscale(self) -> Array:
        """With shape (d,)."""
        return np.exp(self.theta[1:])


def maximise(
    objective: Objective,
    start: Array,
    *,
    prior: ScalePrior,
    max_evaluations: int = 60,
    tolerance: float = 1e-7,
) -> Fit:
    """The maximum a posteriori theta reached from ``start`` by L-BFGS-B with rescue.

    Args:
        objective: Negative log likelihood and gradient.
        start: With shape (d + 1,).
        prior: Prior and bounds of theta.
        max_evaluations: Limit of the optimiser.
        tolerance: Relative decrease of the objective at which to stop.

    Raises:
        FloatingPointError: If the objective is not finite with any noise.
    """
    bounds = prior.bounds(len(start) - 1)
    log: list[float] = []
    safe = rescued(objective, log)

    def posterior(theta: Array) -> tuple[float, Array]:
        value, gradient = safe(theta)
        penalty, pull = prior.penalty(theta)
        return value + penalty, gradient + pull

    result = minimize(
        posterior,
        np.clip(start, bounds[:, 0], bounds[:, 1]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxfun": max_evaluations, "maxcor": 20, "ftol": tolerance},
    )
    return Fit(np.asarray(result.x), float(result.fun), int(result.nfev), len(log), str(result.message))


@dataclass(frozen=True, eq=False)
class MarginalEstimate:
    """A marginal likelihood from conjugate gradients.

    Attributes:
        value: Negative log marginal likelihood in nats.
        gradient: With respect to theta, with shape (d + 1,).
        standard_error: Of the value, by its random part, in nats.
        residual: Largest relative residual of the solves.
        iterations: Products with the kernel matrix.
    """

    value: float
    gradient: Array
    standard_error: float
    residual: float
    iterations: int


@dataclass(frozen=True, eq=False)
class IterativeMarginal:
    """The marginal likelihood by one batched run of conjugate gradients, over the data and random probes together.

    The probes come from N(0, P) of a low-rank preconditioner P with frozen pivots, by the same normal numbers at every
    theta: value and gradient are smooth functions, as L-BFGS-B needs, and they belong together up to the scatter that
    ``standard_error`` tells. In float64 the trace of P^-1 K, known exactly, takes most of that scatter away, for one
    more product with as many columns as P has. y is taken about zero: subtract its mean.

    On a CPU it is no rival of ``NeighbourLikelihood`` for finding hyperparameters, at the price of some 50 products
    with the kernel matrix a value; it is what gives the marginal likelihood itself where no matrix can be stored.

    Attributes:
        kernel: Correlation function.
        x: With shape (n, d).
        y: With shape (n,).
        pivots: Of the preconditioner, with shape (rank,).
        seed: Of the probes.
        probes: Number of them.
        tolerance: Relative residual of the solves. 0.01 is the knee: at 1 the value is wrong by hundreds of nats,
            below 0.01 the probes dominate (Maddox, Kapoor & Wilson 2021).
        max_iterations: Most products with the kernel matrix.

    References:
        Gardner, Pleiss, Bindel, Weinberger & Wilson (2018), arXiv:1809.11165; Wenger et al. (2022), arXiv:2107.00243;
        Maddox, Kapoor & Wilson (2021), arXiv:2112.15246
    """

    kernel: Stationary
    x: Tensor
    y: Tensor
    pivots: Tensor
    seed: int
    probes: int = 10
    tolerance: float = 0.01
    max_iterations: int = 500

    @classmethod
    def of(
        cls,
        kernel: Stationary,
        x: Tensor,
        y: Tensor,
        theta: Array,
        *,
        rank: int = 100,
        seed: int = 0,
        probes: int = 10,
        tolerance: float = 0.01,
    ) -> IterativeMarginal:
        """With pivots drawn at ``theta``: O(n rank^2).

        Raises:
            ValueError: If ``tolerance`` is not in (0, 0.01].
        """
        if not 0.0 < tolerance <= 0.01:
            msg = f"tolerance must be in (0, 0.01], got {tolerance}: values from looser solves are wrong by nats"
            raise ValueError(msg)
        generator = torch.Generator(device=x.device).manual_seed(seed)
        operator = KernelOperator.of(kernel, x, lengthscale=_tensor(np.exp(theta[1:]), x))
        factor = accelerated_cholesky(operator, min(rank, len(x)), generator=generator)
        if factor.pivots is None:
            msg = "a preconditioner made of columns has pivots"
            raise RuntimeError(msg)
        return cls(kernel, x, y, factor.pivots, seed, probes, tolerance)

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Value and gradient alone, for ``maximise``."""
        estimate = self.estimate(theta)
        return estimate.value, estimate.gradient

    def estimate(self, theta: Array) -> MarginalEstimate:
        """Value, gradient and how far to trust them: O(n^2 (d + probes)) an iteration.

        The quadratic form is 2 y.a - a.K a, whose error is of second order in that of a = K^-1 y.
        """
        n, eta = len(self.y), math.exp(theta[0])
        operator = KernelOperator.of(self.kernel, self.x, lengthscale=_tensor(np.exp(theta[1:]), self.x))
        preconditioner = NystromPreconditioner.of(column_nystrom(operator, self.pivots), eta)
        generator = torch.Generator(device=self.x.device).manual_seed(self.seed + 1)
        z = preconditioner.sample(self.probes, generator=generator)
        solve = cg(
            operator,
            torch.cat([self.y[:, None], z], 1),
            noise=eta,
            preconditioner=preconditioner,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            min_iterations=10,
        )
        (log_determinant, error), trace = _determinant(operator, preconditioner, z, solve, eta)
        a = solve.x[:, 0]
        s2 = max(float(2.0 * (self.y @ a) - a @ (operator.matmul(a) + eta * a)) / n, 1e-300)
        fit = operator.gradient(a, a)[0] / s2
        gradient = torch.cat([(trace.noise - eta * a.square().sum() / s2)[None], trace.lengthscale - fit])
        value = 0.5 * (n * (math.log(2.0 * math.pi * s2) + 1.0) + log_determinant)
        residual = float(solve.residual.max())
        return MarginalEstimate(value, 0.5 * gradient.cpu().numpy(), 0.5 * error, residual, solve.iterations)


def _determinant(
    operator: KernelOperator, preconditioner: NystromPreconditioner, z: Tensor, solve: Solve, eta: float
) -> tuple[LogDeterminant, TraceGradient]:
    """log|K| and its derivatives from probes behind the first column; in float64 with the trace that is known."""
    n, probed = len(z), slice(1, None)
    known, slope = None, 0.0
    if operator.dtype == torch.float64:
        known = KnownTrace.of(operator, noise=eta, preconditioner=preconditioner)
        slope = trace_slope(solve, n, columns=probed)
    trace = None if known is None else known.value
    return (
        quadrature(solve, n, preconditioner=preconditioner, columns=probed, trace=trace),
        trace_gradient(operator, solve.x[:, 1:], z, noise=eta, preconditioner=preconditioner, known=known, slope=slope),
    )


def _tensor(values: Array, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


@dataclass(frozen=True, eq=False)
class BasisMarginal:
    """The marginal likelihood of y = s (Phi W b + sqrt(eta) e), b ~ N(0, I), collapsed to sums over the data.

    K = Phi W^2 Phi^T + eta I of p basis functions with weights W = diag(w): after one pass over the data, O(n p^2), a
    value costs O(p^3) whatever n. With M = W Phi^T Phi W, Z = M + eta I and c = Z^-1 W Phi^T y,

        log|K| = (n - p) log eta + log|Z|,    y.K^-1 y = (y.y - c.W Phi^T y) / eta.

    Attributes:
        gram: Phi^T Phi, with shape (p, p).
        projection: Phi^T y, with shape (p,).
        square: y.y.
        n: Number of points.

    References:
        Solin & Sarkka (2020), arXiv:1401.5508, section 3; Timonen & Lahdesmaki (2023), arXiv:2111.01931
    """

    gram: Tensor
    projection: Tensor
    square: float
    n: int

    @classmethod
    def of(cls, features: Tensor, y: Tensor) -> BasisMarginal:
        """From Phi with shape (n, p) and y with shape (n,)."""
        return cls(features.T @ features, features.T @ y, float(y.square().sum()), len(y))

    def objective(self, theta: Array) -> tuple[float, Array]:
        """Negative log marginal likelihood with s profiled, and its gradient with respect to (log eta, log w).

        Args:
            theta: With shape (1 + p,), natural logarithms.

        Raises:
            torch.linalg.LinAlgError: If Z is not positive definite in floating point.
        """
        p, eta = len(self.projection), math.exp(theta[0])
        w = _tensor(np.exp(theta[1:]), self.gram)
        z = w[:, None] * self.gram * w
        z.diagonal().add_(eta)
        lower = torch.linalg.cholesky(z)
        b = w * self.projection
        c = torch.cholesky_solve(b[:, None], lower)[:, 0]
        q = max((self.square - float(b @ c)) / eta, 1e-300)
        s2 = q / self.n
        log_determinant = (self.n - p) * theta[0] + 2.0 * float(lower.diagonal().log().sum())
        inverse = torch.cholesky_inverse(lower).diagonal()
        # (Z^-1 M)_jj = 1 - eta (Z^-1)_jj.
        by_weight = 1.0 - eta * inverse - c.square() / s2
        by_eta = 0.5 * (self.n - p + eta * float(inverse.sum()) + (float(c @ c) - q) / s2)
        value = 0.5 * (self.n * (math.log(2.0 * math.pi * s2) + 1.0) + log_determinant)
        return value, np.concatenate([[by_eta], by_weight.cpu().numpy()])


@dataclass(frozen=True)
class _Moments:
    """Running means of a gradient and of its square (Adam)."""

    mean: Array
    square: Array

    def step(self, gradient: Array, k: int) -> tuple[_Moments, Array]:
        mean, square = 0.9 * self.mean + 0.1 * gradient, 0.99 * self.square + 0.01 * gradient**2
        direction = mean / (1.0 - 0.9**k) / (np.sqrt(square / (1.0 - 0.99**k)) + 1e-12)
        return _Moments(mean, square), direction


def minibatch_fit(
    kernel: Stationary,
    x: Tensor,
    y: Tensor,
    theta: Array,
    *,
    scale: float,
    generator: torch.Generator,
    batch: int = 128,
    steps: int = 400,
) -> tuple[Array, float]:
    """Hyperparameters by stochastic gradients of the marginal likelihood of small batches: O(batch^3) a step.

    Every step takes the gradient for a new uniform batch as if it were all there is. It is biased, and goes where the
    full likelihood has its maximum all the same, for noisy data: noise within some per cent, lengthscales and scale
    less well, since a batch is sparser than the data. A start for more than 10,000 points, before ``maximise`` with
    ``NeighbourLikelihood``; not for exact values, of which a batch says too little.

    Steps are those of Adam with a rate of 0.1 / (1 + k / 50) instead of a / k, and the last quarter is averaged.

    Args:
        kernel: Correlation function.
        x: With shape (n, d), float64.
        y: With shape (n,).
        theta: (log eta, log l_1, ..., log l_d) to start from.
        scale: s to start from.
        generator: Draws the batches; on the CPU.
        batch: Points a batch.
        steps: Number of them.

    Returns:
        theta and s.

    References:
        Chen, Zheng, Al Kontar & Raskutti (2022), arXiv:2111.10461
    """
    recipe = GPRecipe(kernel, Trend("constant"), nugget=1.0, device=x.device)
    d, zero = x.shape[1], y.new_zeros(min(batch, len(y)))
    # The vector of surrogate.gp.process with the noise as the unit: (log a, log c, log l, log noise sd).
    vector = np.concatenate([[-0.5 * theta[0], -300.0], theta[1:], [math.log(scale) + 0.5 * theta[0]]])
    moments, tail = _Moments(np.zeros(d + 3), np.zeros(d + 3)), []
    for k in range(1, steps + 1):
        rows = torch.randperm(len(y), generator=generator)[: len(zero)].to(x.device)
        _, gradient = negative_log_marginal(recipe, TrainingSet(x[rows], y[rows], zero, zero), vector)
        moments, direction = moments.step(gradient, k)
        vector = vector - 0.1 / (1.0 + k / 50.0) * direction
        if k > 0.75 * steps:
            tail.append(vector)
    mean = np.mean(tail, axis=0)
    return np.concatenate([[-2.0 * mean[0]], mean[2 : d + 2]]), math.exp(mean[d + 2] + mean[0])
