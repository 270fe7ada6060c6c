"""Gaussian-process regression of any size: a kernel and its hyperparameters, then a posterior, exact or iterative."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.evidence import Fit, ScalePrior, exact_marginal, maximise
from surrogate.gp.process import _cholesky_in_place
from surrogate.gp.solvers.local import NeighbourLikelihood, local_prediction
from surrogate.linalg.lowrank import accelerated_cholesky
from surrogate.linalg.operators import KernelOperator
from surrogate.linalg.preconditioners import NystromPreconditioner
from surrogate.linalg.solvers import cg
from surrogate.linalg.stationary import CORRELATIONS

__all__ = [
    "ExactPosterior",
    "IterativePosterior",
    "Process",
    "choose_process",
    "exact_posterior",
    "iterative_posterior",
]


_PILOT = 800  # points that choose among kernels where there are more than
_EXACT_FIT = 1500  # points up to which all count in full in the marginal likelihood
_TARGETS, _NEIGHBOURS = 1500, 64  # of the likelihood by neighbours
_LOCAL = 256  # neighbours that a variance is conditioned on where the exact one is too dear
_ENTRIES = 2**31 - 1  # of a matrix that is factored: libraries of cards count them in 32 bits
_FILL = 64  # neighbours from which a mean takes what the solver left
# Least noise variance of rough kernels, in units of the variance that is left at a point given its neighbours.
_FLOOR = {"matern12": 0.05, "matern32": 0.05}
_CALIBRATION = 1024  # points whose errors set the scale
_SOLVABLE = (
    1e-3  # times the mean variance that the preconditioner leaves: eta below which conjugate gradients take hundreds
)
_SINGLE = (
    1e-6  # times sqrt(n): noise, in units of s^2, above which products in float32 keep K + noise positive definite
)
_TILE = 4_000_000


@dataclass(frozen=True, eq=False)
class Process:
    """y = s (g(x / l) + sqrt(eta) e) about an unknown constant, g with the named kernel.

    Attributes:
        kernel: Name in ``surrogate.linalg.stationary.CORRELATIONS``.
        eta: Noise variance in units of s^2.
        lengthscale: l, with shape (d,).
        scale: s; None before it has been found from the data.
        origin: How the hyperparameters were found, for people.
    """

    kernel: str
    eta: float
    lengthscale: Array
    scale: float | None
    origin: str

    def operator(self, x: Tensor) -> KernelOperator:
        """The kernel matrix of the points x, in units of s^2."""
        scale = torch.as_tensor(self.lengthscale, dtype=torch.float64, device=x.device)
        return KernelOperator.of(self.kernel, x, lengthscale=scale)

    @property
    def noise_variance(self) -> float:
        """s^2 eta.

        Raises:
            ValueError: If the process has no scale yet.
        """
        return self.eta * self.variance

    @property
    def variance(self) -> float:
        """s^2.

        Raises:
            ValueError: If the process has no scale yet.
        """
        if self.scale is None:
            msg = "a process has a scale once it is conditioned on data, got None: take that of the posterior"
            raise ValueError(msg)
        return self.scale**2


def choose_process(
    x: Tensor, y: Tensor, *, kernels: tuple[str, ...], noise: float | None, generator: torch.Generator
) -> Process:
    """The kernel with the most evidence and its hyperparameters, for standardised x and y.

    All kernels are fitted to a random subset of the points by the exact marginal likelihood. Up to 1,500 points the
    best is then fitted to all of them. Beyond that the two best go on with ``NeighbourLikelihood``, at the density of
    the full data set: a subset is sparser than the data, and where no kernel is quite right its lengthscales come out
    too long and its noise too large. On 3,000 points of a protein data set the negative log density of 2,000 others was
    0.98 nats a point from a subset of 1,000, 0.83 from neighbours, and 0.83 from the marginal likelihood of all, which
    took eight times as long.

    Noise that is estimated is not let below a twentieth of the variance that a point has given its neighbours where the
    kernel is Matern 1/2 or 3/2: less cannot be told from their roughness, and an input that repeats with another output
    would be out by tens of standard deviations. One such row in 4,000 of the protein data, at n = 3,000, made the mean
    negative log density 1.02 instead of 0.93, while a floor five times lower gained the others 0.01.

    Args:
        x: With shape (n, d), float64.
        y: With shape (n,).
        kernels: Names to choose from.
        noise: Noise variance where it is known, 0 for exact values.
        generator: Draws the subsets; on the CPU.

    Raises:
        FloatingPointError: If a kernel matrix cannot be factored with any noise.
    """
    n = len(y)
    least = max(n, 10) * torch.finfo(torch.float64).eps
    prior = ScalePrior(eta_bounds=(least, least if noise == 0.0 else 1e3))
    known = noise or None
    order = torch.randperm(n, generator=generator).to(x.device)
    pilot = order[: min(n, _PILOT if n > _EXACT_FIT else max(n // 3, 200))]
    fits = {name: _fit_exact(name, x[pilot], y[pilot], prior, known) for name in kernels}
    ranked = sorted(kernels, key=lambda name: fits[name].value)
    if n > _EXACT_FIT:
        process = _choose_by_neighbours(x, y, {name: fits[name] for name in ranked[:2]}, prior, known, order)
    else:
        name = ranked[0]
        fit = fits[name] if len(pilot) == n else _fit_exact(name, x, y, prior, known, start=_noisier(fits[name].theta))
        process = _process(name, fit, known, f"marginal likelihood of {n} points")
    return (
        process
        if noise is not None or n < 3 or process.kernel not in _FLOOR
        else _with_noise_floor(process, x, y, order)
    )


def _fit_exact(
    name: str, x: Tensor, y: Tensor, prior: ScalePrior, noise: float | None, start: Array | None = None
) -> Fit:
    """From ``start``, or from two starts, the second with more noise and longer lengthscales, where points are few."""
    centre = prior.centre(x.shape[1])
    starts = [centre, centre + np.array([3.0, *[1.0] * x.shape[1]])] if len(x) <= 200 else [centre]
    fits = [
        maximise(lambda theta: exact_marginal(CORRELATIONS[name], x, y, theta, noise=noise), begin, prior=prior)
        for begin in (starts if start is None else [start])
    ]
    return min(fits, key=lambda fit: fit.value)


def _noisier(theta: Array) -> Array:
    """Where to go on from a fit to fewer points: those may have had nothing to say of the noise.

    Noise falls within a few evaluations where it has to; from next to none the optimiser does not find back.
    """
    return np.concatenate([[max(theta[0], math.log(0.01))], theta[1:]])


def _process(name: str, fit: Fit, noise: float | None, origin: str) -> Process:
    scale = None if noise is None else math.sqrt(noise / fit.eta)
    rescued = f", {fit.n_rescues} evaluations with more noise" if fit.n_rescues else ""
    return Process(name, fit.eta, fit.lengthscale, scale, origin + rescued)


def _choose_by_neighbours(
    x: Tensor, y: Tensor, fits: dict[str, Fit], prior: ScalePrior, noise: float | None, order: Tensor
) -> Process:
    """Two rounds: neighbours by the lengthscales of the subset, then the better kernel by those of the first round."""
    m = min(_NEIGHBOURS, len(y) - 1)
    for k in range(2):
        targets = order.roll(-k * _TARGETS)[:_TARGETS]
        for name, fit in fits.items():
            likelihood = NeighbourLikelihood.of(
                CORRELATIONS[name], x, y, targets=targets, m=m, lengthscale=fit.lengthscale, noise=noise
            )
            start = _noisier(fit.theta)
            fits[name] = maximise(likelihood.objective, start, prior=prior, max_evaluations=30, tolerance=1e-6)
        best = min(fits, key=lambda each: fits[each].value)
        fits = {best: fits[best]}
    origin = f"predictions of {len(targets)} points from their {m} nearest of {len(y)}"
    return _process(best, fits[best], noise, origin)


def _with_noise_floor(process: Process, x: Tensor, y: Tensor, order: Tensor) -> Process:
    likelihood = NeighbourLikelihood.of(
        CORRELATIONS[process.kernel],
        x,
        y,
        targets=order[:_CALIBRATION],
        m=min(_NEIGHBOURS, len(y) - 1),
        lengthscale=process.lengthscale,
    )
    theta = np.log([process.eta, *process.lengthscale])
    floor = _FLOOR[process.kernel] * float((likelihood.variance(theta) - process.eta).clamp(min=0.0).median())
    return replace(process, eta=max(process.eta, floor))


@dataclass(frozen=True, eq=False)
class ExactPosterior:
    """The process given all points, by a Cholesky factor.

    Attributes:
        process: Kernel and hyperparameters, with eta as it was factored and s as used.
        x: Points, with shape (n, d).
        lower: L with L L^T = k(X, X) + eta I, with shape (n, n).
        weights: (k(X, X) + eta I)^-1 (y - constant), with shape (n,).
        ones: L^-1 1, with shape (n,).
        constant: Of the mean.
        log_likelihood: Log marginal likelihood in nats, with the best constant.
        residual: Relative residual of the weights.
        status: How it came about.
    """

    process: Process
    x: Tensor
    lower: Tensor
    weights: Tensor
    ones: Tensor
    constant: float
    log_likelihood: float
    residual: float
    status: str

    def mean(self, new: Tensor) -> Tensor:
        """Posterior mean, with shape (b,), for new points with shape (b, d): O(b n d)."""
        return self.constant + self.process.operator(self.x).cross(new).matmul(self.weights)

    def variance(self, new: Tensor) -> Tensor:
        """Posterior variance of the function without noise, with shape (b,): O(b n^2)."""
        k = self.process.operator(self.x).cross(new).transpose()
        parts = [new.new_empty(0)]
        for rows in torch.arange(len(new), device=new.device).split(max(1, _TILE // len(self.x))):
            half = torch.linalg.solve_triangular(self.lower, k.columns(rows), upper=False)
            slack = 1.0 - self.ones @ half  # what the constant adds, not being known
            parts.append(1.0 - half.square().sum(0) + slack.square() / self.ones.square().sum())
        return self.process.variance * torch.cat(parts).clamp(min=0.0)


def exact_posterior(process: Process, x: Tensor, y: Tensor, *, calibration: Tensor | None = None) -> ExactPosterior:
    """The process given the points, by Cholesky: O(n^3 / 3) time, one n x n matrix.

    Where the factorisation fails eta is raised tenfold until it works; the result's ``process`` and ``status`` say so.

    Args:
        process: Kernel and hyperparameters. A scale that it does not have is found from the data.
        x: With shape (n, d), float64.
        y: With shape (n,).
        calibration: Indices of points whose leave-one-out errors set that scale, so that they have the size that their
            variances say; where it is None the scale has the most likelihood.

    Raises:
        FloatingPointError: If no noise helps.
    """
    for power in range(13):
        raised = replace(process, eta=process.eta * 10.0**power)
        try:
            lower = _cholesky_in_place(_covariance(raised, x))
        except torch.linalg.LinAlgError:
            continue
        return _condition(raised, x, y, lower, calibration)
    msg = f"the covariance of {len(y)} points cannot be factored even with eta = {raised.eta:g}"
    raise FloatingPointError(msg)


def _covariance(process: Process, x: Tensor) -> Tensor:
    """k(X, X) + eta I, in blocks of rows, so that the temporaries are small."""
    operator = process.operator(x)
    k = x.new_empty(len(x), len(x))
    for rows in torch.arange(len(x), device=x.device).split(max(1, _TILE // len(x))):
        k[rows] = operator.columns(rows).T
    k.diagonal().add_(process.eta)
    return k


def _condition(process: Process, x: Tensor, y: Tensor, lower: Tensor, calibration: Tensor | None) -> ExactPosterior:
    n = len(y)
    half = torch.linalg.solve_triangular(lower, torch.stack([y, torch.ones_like(y)], 1), upper=False)
    constant = float(half[:, 0] @ half[:, 1] / half[:, 1].square().sum())
    rest = half[:, 0] - constant * half[:, 1]
    q = max(float(rest.square().sum()), 1e-300)
    weights = torch.linalg.solve_triangular(lower.T, rest[:, None], upper=True)[:, 0]
    if process.scale is None:
        s2 = q / n if calibration is None else _left_out_square(lower, weights, calibration)
        process = replace(process, scale=math.sqrt(max(s2, 1e-300)))
    s2 = process.variance
    value = -0.5 * (n * math.log(2.0 * math.pi * s2) + q / s2) - float(lower.diagonal().log().sum())
    product = process.operator(x).matmul(weights) + process.eta * weights - (y - constant)
    residual = float(product.norm() / max(float((y - constant).norm()), 1e-300))
    status = f"Cholesky factor of {n} points, eta = {process.eta:.3g}"
    return ExactPosterior(process, x, lower, weights, half[:, 1], constant, value, residual, status)


def _left_out_square(lower: Tensor, weights: Tensor, rows: Tensor) -> float:
    """Mean square of leave-one-out errors over their variances, alpha_i^2 / (K^-1)_ii, of some points: O(n^2) each.

    Rasmussen & Williams (2006), eq. 5.12, http://gaussianprocess.org/gpml/chapters/RW5.pdf.
    """
    unit = lower.new_zeros(len(lower), len(rows))
    unit[rows, torch.arange(len(rows), device=lower.device)] = 1.0
    inverse_diagonal = torch.linalg.solve_triangular(lower, unit, upper=False).square().sum(0)
    return float((weights[rows].square() / inverse_diagonal).mean())


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
        x: Points, with shape (n, d).
        y: With shape (n,).
        weights: (k(X, X) + eta I)^-1 (y - constant), with shape (n,), up to the rest.
        constant: Of the mean.
        rest: y - constant - (k(X, X) + eta I) weights, with shape (n,).
        factor: Of the variance given the neighbours, from held-out errors; 1 leaves it as the bound that it is.
        residual: |rest| / |y - constant|.
        status: What the solver said.
    """

    process: Process
    x: Tensor
    y: Tensor
    weights: Tensor
    constant: float
    rest: Tensor
    factor: float
    residual: float
    status: str

    def mean(self, new: Tensor) -> Tensor:
        """Posterior mean, with shape (b,): O(b (n d + 64^3))."""
        solved = self.process.operator(self.x).cross(new).matmul(self.weights)
        return self.constant + solved + _local(self.process, self.x, self.rest, new, _FILL)[0]

    def variance(self, new: Tensor) -> Tensor:
        """Posterior variance of the function without noise, with shape (b,): O(b (n d + 256^3)).

        The variance given the 256 nearest neighbours, which is never below that given all points, times ``factor``.
        """
        local = _local(self.process, self.x, self.y, new, _LOCAL)[1]
        return self.process.variance * self.factor * local


def _local(process: Process, x: Tensor, y: Tensor, new: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Mean and variance, in units of s^2, given the m nearest neighbours, each with shape (b,)."""
    scale = torch.as_tensor(process.lengthscale, dtype=new.dtype, device=new.device)
    kernel = CORRELATIONS[process.kernel]
    return local_prediction(kernel, x / scale, y, new / scale, eta=process.eta, m=min(m, len(y)))


def iterative_posterior(
    process: Process,
    x: Tensor,
    y: Tensor,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-2,
    rank: int | None = None,
    max_iterations: int = 300,
) -> IterativePosterior:
    """The process given the points, by conjugate gradients in float32 with a randomly pivoted preconditioner.

    The system is first solved without some points, whose honest errors set the size of the variances; the solution
    with all points goes on from there. O(n^2 d) an iteration, O(n rank) memory. A residual above the tolerance is
    reported in the result, not raised.

    Data with hardly any noise are solved in float64, and with an eta of at least a thousandth of the mean variance that
    the preconditioner leaves, which the status tells: on 2,500 exact values of a smooth function in 8 dimensions the
    solver stood still in 600 iterations with eta = 6e-13, and converged in 111 with 2e-7, its error 1.05 times the
    exact one.

    Args:
        process: Kernel and hyperparameters. A scale that it has is kept.
        x: With shape (n, d), float64.
        y: With shape (n,).
        generator: Draws the pivots and the points held out; on the device of x.
        tolerance: Relative residual to stop at; neighbours make up for it in the mean.
        rank: Of the preconditioner; a sixteenth of the points, but 1,000 to 3,000, or 2^31 / n, where it is None.
        max_iterations: Most products with the kernel matrix, of each of the two solutions.
    """
    n, solved = len(y), partial(_solved, process, tolerance=tolerance, max_iterations=max_iterations)
    columns = min(n, min(max(n // 16, 1000), 3000, _ENTRIES // n) if rank is None else rank)
    low = torch.float32 if process.eta > _SINGLE * n**0.5 else torch.float64
    factor = accelerated_cholesky(process.operator(x).to(low), columns, generator=generator).factor
    floor = max(_SOLVABLE * (1.0 - float(factor.square().sum()) / n), 10.0 * n * torch.finfo(torch.float64).eps)
    raised = f", eta raised to {floor:.1e} for it" if process.eta < floor else ""
    process = replace(process, eta=max(process.eta, floor))
    order = torch.randperm(n, generator=generator, device=x.device)
    held, kept = order[: min(_CALIBRATION, n // 20)], order[min(_CALIBRATION, n // 20) :]
    preconditioner = NystromPreconditioner.of(factor[kept], process.eta)
    part, products = solved(x[kept], y[kept], preconditioner, None)
    local = _local(process, x[kept], y[kept], x[held], _LOCAL)[1]
    scaled, of_variance = _calibrated(process, y[held] - part.mean(x[held]), local)
    start = torch.zeros_like(y)
    start[kept] = part.weights
    preconditioner = NystromPreconditioner.of(factor, process.eta)
    whole, more = solved(x, y, preconditioner, start)
    word = "converged" if whole.residual <= tolerance else "stopped"
    status = (
        f"conjugate gradients {word} at a residual of {whole.residual:.1e}, for {tolerance:g}, after {products} + "
        f"{more} products, rank {preconditioner.rank}{raised}"
    )
    return replace(whole, process=scaled, factor=of_variance, status=status)


def _solved(
    process: Process,
    x: Tensor,
    y: Tensor,
    preconditioner: NystromPreconditioner,
    start: Tensor | None,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[IterativePosterior, int]:
    """The posterior mean, without a size of its variances, and the products that it took.

    Corrections in the precision of the preconditioner for residuals in float64, until one gains less than a tenth; one
    that loses is not made.
    """
    operator, constant = process.operator(x), float(y.mean())
    low, target = operator.to(preconditioner.factor.factor.dtype), y - constant
    size = max(float(target.norm()), 1e-300)
    weights = torch.zeros_like(y) if start is None else start
    rest = target if start is None else target - operator.matmul(start) - process.eta * start
    spent, gains, residual = 0, True, float(rest.norm()) / size
    while residual > tolerance and gains and spent < max_iterations:
        step = cg(
            low,
            (rest / rest.norm()).to(low.dtype),
            noise=process.eta,
            preconditioner=preconditioner,
            tolerance=max(0.8 * tolerance / residual, 1e-4),
            max_iterations=max_iterations - spent,
        )
        spent, corrected = spent + step.iterations, weights + rest.norm() * step.x.to(y.dtype)
        left = target - operator.matmul(corrected) - process.eta * corrected
        after = float(left.norm()) / size
        gains = after < 0.9 * residual
        if after < residual:
            weights, rest, residual = corrected, left, after
    return IterativePosterior(process, x, y, weights, constant, rest, 1.0, residual, ""), spent


def _calibrated(process: Process, errors: Tensor, local: Tensor) -> tuple[Process, float]:
    """The scale and the factor of the local variances with which the errors have the most likelihood.

    For each factor on a grid from 1/100 to 1 the best scale is that which makes the mean square of errors over sds one.
    """
    grid = torch.logspace(-2.0, 0.0, 41, dtype=errors.dtype, device=errors.device)
    spread = grid[:, None] * local + process.eta
    s2 = (errors.square() / spread).mean(1) if process.scale is None else torch.full_like(grid, process.variance)
    cost = (s2[:, None] * spread).log().mean(1) + (errors.square() / spread).mean(1) / s2
    best = int(cost.argmin())
    return replace(process, scale=math.sqrt(max(float(s2[best]), 1e-300))), float(grid[best])
