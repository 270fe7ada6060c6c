"""A trend with a stationary residual and shaped noise: the processes of the package's own surrogates.

    y = s (phi(u).b + a g(u)) + noise,   b ~ N(0, I),   g ~ GP(0, k(|u - u'|_lengthscale)),
    noise variance = s^2 nugget + (c depth)^2 + sigma^2 + v^2.

The depth is that below the region that matters. The *shaping* coefficient c is fitted: where the trend is exact it
falls to its floor and deep points count in full; where it is not they stop spoiling the mode.
c is in absolute units, so that with c below one a distant point is never taken for a high one, and the output scale s
is a hyperparameter. Without shaping and noise s may be profiled out instead: leave it out of the vector. sigma is the
sd that came with a value; v is the same for all values and fitted, if there is reason to think that they are noisy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.gp.evidence.marginal import log_evidences, negative_log_evidence
from surrogate.gp.fitting import fit, merged
from surrogate.gp.kernels import STATIONARY, Scaled, StationaryKernel
from surrogate.gp.means import Mean, Polynomial
from surrogate.gp.noise import Common, Given, Noise, Nugget, Shaped
from surrogate.gp.optimise import Fit, maximise
from surrogate.gp.parameters import JoinedPriors, LogNormal, Priors
from surrogate.gp.process import Data, Process
from surrogate.gp.solvers.cholesky import CholeskyPosterior, with_input_slopes

__all__ = [
    "COEFFICIENT_SD",
    "HyperPrior",
    "Hyperparameters",
    "Movable",
    "Residual",
    "Trended",
    "fit_movable",
]


COEFFICIENT_SD = 0.5
"""Prior sd of the coefficients of couplings, whose coordinates have units of the order of the posterior's width."""

COEFFICIENT_BOUND = 4.0
"""Largest coefficient of a coupling: eight prior sds."""


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """Natural logarithms of the amplitude a, the shaping c, the output scale s and the lengthscales.

    Attributes:
        log_amplitude: Sd of the residual in units of the output scale.
        log_shaping: Noise sd per unit of depth (relative to the output scale when that is profiled).
        log_lengthscale: With shape (d,), in whitened units.
        log_scale: Output scale; None when it is profiled.
        log_noise: Sd v of noise that did not come with the values; None where they are taken as they are. It needs an
            output scale.
    """

    log_amplitude: float
    log_shaping: float
    log_lengthscale: Array
    log_scale: float | None = None
    log_noise: float | None = None

    @classmethod
    def default(cls, d: int, *, scale: float | None = None) -> Hyperparameters:
        """Start of a cold fit: a residual of unit amplitude with lengthscales of 2 sqrt(d)."""
        log_scale = None if scale is None else float(np.log(scale))
        return cls(0.0, np.log(1e-3), np.full(d, np.log(2.0 * np.sqrt(d))), log_scale)

    def vector(self) -> Array:
        """(log a, log c, log l_1, ..., log l_d[, log s[, log v]]): the order in which they are saved and fitted."""
        tail = [] if self.log_scale is None else [self.log_scale]
        tail += [] if self.log_noise is None else [self.log_noise]
        return np.concatenate([[self.log_amplitude, self.log_shaping], self.log_lengthscale, tail])

    @classmethod
    def of(cls, vector: Array, d: int) -> Hyperparameters:
        """The inverse of ``vector()``."""
        scale, noise = (float(vector[i]) if len(vector) > i else None for i in (d + 2, d + 3))
        return cls(float(vector[0]), float(vector[1]), np.array(vector[2 : d + 2]), scale, noise)

    @property
    def order(self) -> Indices:
        """Positions of the entries of ``vector()`` in the vector of the process: ([s,] a, l_1, ..., l_d, c[, v])."""
        d = len(self.log_lengthscale)
        scaled = [] if self.log_scale is None else [0]
        first = len(scaled)
        noisy = [] if self.log_noise is None else [first + d + 2]
        return np.array([first, first + d + 1, *range(first + 1, first + d + 1), *scaled, *noisy])

    def of_process(self) -> Array:
        """A copy in the order of the process's vector."""
        out, vector = np.empty(len(self.order)), self.vector()
        out[self.order] = vector
        return out


@dataclass(frozen=True)
class HyperPrior:
    """Independent normal priors on the log-hyperparameters, with bounds.

    Attributes:
        amplitude_sd: Of log a, about 0: a may fall to the lower bound when the trend explains everything.
        lengthscale_sd: Of log l, about log(2 sqrt(d)): points in d whitened dimensions are sqrt(2 d) apart.
        amplitude_bounds: Bounds of a. The lower one keeps a trace of doubt about the trend.
        shaping_bounds: Bounds of c. A point keeps at least three standard deviations of its depth.
        lengthscale_bounds: Bounds of l.
        scale_sd: Standard deviation of log s, about 0.
        scale_bounds: Bounds of s.
        noise_sd: Standard deviation of log v, about 0: noise of the order of one matters to a posterior.
        noise_bounds: Bounds of v, in units of the log-likelihood.
    """

    amplitude_sd: float = 2.0
    lengthscale_sd: float = 0.6
    amplitude_bounds: tuple[float, float] = (2.5e-3, 50.0)
    shaping_bounds: tuple[float, float] = (1e-6, 0.3)
    lengthscale_bounds: tuple[float, float] = (0.02, 200.0)
    scale_sd: float = 4.0
    scale_bounds: tuple[float, float] = (1e-4, 1e8)
    noise_sd: float = 2.0
    noise_bounds: tuple[float, float] = (1e-3, 1e3)

    def amplitude(self) -> LogNormal:
        """Prior of the amplitude a."""
        return LogNormal(0.0, self.amplitude_sd, *self.amplitude_bounds)

    def lengthscale(self, d: int) -> LogNormal:
        """Prior of the lengthscales l in d dimensions."""
        return LogNormal(float(np.log(2.0 * np.sqrt(d))), self.lengthscale_sd, *self.lengthscale_bounds)

    def shaping(self) -> LogNormal:
        """Prior of the shaping c."""
        return LogNormal(low=self.shaping_bounds[0], high=self.shaping_bounds[1])

    def scale(self) -> LogNormal:
        """Prior of the output scale s."""
        return LogNormal(0.0, self.scale_sd, *self.scale_bounds)

    def noise(self) -> LogNormal:
        """Prior of the noise variance v."""
        return LogNormal(0.0, self.noise_sd, *self.noise_bounds)


@dataclass(frozen=True)
class Trended:
    """The processes with a given kernel and trend, as functions of their ``Hyperparameters``.

    Attributes:
        kernel: Name of the correlation function of the residual, in ``surrogate.gp.kernels.STATIONARY``.
        trend: Basis functions of the mean, such as a polynomial.
        nugget: Noise variance in units of the squared output scale. It bounds the condition number of the covariance
            by about n a^2 / nugget, and an sd of 1e-3 is far below what a posterior can notice.
        prior: Prior of the hyperparameters.
    """

    kernel: str = "rbf"
    trend: Mean = Polynomial("quadratic")
    nugget: float = 1e-6
    prior: HyperPrior = HyperPrior()

    def process(self, hyper: Hyperparameters) -> Process:
        """The process with these hyperparameters."""
        d, prior = len(hyper.log_lengthscale), self.prior
        correlation = STATIONARY[self.kernel](np.ones(d), prior=prior.lengthscale(d))
        noise: Noise = Nugget(self.nugget) + Shaped(1.0, prior=prior.shaping())
        noise = noise if hyper.log_scale is None else noise + Given()
        noise = noise if hyper.log_noise is None else noise + Common(1.0, prior=prior.noise())
        kernel = Scaled(correlation, 1.0, prior=prior.amplitude())
        scale = None if hyper.log_scale is None else 1.0
        return Process(kernel, self.trend, noise, scale=scale, prior=prior.scale()).with_vector(hyper.of_process())

    def condition(self, data: Data, hyper: Hyperparameters) -> CholeskyPosterior:
        """The process given the data; O(n^3 / 3 + n^2 p). See ``Process.condition``."""
        return self.process(hyper).condition(data)

    def priors(self, hyper: Hyperparameters) -> Priors:
        """Priors of the hyperparameters, in the order of ``Hyperparameters.vector``."""
        return Priors.of(self.process(hyper).priors).in_order(hyper.order)

    def negative_log_evidence(self, data: Data, vector: Array, *, given: Data | None = None) -> tuple[float, Array]:
        """See ``surrogate.gp.evidence.marginal``; all in the order of ``Hyperparameters.vector``."""
        hyper = Hyperparameters.of(vector, data.u.shape[1])
        value, gradient = negative_log_evidence(self.process(hyper), data, hyper.of_process(), given=given)
        return value, gradient[hyper.order]

    def log_posteriors(
        self, data: Data, hypers: Sequence[Hyperparameters], *, given: Data | None = None
    ) -> list[float]:
        """Log posterior densities of hyperparameters, up to a constant; -inf if a matrix cannot be factored.

        Args:
            data: Training points.
            hypers: At least one; all of them with a scale, or none, and so for the noise.
            given: See ``fit``.
        """
        priors, vectors = self.priors(hypers[0]), [hyper.of_process() for hyper in hypers]
        values = log_evidences(self.process(hypers[0]), data, vectors, given=given)
        return [v - priors.penalty(hyper.vector())[0] for v, hyper in zip(values, hypers, strict=True)]

    def fit(
        self,
        data: Data,
        starts: Sequence[Hyperparameters],
        *,
        given: Data | None = None,
        max_evaluations: int = 60,
    ) -> tuple[Hyperparameters, Fit]:
        """The best maximum of the log posterior of the hyperparameters reached from the given starts.

        Args:
            data: Training points.
            starts: Where the optimiser starts; the first is usually the previous fit. A start without an output scale
                is fitted with the scale profiled.
            given: Some of the points, whose own likelihood is divided out: what remains is the density of the others
                given these.
            max_evaluations: Limit per start.

        Returns:
            The hyperparameters, and the fit with their vector and the log posterior there.

        Raises:
            ValueError: If there are no starts.
            FloatingPointError: If some covariance cannot be factored with any nugget.
        """
        found = merged([self._from(start, data, given, max_evaluations) for start in starts])
        return Hyperparameters.of(found.vector, data.u.shape[1]), found

    def _from(self, start: Hyperparameters, data: Data, given: Data | None, max_evaluations: int) -> Fit:
        process, vector = self.process(start), start.vector()
        return fit(process, data, starts=[vector], given=given, order=start.order, max_evaluations=max_evaluations)


@dataclass(frozen=True, eq=False)
class Residual:
    """The numbers of the stationary residual of a conditioned process.

    Attributes:
        kernel: Name of the correlation function.
        lengthscale: With shape (d,).
        variance: Variance of the residual, in units of the squared output scale.
    """

    kernel: str
    lengthscale: Array
    variance: float

    @classmethod
    def of(cls, posterior: CholeskyPosterior) -> Residual:
        """The hyperparameters of a posterior.

        Raises:
            TypeError: If its kernel is not a scaled stationary one.
        """
        kernel = posterior.process.kernel
        part = kernel.parts[0] if isinstance(kernel, Scaled) else None
        if not isinstance(kernel, Scaled) or not isinstance(part, StationaryKernel):
            msg = f"the kernel must be a scaled stationary one, got {type(kernel).__name__}"
            raise TypeError(msg)
        return cls(part.function.name, part.lengthscale, kernel.variance)

    def weights(self, posterior: CholeskyPosterior) -> tuple[Array, Indices, Array]:
        """Weights of the posterior mean: of k(u, u_i), with shape (n,), and of its derivatives with respect to u_i.

        The latter are given by the m points that have them and their weights, with shape (m, d).
        """
        n, d = posterior.u.shape
        weights, at = (self.variance * posterior.alpha).cpu().numpy(), posterior.data.at
        known = np.empty(0, dtype=np.int64) if at is None else at.cpu().numpy()
        return weights[:n], known, weights[n:].reshape(-1, d)


# Inputs that move


@dataclass(frozen=True, eq=False)
class Movable:
    """Training points whose inputs depend on coefficients, which have the prior sd ``COEFFICIENT_SD``.

    Attributes:
        at: Training set at coefficients with shape (k,).
        pull: From coefficients, and derivatives of a function with respect to the inputs with shape (n, d), to those
            with respect to the coefficients.
        start: Coefficients from which to begin.
        given: Rows to be conditioned on only.
    """

    at: Callable[[Array], Data]
    pull: Callable[[Array, Array], Array]
    start: Array
    given: Indices

    def objective(self, process: Process, order: Indices, x: Array) -> tuple[float, Array]:
        """Negative log evidence of hyperparameters and coefficients, one after the other in x, and its gradient."""
        theta, coefficients = np.split(x, [len(x) - len(self.start)])
        vector, data = np.empty(len(theta)), self.at(coefficients)
        vector[order] = theta
        value, gradient, slopes = with_input_slopes(process, data, vector)
        if len(self.given):
            less, slope, moved = with_input_slopes(process, data.subset(self.given), vector)
            value, gradient = value - less, gradient - slope
            slopes[self.given] -= moved
        return value, np.concatenate([gradient[order], self.pull(coefficients, slopes)])


def fit_movable(
    family: Trended, data: Movable, starts: Sequence[Hyperparameters], *, max_evaluations: int = 60
) -> tuple[Hyperparameters, Array, Fit]:
    """See ``Trended.fit``; fits hyperparameters and coupling coefficients together.

    Returns:
        The hyperparameters, the coefficients, and the fit.

    Raises:
        ValueError: If there are no starts.
        FloatingPointError: If some covariance cannot be factored with any nugget.
    """
    found = merged([_fit_movable(family, data, start, max_evaluations) for start in starts])
    theta, coefficients = np.split(found.vector, [len(found.vector) - len(data.start)])
    return Hyperparameters.of(theta, len(starts[0].log_lengthscale)), coefficients, found


def _fit_movable(family: Trended, data: Movable, start: Hyperparameters, max_evaluations: int) -> Fit:
    process, order, k = family.process(start), start.order, len(data.start)
    bound = np.full(k, COEFFICIENT_BOUND)
    of_coefficients = Priors(np.zeros(k), np.full(k, COEFFICIENT_SD**-2), -bound, bound)
    priors = JoinedPriors(family.priors(start), of_coefficients)
    return maximise(
        lambda x, factor: data.objective(process if factor == 1.0 else process.raised(factor), order, x),
        np.concatenate([start.vector(), data.start]),
        priors,
        max_evaluations=max_evaluations,
    )
