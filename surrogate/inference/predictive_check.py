"""Posterior predictive checks: comparison of observed data with data simulated at draws of the posterior."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array
from surrogate.rng import generator

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["PredictiveCheck", "predictive_check"]


_EXTREME = 0.025  # tail probability on either side below which a statistic disagrees


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """Statistics of the observed data and of data simulated at draws of the posterior.

    Attributes:
        names: Names of the k statistics.
        observed: Their values for the observed data, with shape (n, k); all rows are equal unless a statistic depends
            on the parameters.
        replicated: Their values for the simulated data, with shape (n, k).
    """

    names: tuple[str, ...]
    observed: Array
    replicated: Array

    @property
    def p_values(self) -> Array:
        """Share of the replications above the observed value, with ties counted half, with shape (k,)."""
        above, equal = self.replicated > self.observed, self.replicated == self.observed
        return above.mean(0) + 0.5 * equal.mean(0)

    @property
    def errors(self) -> Array:
        """Monte Carlo standard errors of the p-values, with shape (k,)."""
        p, n = self.p_values, len(self.replicated)
        return np.sqrt(np.maximum(p * (1.0 - p), 1.0 / n) / n)

    @property
    def disagreeing(self) -> tuple[str, ...]:
        """Names of statistics with p-values below 2.5 % or above 97.5 %."""
        p = self.p_values
        return tuple(name for name, value in zip(self.names, p, strict=True) if min(value, 1.0 - value) < _EXTREME)

    def __str__(self) -> str:
        rows = zip(self.names, self.observed.mean(0), self.replicated.mean(0), self.p_values, strict=True)
        lines = [f"posterior predictive check, {len(self.replicated)} replications"]
        lines += [f"  {n:<16}observed {o:<12.5g}replicated {r:<12.5g}p = {p:.3f}" for n, o, r, p in rows]
        bad = ", ".join(self.disagreeing)
        return "\n".join([*lines, f"  disagrees: {bad}" if bad else "  no statistic disagrees"])


def predictive_check(
    result: Result,
    simulate: Callable[..., ArrayLike],
    data: ArrayLike,
    *,
    statistics: Mapping[str, Callable[..., float]] | None = None,
    n: int = 200,
    seed: int = 0,
) -> PredictiveCheck:
    """A posterior predictive check (Rubin 1984; Gelman, Meng & Stern 1996, Statistica Sinica 6, 733).

    A p-value near 0 or 1 means that data like the observed ones are rare under the model. Because the parameters were
    fitted to the same data, p-values concentrate around 0.5 if the model is right.

    Args:
        result: Result of the run.
        simulate: Function of a point x with shape (d,) and a ``numpy.random.Generator`` that returns simulated data,
            including noise, with the shape of the observed data.
        data: The observed data.
        statistics: Functions by name, of the data, or of the data and the point (a discrepancy such as chi-squared). By
            default mean, sd, minimum and maximum.
        n: Number of draws of the posterior, at each of which data are simulated once.
        seed: Seed for choosing the draws and for the simulations.

    Raises:
        ValueError: If simulated and observed data differ in shape, or ``n`` is too small.
    """
    if n < 2:
        msg = f"n must be at least 2, got {n}"
        raise ValueError(msg)
    truth = np.asarray(data, dtype=np.float64)
    functions = dict(_USUAL if statistics is None else statistics)
    rng = generator(seed, "predictive check")
    rows = rng.choice(len(result.weights), n, p=result.weights)
    observed, replicated = np.empty((n, len(functions))), np.empty((n, len(functions)))
    for i, x in enumerate(result.samples[rows]):
        simulated = np.asarray(simulate(x.copy(), rng), dtype=np.float64)
        if simulated.shape != truth.shape:
            msg = f"simulate must return data with shape {truth.shape}, like the observed ones, got {simulated.shape}"
            raise ValueError(msg)
        observed[i] = [_value(function, truth, x) for function in functions.values()]
        replicated[i] = [_value(function, simulated, x) for function in functions.values()]
    return PredictiveCheck(tuple(functions), observed, replicated)


def _value(function: Callable[..., Any], data: Array, x: Array) -> float:
    return float(function(data, x) if _takes_point(function) else function(data))


def _takes_point(function: Callable[..., Any]) -> bool:
    """Whether a statistic takes the parameters, as a second required argument."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(a.kind in kinds and a.default is a.empty for a in arguments) > 1


_USUAL: dict[str, Callable[..., float]] = {
    "mean": lambda data: float(np.mean(data)),
    "sd": lambda data: float(np.std(data)),
    "smallest": lambda data: float(np.min(data)),
    "largest": lambda data: float(np.max(data)),
}
