"""Processes of the surrogates: a trend plus a stationary residual, with shaped noise.

    y = s (phi(u).b + a g(u)) + noise,   b ~ N(0, I),   g ~ GP(0, k(|u - u'|_lengthscale)),
    noise variance = s^2 nugget + (c depth)^2 + sigma^2 + v^2.

The depth is measured from the relevant region. The *shaping* coefficient c is fitted: if the trend is exact, c falls to
its lower bound and deep points count in full; otherwise c grows, so that deep points do not distort the mode. c is in
absolute units, so with c below one a deep point is never mistaken for a high one; therefore the output scale s is a
hyperparameter. Without shaping and noise, s may be profiled by leaving it out of the vector. sigma is the known sd of a
value; v is common to all values and is fitted if they seem noisy.
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
"""Prior sd of coupling coefficients, in coordinates with units of about the posterior's width."""

COEFFICIENT_BOUND = 4.0
"""Largest coupling coefficient: eight prior sds."""


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """Natural logarithms of the amplitude a, the shaping c, the output scale s and the lengthscales.

    Attributes:
        log_amplitude: Sd of the residual in units of the output scale.
        log_shaping: Noise sd per unit of depth (relative to the output scale when that is profiled).
        log_lengthscale: Lengthscales in whitened units, with shape (d,).
        log_scale: Output scale; None when it is profiled.
        log_noise: Sd v of undeclared noise; None if there is none. It needs an output scale.
    """

    log_amplitude: float
    log_shaping: float
    log_lengthscale: Array
    log_scale: float | None = None
    log_noise: float | None = None

    @classmethod
    def default(cls, d: int, *, scale: float | None = None) -> Hyperparameters:
        """Initial values of a cold fit: a residual with unit amplitude and lengthscales of 2 sqrt(d)."""
        log_scale = None if scale is None else float(np.log(scale))
        return cls(0.0, np.log(1e-3), np.full(d, np.log(2.0 * np.sqrt(d))), log_scale)

    def vector(self) -> Array:
        """(log a, log c, log l_1, ..., log l_d[, log s[, log v]]): the order for files and fits."""
        tail = [] if self.log_scale is None else [self.log_scale]
        tail += [] if self.log_noise is None else [self.log_noise]
        return np.concatenate([[self.log_amplitude, self.log_shaping], self.log_lengthscale, tail])

    @classmethod
    def of(cls, vector: Array, d: int) -> Hyperparameters:
        """The hyperparameters of a vector, as ``vector()`` gives it."""
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
        amplitude_sd: Standard deviation of log a, about 0; a may fall to the lower bound if the trend explains
            everything.
        lengthscale_sd: Standard deviation of log l, about log(2 sqrt(d)), as points in d whitened dimensions are sqrt(2
            d) apart.
        amplitude_bounds: Bounds of a. The lower one keeps some uncertainty of the trend.
        shaping_bounds: Bounds of c. The depth of a point stays significant at three standard deviations.
        lengthscale_bounds: Bounds of l.
        scale_sd: Standard deviation of log s, about 0.
        scale_bounds: Bounds of s.
        noise_sd: Standard deviation of log v, about 0, because noise of order one matters to a posterior.
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
    """A family of processes with a given kernel and trend, parametrised by ``Hyperparameters``.

    Attributes:
        kernel: Name of the correlation function of the residual, in ``surrogate.gp.kernels.STATIONARY``.
        trend: Basis functions of the mean, such as a polynomial.
        nugget: Noise variance in units of the squared output scale. It bounds the condition number of the covariance by
            about n a^2 / nugget, and its sd of 1e-3 is negligible for a posterior.
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
            hypers: Hyperparameters, at least one. Either all or none of them have a scale, and the same holds for
                noise.
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
        """The maximum a posteriori hyperparameters, as the best of fits from the given starts.

        Args:
            data: Training points.
            starts: Initial values; the first is usually the previous fit. The scale is profiled for starts without an
                output scale.
            given: Subset of the data on which to condition: its own likelihood is divided out, leaving the density of
                the others.
            max_evaluations: Limit per start.

        Returns:
            The hyperparameters, and the fit with their vector and log posterior.

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
    """Hyperparameters of the stationary residual of a posterior.

    Attributes:
        kernel: Name of the correlation function.
        lengthscale: Lengthscales, with shape (d,).
        variance: Variance of the residual, in units of the squared output scale.
    """

    kernel: str
    lengthscale: Array
    variance: float

    @classmethod
    def of(cls, posterior: CholeskyPosterior) -> Residual:
        """The residual of a posterior.

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
        """Weights of k(u, u_i) in the posterior mean, with shape (n,), and of its derivatives with respect to u_i.

        The latter are given as the indices of the m points with derivatives, and weights with shape (m, d).
        """
        n, d = posterior.u.shape
        weights, at = (self.variance * posterior.alpha).cpu().numpy(), posterior.data.at
        known = np.empty(0, dtype=np.int64) if at is None else at.cpu().numpy()
        return weights[:n], known, weights[n:].reshape(-1, d)


# Inputs that move


@dataclass(frozen=True, eq=False)
class Movable:
    """Training points with inputs that depend on coefficients, which have the prior sd ``COEFFICIENT_SD``.

    Attributes:
        at: Function that gives the training set at coefficients with shape (k,).
        pull: Function of the coefficients and of derivatives with respect to inputs, with shape (n, d), that gives
            derivatives with respect to the coefficients.
        start: Initial coefficients.
        given: Rows on which to condition.
    """

    at: Callable[[Array], Data]
    pull: Callable[[Array, Array], Array]
    start: Array
    given: Indices

    def objective(self, process: Process, order: Indices, x: Array) -> tuple[float, Array]:
        """Negative log evidence and its gradient at x, the hyperparameters followed by the coefficients."""
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
    """Hyperparameters and coupling coefficients, fitted together; see ``Trended.fit``.

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
