"""The surrogate of a log-likelihood: a Gaussian process in whitened coordinates, inside a trust region and a gate.

Points t live in the scaled coordinates of the prior (a box becomes the unit cube). ``SurrogateParameters`` holds only
numbers; ``build`` makes the model again from them and the data, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from surrogate.data import FAILED, INFEASIBLE, OK, Dataset
from surrogate.kernels.stationary import KERNELS
from surrogate.kernels.trend import Trend
from surrogate.models.classifiers import Everywhere, Gate, fit_gate
from surrogate.models.fit import fit
from surrogate.models.gp import GPModel, GPRecipe, Hyperparameters, TrainingSet, condition
from surrogate.models.whitening import Whitening

__all__ = ["LikelihoodModel", "SurrogateParameters", "build", "fit_surrogate", "relevant_depth", "trend_size"]

Array = NDArray[np.float64]


def trend_size(d: int) -> int:
    """Number of coefficients of a quadratic in d dimensions, (d + 1)(d + 2) / 2."""
    return (d + 1) * (d + 2) // 2


def relevant_depth(d: int) -> float:
    """Depth Delta below the maximum down to which a log-density matters to its posterior, 20 + 4 d."""
    return 20.0 + 4.0 * d


@dataclass(frozen=True, eq=False)
class SurrogateParameters:
    """Everything that a surrogate is besides the data.

    Attributes:
        hyper: Hyperparameters of the process.
        whitening: From scaled coordinates t to whitened ones.
        temperature: The process models (y - y_max) / temperature; 1 once the run maps the posterior.
        kernel: Name of the kernel.
        trend: Name of the trend.
        n: Number of rows of the dataset that it has seen.
        log_posterior: Log posterior density of the hyperparameters, for comparisons.
        rescues: Factorisations of the fit that needed a raised nugget.
    """

    hyper: Hyperparameters
    whitening: Whitening
    temperature: float
    kernel: str
    trend: str
    n: int
    log_posterior: float = float("nan")
    rescues: int = 0


@dataclass(frozen=True, eq=False)
class LikelihoodModel:
    """A fitted surrogate of the log-likelihood.

    Attributes:
        parameters: The numbers that define it.
        gp: The process, in whitened coordinates, of (y - y_max) / temperature.
        gate: Where the likelihood is feasible, in whitened coordinates.
        y_max: Largest value among the data.
        low: Lower corner of the box of the kept points, padded, in whitened coordinates.
        high: Upper corner.
    """

    parameters: SurrogateParameters
    gp: GPModel
    gate: Gate | Everywhere
    y_max: float
    low: Array
    high: Array

    def whiten(self, t: Array) -> Array:
        """Whitened coordinates of t, both with shape (m, d)."""
        return self.parameters.whitening.whiten(t)

    def bare_mean(self, t: Array) -> Array:
        """Mean of (y - y_max) / temperature without trust region and gate, with shape (m,)."""
        return self.gp.mean(self.whiten(t))

    def smooth(self, t: Array) -> Array:
        """Mean of (y - y_max) / temperature, bent down outside the trust region, with shape (m,)."""
        u = self.whiten(t)
        excess = np.maximum(self.low - u, 0.0) + np.maximum(u - self.high, 0.0)
        bend = ((excess / (0.1 * (self.high - self.low))) ** 2).sum(1)
        return self.gp.mean(u) - 0.5 * bend

    def relative(self, t: Array) -> Array:
        """The smooth mean plus the log of the probability of being feasible, with shape (m,)."""
        value = self.smooth(t)
        if isinstance(self.gate, Everywhere):
            return value
        with np.errstate(divide="ignore"):
            return value + np.log(self.gate.probability(self.whiten(t)))

    def predict(self, t: Array) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood where it is feasible, each with shape (m,)."""
        u = self.whiten(t)
        temperature = self.parameters.temperature
        return self.y_max + temperature * self.gp.mean(u), temperature * np.sqrt(self.gp.variance(u))


def _kept(y: Array, temperature: float, d: int) -> NDArray[np.bool_]:
    """Finite points that the process sees: all down to Delta, and the best 400 (or 3 p) in any case."""
    gap = (y.max() - y) / temperature
    keep = gap < relevant_depth(d)
    keep[np.argsort(gap, kind="stable")[: max(400, 3 * trend_size(d))]] = True
    return keep


def _training_set(
    data: Dataset, t: Array, parameters: SurrogateParameters, device: str
) -> tuple[TrainingSet, NDArray[np.bool_]]:
    """What the process is trained on, and which rows of the data these are."""
    d = t.shape[1]
    rows = data.status == OK
    rows[rows] = _kept(data.y[rows], parameters.temperature, d)
    y = (data.y[rows] - data.y_max) / parameters.temperature
    gap = np.maximum(0.0, -y - 0.5 * relevant_depth(d))
    noise = data.noise[rows] / parameters.temperature
    u = parameters.whitening.whiten(t[rows])
    return TrainingSet.of(u, y, gap=gap, noise=noise, device=device), rows


def _recipe(parameters: SurrogateParameters, device: str) -> GPRecipe:
    import torch

    return GPRecipe(KERNELS[parameters.kernel], Trend(parameters.trend), device=torch.device(device))


def build(data: Dataset, t: Array, parameters: SurrogateParameters, *, device: str = "cpu") -> LikelihoodModel:
    """The surrogate with these parameters given the first ``parameters.n`` rows of the data.

    Args:
        data: Evaluated points.
        t: Their scaled coordinates, with shape (n, d).
        parameters: Numbers of the surrogate.
        device: Where the linear algebra runs.

    Returns:
        The model. O(n^3) for the factorisation, plus a support vector machine where infeasible points were seen.
    """
    data, t = data.head(parameters.n), t[: parameters.n]
    training, rows = _training_set(data, t, parameters, device)
    gp = condition(_recipe(parameters, device), training, parameters.hyper)
    u = parameters.whitening.whiten(t)
    kept = u[rows]
    pad = 0.5 * (kept.max(0) - kept.min(0)) + 1e-9
    infeasible = (data.status == INFEASIBLE) | (data.status == FAILED)
    known = rows | infeasible
    gate = fit_gate(u[known], ~infeasible[known], doubtful=(data.status == FAILED)[known])
    return LikelihoodModel(parameters, gp, gate, data.y_max, kept.min(0) - pad, kept.max(0) + pad)


def fit_surrogate(
    data: Dataset,
    t: Array,
    whitening: Whitening,
    *,
    temperature: float = 1.0,
    previous: SurrogateParameters | None = None,
    cold: bool = False,
    kernel: str = "rbf",
    trend: str = "quadratic",
    device: str = "cpu",
) -> SurrogateParameters:
    """Parameters of the surrogate that fits the data best, a posteriori.

    Args:
        data: Evaluated points, at least one of them finite.
        t: Their scaled coordinates, with shape (n, d).
        whitening: Coordinates to work in.
        temperature: The process models (y - y_max) / temperature.
        previous: An earlier fit to start from.
        cold: Start from the default hyperparameters too.
        kernel: Name of the kernel.
        trend: Name of the trend.
        device: Where the linear algebra runs.
    """
    d = t.shape[1]
    start = SurrogateParameters(Hyperparameters.default(d), whitening, temperature, kernel, trend, len(data))
    training, _ = _training_set(data, t, start, device)
    starts = [] if previous is None else [previous.hyper]
    if cold or previous is None:
        starts.append(Hyperparameters.default(d))
    hyper, value, rescues = fit(_recipe(start, device), training, starts)
    return replace(start, hyper=hyper, log_posterior=value, rescues=rescues)
