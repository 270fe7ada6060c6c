"""Maximum a posteriori hyperparameters of a Gaussian process by L-BFGS-B with rescue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from scipy.optimize import minimize

from surrogate.arrays import Array, Indices
from surrogate.gp.trended import (
    GPModel,
    GPRecipe,
    Hyperparameters,
    TrainingSet,
    condition,
    negative_log_marginal,
    with_input_slopes,
)

__all__ = [
    "COEFFICIENT_SD",
    "HyperPrior",
    "MovableSet",
    "Rescued",
    "condition_rescued",
    "fit",
    "fit_movable",
    "negative_log_posterior",
    "rescued",
]

T = TypeVar("T")

RESCUES = 13
"""How often a nugget is raised tenfold at most: from rounding to beyond the size of the kernel itself."""


@dataclass(frozen=True, eq=False)
class Rescued(Generic[T]):
    """The answer of an attempt, and by what its nugget was raised.

    Attributes:
        value: What the attempt returned.
        factor: 1 where it succeeded at once.
    """

    value: T
    factor: float


def rescued(attempt: Callable[[float], T], *, usable: Callable[[T], bool] = lambda _: True) -> Rescued[T]:
    """The first usable answer with a nugget raised tenfold as often as the factorisation needs it.

    An infinite value would end a line search, which then reports convergence at a useless point.

    Args:
        attempt: Called with the factor on the nugget: 1, 10, 100 and so on. It may raise ``LinAlgError``.
        usable: Whether an answer counts, such as only a finite one.

    Raises:
        FloatingPointError: If no factor helps.
    """
    factor = 1.0
    for power in range(RESCUES):
        factor = 10.0**power
        try:
            value = attempt(factor)
        except torch.linalg.LinAlgError:
            continue
        if usable(value):
            return Rescued(value, factor)
    msg = f"the covariance cannot be factored even with {factor:g} times the nugget: are all inputs finite?"
    raise FloatingPointError(msg)


COEFFICIENT_SD = 0.5
"""Prior sd of the coefficients of couplings, whose coordinates have units of the order of the posterior's width."""


@dataclass(frozen=True)
class HyperPrior:
    """Independent normal priors on the log-hyperparameters, with bounds.

    Attributes:
        amplitude_sd: Of log a, about 0: a may fall to the lower bound when the trend explains everything.
        lengthscale_sd: Of log l, about log(2 sqrt(d)): points in d whitened dimensions are sqrt(2 d) apart.
        amplitude_bounds: Of a. The lower one keeps a trace of doubt about the trend.
        shaping_bounds: Of c. A point keeps at least three standard deviations of its gap.
        lengthscale_bounds: Of l.
        scale_sd: Of log s, about 0.
        scale_bounds: Of s.
        noise_sd: Of log v, about 0: noise of the order of one matters to a posterior.
        noise_bounds: Of v, in units of the log-likelihood.
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

    def bounds(self, d: int, *, scaled: bool, noisy: bool = False) -> Array:
        """Bounds of the vector of log-hyperparameters, with shape (d + 2, 2), (d + 3, 2) or (d + 4, 2)."""
        rows = [self.amplitude_bounds, self.shaping_bounds, *([self.lengthscale_bounds] * d)]
        rows += [self.scale_bounds] * scaled + [self.noise_bounds] * noisy
        return np.log(np.array(rows))

    def penalty(self, theta: Array, d: int) -> tuple[float, Array]:
        """Negative log density up to a constant, and its gradient."""
        centre = np.zeros(len(theta))
        precision = np.zeros(len(theta))
        precision[0] = self.amplitude_sd**-2
        centre[2 : d + 2] = np.log(2.0 * np.sqrt(d))
        precision[2 : d + 2] = self.lengthscale_sd**-2
        precision[d + 2 : d + 3] = self.scale_sd**-2
        precision[d + 3 :] = self.noise_sd**-2
        pull = precision * (theta - centre)
        return 0.5 * float(pull @ (theta - centre)), pull


def negative_log_posterior(
    recipe: GPRecipe,
    data: TrainingSet,
    prior: HyperPrior,
    theta: Array,
    *,
    given: TrainingSet | None = None,
) -> tuple[float, Array]:
    """Negative log marginal likelihood plus the penalty of the prior, and the gradient.

    Args:
        recipe: Kernel, trend, nugget.
        data: Training points.
        prior: Prior of the hyperparameters.
        theta: Log-hyperparameters.
        given: Some of the points, whose own likelihood is divided out: what remains is the density of the others given
            these.
    """
    value, gradient = negative_log_marginal(recipe, data, theta, given=given)
    penalty, pull = prior.penalty(theta, data.u.shape[1])
    return value + penalty, gradient + pull


def _rescued(
    objective: Callable[[GPRecipe], tuple[float, Array]], recipe: GPRecipe, n: int, log: list[float]
) -> tuple[float, Array]:
    """The objective with a nugget raised tenfold as often as the Cholesky factorisation needs it.

    An infinite value would end the line search, which then reports convergence at a useless point.
    """
    for power in range(8):
        nugget = recipe.nugget * 10.0**power
        raised = replace(recipe, nugget=nugget)
        try:
            out = objective(raised)
        except torch.linalg.LinAlgError:
            continue
        if np.isfinite(out[0]) and np.isfinite(out[1]).all():
            if power:
                log.append(nugget)
            return out
    msg = f"the kernel matrix of {n} points cannot be factored even with a nugget of {nugget:g}"
    raise FloatingPointError(msg)


def condition_rescued(recipe: GPRecipe, data: TrainingSet, hyper: Hyperparameters) -> GPModel:
    """The process given the data, with a nugget raised tenfold as often as the factorisation needs it.

    As in the fit that found the hyperparameters, which records how often that was.

    Raises:
        FloatingPointError: If the kernel matrix cannot be factored with any nugget.
    """
    for power in range(8):
        try:
            return condition(replace(recipe, nugget=recipe.nugget * 10.0**power), data, hyper)
        except torch.linalg.LinAlgError:
            continue
    msg = f"the kernel matrix of {len(data.y)} points cannot be factored even with a nugget of {1e7 * recipe.nugget:g}"
    raise FloatingPointError(msg)


def fit(
    recipe: GPRecipe,
    data: TrainingSet,
    starts: list[Hyperparameters],
    *,
    prior: HyperPrior | None = None,
    given: TrainingSet | None = None,
    max_evaluations: int = 60,
) -> tuple[Hyperparameters, float, int]:
    """The best maximum of the log posterior of the hyperparameters reached from the given starts.

    Args:
        recipe: Kernel, trend, nugget.
        data: Training points.
        starts: Where the optimiser starts; the first is usually the previous fit. A start without an output scale is
            fitted with the scale profiled.
        prior: Prior of the hyperparameters.
        given: Some of the points, to be conditioned on only, see ``negative_log_posterior``.
        max_evaluations: Limit per start.

    Returns:
        The hyperparameters, the log posterior there, and how many factorisations needed a raised nugget.

    Raises:
        ValueError: If there are no starts.
        FloatingPointError: If some kernel matrix cannot be factored with any nugget.
    """
    prior = prior or HyperPrior()
    d = data.u.shape[1]
    rescues: list[float] = []
    best: tuple[float, Array] | None = None
    for start in starts:
        bounds = prior.bounds(d, scaled=start.log_scale is not None, noisy=start.log_noise is not None)
        result = minimize(
            lambda theta: _rescued(
                lambda raised: negative_log_posterior(raised, data, prior, theta, given=given),
                recipe,
                len(data.y),
                rescues,
            ),
            np.clip(start.vector(), bounds[:, 0], bounds[:, 1]),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxfun": max_evaluations, "maxcor": 20, "ftol": 1e-9},
        )
        if best is None or result.fun < best[0]:
            best = (float(result.fun), np.asarray(result.x))
    if best is None:
        msg = "starts must hold at least one Hyperparameters"
        raise ValueError(msg)
    return Hyperparameters.of(best[1], d), -best[0], len(rescues)


@dataclass(frozen=True, eq=False)
class MovableSet:
    """Training points whose inputs depend on coefficients, which have the prior sd ``COEFFICIENT_SD``.

    Attributes:
        at: Training set at coefficients with shape (k,).
        pull: From coefficients, and derivatives of a function with respect to the inputs with shape (n, d), to those
            with respect to the coefficients.
        start: Coefficients from which to begin.
        given: Rows to be conditioned on only.
    """

    at: Callable[[Array], TrainingSet]
    pull: Callable[[Array, Array], Array]
    start: Array
    given: Indices

    def objective(self, recipe: GPRecipe, prior: HyperPrior, x: Array) -> tuple[float, Array]:
        """Negative log posterior of hyperparameters and coefficients, one after the other in x, and its gradient."""
        theta, coefficients = np.split(x, [len(x) - len(self.start)])
        data = self.at(coefficients)
        value, gradient, slopes = with_input_slopes(recipe, data, theta)
        penalty, pull = prior.penalty(theta, data.u.shape[1])
        if len(self.given):
            less, slope, moved = with_input_slopes(recipe, data.subset(self.given), theta)
            value, gradient = value - less, gradient - slope
            slopes[self.given] -= moved
        by_coefficients = self.pull(coefficients, slopes) + coefficients / COEFFICIENT_SD**2
        value += penalty + 0.5 * float(coefficients @ coefficients) / COEFFICIENT_SD**2
        return value, np.concatenate([gradient + pull, by_coefficients])


def fit_movable(
    recipe: GPRecipe,
    data: MovableSet,
    starts: list[Hyperparameters],
    *,
    prior: HyperPrior | None = None,
    max_evaluations: int = 60,
) -> tuple[Hyperparameters, Array, float, int]:
    """As ``fit``, of hyperparameters and coefficients together.

    Returns:
        The hyperparameters, the coefficients, the log posterior, and how many factorisations needed a raised nugget.

    Raises:
        ValueError: If there are no starts.
        FloatingPointError: If some kernel matrix cannot be factored with any nugget.
    """
    prior = prior or HyperPrior()
    n, d = data.at(data.start).u.shape
    rescues: list[float] = []
    results = []
    for start in starts:
        bounds = prior.bounds(d, scaled=start.log_scale is not None, noisy=start.log_noise is not None)
        bounds = np.concatenate([bounds, np.tile([-4.0, 4.0], (len(data.start), 1))])
        result = minimize(
            lambda x: _rescued(lambda raised: data.objective(raised, prior, x), recipe, n, rescues),
            np.clip(np.concatenate([start.vector(), data.start]), bounds[:, 0], bounds[:, 1]),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxfun": max_evaluations, "maxcor": 20, "ftol": 1e-9},
        )
        results.append(result)
    if not results:
        msg = "starts must hold at least one Hyperparameters"
        raise ValueError(msg)
    best = min(results, key=lambda result: float(result.fun))
    theta, coefficients = np.split(np.asarray(best.x), [len(best.x) - len(data.start)])
    return Hyperparameters.of(theta, d), coefficients, -float(best.fun), len(rescues)
