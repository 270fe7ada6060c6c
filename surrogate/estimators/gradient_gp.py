"""Gaussian-process regression on values and gradients, with the interface of scikit-learn.

A gradient gives d numbers, often at the price of a few values. In d dimensions the error after n evaluations with
gradients equals that after several times n evaluations without.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from surrogate.arrays import Array
from surrogate.estimators.scales import location_and_scale
from surrogate.gp.derivative import SMOOTH_KERNELS
from surrogate.gp.fitting import fit
from surrogate.gp.kernels import STATIONARY, Scaled, stationary_part
from surrogate.gp.means import TREND_DEGREES, Polynomial
from surrogate.gp.noise import Common, Nugget
from surrogate.gp.parameters import LogNormal
from surrogate.gp.process import Data, Process
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.gp.solvers.joint import JointConjugateGradients, JointPosterior
from surrogate.linalg.solvers import Solve

__all__ = ["GradientGPRegressor"]


_AMPLITUDE = LogNormal(0.0, 2.0, 2.5e-3, 50.0)  # prior of the residual's sd, in sds of the trend's coefficients
_NOISE = LogNormal(low=1e-6, high=1.0)  # prior of the noise sd, in the same units
_LENGTHSCALE_SD, _LENGTHSCALES = 1.5, (0.02, 1e3)  # in sds of the inputs; long ones for irrelevant columns
_SHORTER = 1.5  # log of the factor by which the second start's lengthscales are shorter
_NUGGET = 1e-10  # share of the squared output scale, raised if a factorisation fails; it limits the accuracy


class GradientGPRegressor(RegressorMixin, BaseEstimator):
    """Gaussian-process regression of a smooth function with gradients at some or all points.

    The model is a polynomial trend plus a stationary residual with a lengthscale for each axis, conditioned jointly on
    values and derivatives. Hyperparameters and noise sd maximise the marginal likelihood times weak priors. Up to
    ``max_exact`` values and derivatives everything is exact, by Cholesky factors. Beyond that the hyperparameters are
    fitted to a random subset of the points, and the weights are found by conjugate gradients on all of them, without
    storing the kernel matrix of n (d + 1) rows; the preconditioner is a Nystrom factor with the trend.

    Attributes:
        n_features_in_: Number d of inputs.
        lengthscale_: Lengthscales of the residual, in units of the inputs, with shape (d,).
        noise_: Sd of the noise of the values, in units of y. That of a derivative is the same per sd of its input.
        residual_: Relative residual of the linear system; 0 if solved exactly.
        n_iter_: Number of products with the kernel matrix; 1 if it was factored.

    References:
        Solak, Murray-Smith, Leithead, Leith & Rasmussen (2003), Derivative observations in Gaussian process models of
        dynamic systems, NeurIPS 15; for many points Blucher, Mueller & Chmiela (2023), doi:10.1021/acs.jctc.2c01304,
        who use forces without values and without a trend.
    """

    def __init__(
        self,
        *,
        kernel: str = "rbf",
        trend: str = "quadratic",
        max_exact: int = 3000,
        rank: int = 500,
        tol: float = 1e-4,
        max_iter: int = 1000,
        device: str | None = None,
        random_state: int = 0,
    ) -> None:
        """Stores the settings; `fit` computes.

        Args:
            kernel: "rbf", or "matern52" for functions with two derivatives only.
            trend: "constant", "linear" or "quadratic".
            max_exact: Number of values and derivatives up to which matrices are factored.
            rank: Rank of the preconditioner if there are more.
            tol: Relative residual at which conjugate gradients stop.
            max_iter: Largest number of products with the kernel matrix; there is a warning if it does not suffice.
            device: Device such as "cuda"; by default the CPU.
            random_state: Seed for the random subset and the pivots.
        """
        self.kernel = kernel
        self.trend = trend
        self.max_exact = max_exact
        self.rank = rank
        self.tol = tol
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, gradient: ArrayLike | None = None) -> GradientGPRegressor:  # noqa: N803
        """Fits the process to points X with shape (n, d) and values y with shape (n,).

        Args:
            X: Points.
            y: Values.
            gradient: Derivatives of y with respect to X, with shape (n, d); rows with nan are unknown. None if there
                are no gradients.

        Raises:
            ValueError: If an argument is invalid.
        """
        self._check_settings()
        points, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        values = np.asarray(values, dtype=np.float64)
        slopes = None if gradient is None else np.asarray(gradient, dtype=np.float64)
        if slopes is not None and slopes.shape != points.shape:
            msg = f"gradient must have the shape {points.shape} of X, got {slopes.shape}"
            raise ValueError(msg)
        self._centre, self._scale = location_and_scale(points, "X")
        self._mean, self._sd = map(float, location_and_scale(values))
        u, z = (points - self._centre) / self._scale, (values - self._mean) / self._sd
        slopes = None if slopes is None else slopes * self._scale / self._sd
        data = Data.of(u, z, slope=slopes, device=self.device or "cpu")
        self._posterior = self._fit(data)
        process = self._posterior.process
        self.lengthscale_ = stationary_part(process.kernel).lengthscale * self._scale
        self.noise_ = self._sd * float(self._posterior.scale) * float(np.exp(process.vector()[-1]))
        self.n_iter_, self.residual_ = 1, 0.0
        if isinstance(self._posterior, JointPosterior):
            self.n_iter_, self.residual_ = self._posterior.iterations, self._posterior.residual
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Array | tuple[Array, Array]:  # noqa: N803
        """Posterior mean, with shape (m,), at points X with shape (m, d), and the sd if ``return_std`` is set.

        The mean costs O(m n d). The sd costs O(m N^2) for N values and derivatives if these were factored, otherwise a
        conjugate-gradient solution for each point.
        """
        check_is_fitted(self)
        u = (validate_data(self, X, dtype=np.float64, reset=False) - self._centre) / self._scale
        mean = self._mean + self._sd * self._posterior.mean(u)
        if not return_std:
            return mean
        if not isinstance(self._posterior, JointPosterior):
            return mean, self._sd * np.sqrt(self._posterior.variance(u))
        variance, solve = self._posterior.variance_and_solve(u)
        _warn_unless_converged(solve, self.tol)
        return mean, self._sd * np.sqrt(variance)

    def _check_settings(self) -> None:
        for name, words in (("kernel", SMOOTH_KERNELS), ("trend", TREND_DEGREES)):
            if getattr(self, name) not in words:
                msg = f"{name} must be one of {', '.join(sorted(words))}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        for name in ("max_exact", "rank", "max_iter"):
            if not getattr(self, name) >= 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)!r}"
                raise ValueError(msg)

    def _fit(self, data: Data) -> CholeskyPosterior | JointPosterior:
        d = data.u.shape[1]
        exact = len(data.y) <= self.max_exact
        part = data if exact else self._part(data)
        process = self._process(d)
        start = process.vector()
        shorter = start - _SHORTER * np.array([name.startswith("lengthscale") for name in process.names])
        found = fit(process, part, starts=[start, shorter], max_evaluations=100)
        model = process.with_vector(found.vector).condition(part)
        return model if exact else self._iterate(data, model)

    def _process(self, d: int) -> Process:
        """The Gaussian process prior, in units of the profiled output scale."""
        typical = 2.0 * np.sqrt(d)  # typical distance of standard normal points in d dimensions
        prior = LogNormal(float(np.log(typical)), _LENGTHSCALE_SD, *_LENGTHSCALES)
        kernel = Scaled(STATIONARY[self.kernel](np.full(d, typical), prior=prior), 1.0, prior=_AMPLITUDE)
        noise = Nugget(_NUGGET) + Common(1e-3, prior=_NOISE)
        return Process(kernel, Polynomial(self.trend), noise, scale=None)

    def _part(self, data: Data) -> Data:
        """A random subset of the points, small enough for Cholesky factorisation."""
        n, d = data.u.shape
        count = max(d + 2, min(n, self.max_exact // (d + 1)))
        rows = np.random.default_rng(self.random_state).permutation(n)[:count]
        return data.subset(rows)

    def _iterate(self, data: Data, model: CholeskyPosterior) -> JointPosterior:
        """The posterior given all data, with hyperparameters of a fit to a subset; warns if not converged."""
        solver = JointConjugateGradients(self.rank, self.tol, self.max_iter, self.random_state, float(model.scale))
        posterior = solver.condition(model.process, data)
        _warn_unless_converged(posterior.solve, self.tol)
        return posterior


def _warn_unless_converged(solve: Solve, tolerance: float) -> None:
    if not solve.converged:
        msg = (
            f"after {solve.iterations} iterations the relative residual is {float(solve.residual.max()):.1e}, not "
            f"{tolerance:g} ({solve.status}): a larger rank or max_iter helps"
        )
        warnings.warn(msg, ConvergenceWarning, stacklevel=4)
