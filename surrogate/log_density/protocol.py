"""Protocols of surrogates for the posterior loop: the surrogate, its parameters, and its learner.

A kind of surrogate has three parts: ``Parameters``, which a run saves; ``LogDensity``, the fitted model given
parameters and evaluations; and a ``Learner``, which fits parameters to data and builds the model from both. Points t
are in unit coordinates, with shape (m, d). Unless stated otherwise values are (y - y_max) / temperature: the
log-likelihood relative to the best evaluation, in units of the temperature at which it was fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from surrogate.arrays import Array
from surrogate.linalg.lowrank import ColumnAccess
from surrogate.log_density.feasibility.protocol import Feasibility
from surrogate.log_density.remainder import Remainder
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.samplers.mixture import Mixture

__all__ = ["Conditional", "Extrapolating", "Learner", "LogDensity", "Parameters", "Quality"]


class Quality(Protocol):
    """How a surrogate was fitted, and how well the fit explains the data."""

    @property
    def temperature(self) -> float:
        """Temperature at which values are modelled, at least 1."""
        ...

    @property
    def exact(self) -> bool:
        """Whether polynomials alone explain the data."""
        ...

    @property
    def coarse(self) -> bool:
        """Whether the fit explains deep points by noise of more than a tenth of their depth."""
        ...


class Parameters(Quality, Protocol):
    """Parameters of a surrogate, which together with the evaluations define it exactly."""

    @property
    def n(self) -> int:
        """Number of rows of the dataset in the fit."""
        ...

    @property
    def noise(self) -> float:
        """Sd of the noise detected in the values, in nats; 0 if they are exact."""
        ...

    @property
    def of_outputs(self) -> bool:
        """Whether the surrogate is of a simulator's outputs."""
        ...

    def numbers(self) -> dict[str, float]:
        """Numbers for the trace: amplitude, shaping, output_scale and rescues, NaN where absent."""
        ...

    def to_arrays(self) -> dict[str, NDArray]:
        """The parameters as arrays of numbers and fixed-width text, without loss, and their kind: see ``restore``."""
        ...


class LogDensity(Quality, Protocol):
    """A fitted, immutable surrogate of a log-likelihood.

    Points t are in unit coordinates, with shape (m, d). A value is (y - y_max) / temperature for a log-likelihood y.
    """

    @property
    def y_max(self) -> float:
        """The largest log-likelihood among the data."""
        ...

    @property
    def device(self) -> torch.device:
        """Device on which ``covariance`` is computed."""
        ...

    @property
    def feasibility(self) -> Feasibility:
        """Classifier of feasible points, in whitened coordinates."""
        ...

    @property
    def infeasible(self) -> Array:
        """Points that count as infeasible, in whitened coordinates, with shape (k, d)."""
        ...

    def whiten(self, t: Array) -> Array:
        """Whitened coordinates u, in which distances are meaningful, with shape (m, e)."""
        ...

    def predict(self, t: Array) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood in nats where it is feasible, each with shape (m,)."""
        ...

    def mean(self, t: Array) -> Array:
        """The mean that ``predict`` gives, without the cost of the sd, with shape (m,)."""
        ...

    def bare_mean(self, t: Array) -> Array:
        """Mean of the value without trust region and feasibility, with shape (m,)."""
        ...

    def smooth(self, t: Array) -> Array:
        """Mean of the value, lowered outside the trust region around the data, with shape (m,)."""
        ...

    def if_feasible(self, t: Array) -> Array:
        """The result of ``smooth``, limited from above where points are known to be infeasible, with shape (m,)."""
        ...

    def relative(self, t: Array, *, floor: float = 0.0) -> Array:
        """The result of ``if_feasible`` plus the log of the probability of being feasible, with shape (m,).

        The probability counts as at least ``floor``.
        """
        ...

    def deviations(self, t: Array, count: int, rng: np.random.Generator, *, inflate: float = 1.0) -> Array:
        """Joint paths of the value minus its mean, with shape (count, m); -inf where a path is infeasible."""
        ...

    def covariance(self, t: Array, weights: Array) -> ColumnAccess:
        """Covariance of weights times values at t, with shape (m, m), by columns."""
        ...

    def trend_depth(self, t: Array) -> Array | None:
        """Depth in nats of a concave quadratic trend below its maximum, with shape (m,); None if there is none."""
        ...

    def remainder(self, t: Array, y: Array) -> Remainder | None:
        """What Gaussians leave of finite log-likelihoods y at t; None unless they explain nearly all exactly."""
        ...

    def left_out_depth(self, y: Array) -> Array:
        """Leave-one-out prediction of the depth in nats below y_max for each finite value y, with shape (n,)."""
        ...

    def predictor(
        self, names: tuple[str, ...], bounds: Array, location: Array, scale: Array, origin: Array | None = None
    ) -> Any:
        """A predictor as a function of parameters, for export.

        Parameters satisfy x = location + scale t, or log(x - origin) = location + scale t where origin is not NaN.
        """
        ...


@runtime_checkable
class Extrapolating(Protocol):
    """A surrogate that also estimates its error where it extrapolates."""

    def unseen_sd(self, t: Array) -> Array:
        """Sd in nats of errors that the process does not include, with shape (m,)."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """A surrogate that may know its conditionals in closed form."""

    def conditional_mixture(
        self, t: Array, log_prior: Callable[[Array], Array], temperature: float = 1.0
    ) -> Mixture | None:
        """A mixture close to the posterior, in unit coordinates; None where no closed form is known.

        Args:
            t: Points that set its range, with shape (n, d).
            log_prior: Log prior density per unit of t, at points with shape (m, d).
            temperature: The log posterior is divided by it.
        """
        ...


class Learner(Protocol):
    """Learner of a kind of surrogate; it only gets parameters that it has made."""

    def fit(
        self, problem: FitProblem, before: Parameters | None, *, cold_start: bool, search: bool, noise: bool
    ) -> Parameters:
        """Parameters that fit the data.

        Args:
            problem: Data, draws and temperature.
            before: Parameters of the last step; None at first.
            cold_start: Whether to start from default parameters as well.
            search: Whether to search for another structure.
            noise: Whether to search for undeclared noise.
        """
        ...

    def open_minded(self, problem: FitProblem) -> Parameters:
        """Parameters of a surrogate with a constant mean, which excludes nothing far from the data."""
        ...

    def build(self, data: Dataset, t: Array, parameters: Parameters, *, device: str = "cpu") -> LogDensity:
        """The surrogate with these parameters, given the data to which they were fitted."""
        ...
