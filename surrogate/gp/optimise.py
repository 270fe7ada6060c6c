"""Maximum a posteriori hyperparameters by L-BFGS-B, and the rescue rule for covariances that cannot be factored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from scipy.optimize import minimize

from surrogate.arrays import Array
from surrogate.gp.parameters import JoinedPriors, Priors

__all__ = ["Fit", "Objective", "Rescued", "best", "maximise", "rescue"]

T = TypeVar("T")

Objective = Callable[[Array, float], tuple[float, Array]]
"""Negative log evidence and its gradient at a vector, with the nugget times a factor. It may raise ``LinAlgError``."""

RESCUES = 13
"""Largest number of tenfold increases of a nugget: from rounding to more than the kernel itself."""

CORRECTIONS = 20
"""Number of pairs stored by L-BFGS-B: twice its default, because a value costs much more."""


@dataclass(frozen=True, eq=False)
class Rescued(Generic[T]):
    """The result of a rescued attempt, with the factor by which the nugget was raised.

    Attributes:
        value: Result of the attempt.
        factor: Factor on the nugget; 1 if the first attempt succeeded.
    """

    value: T
    factor: float


def rescue(attempt: Callable[[float], T], *, usable: Callable[[T], bool] = lambda _: True) -> Rescued[T]:
    """The first usable result, with the nugget raised tenfold until a factorisation succeeds.

    This is needed because an infinite value would end a line search, with convergence reported at a useless point.

    Args:
        attempt: Called with the factor on the nugget: 1, 10, 100 and so on. It may raise ``LinAlgError``.
        usable: Tells whether a result is usable, such as finite.

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


@dataclass(frozen=True, eq=False)
class Fit:
    """The result of a maximisation.

    Attributes:
        vector: Log-hyperparameters.
        value: Log posterior density there, in nats, up to the constant of the prior.
        n_evaluations: Number of evaluations.
        rescues: Factors on the nugget in evaluations that needed one.
        status: Message of the optimiser.
    """

    vector: Array
    value: float
    n_evaluations: int
    rescues: tuple[float, ...]
    status: str


def maximise(
    objective: Objective,
    start: Array,
    priors: Priors | JoinedPriors,
    *,
    max_evaluations: int = 60,
    tolerance: float = 1e-9,
) -> Fit:
    """The maximum a posteriori fit reached from a start by L-BFGS-B, with rescue.

    Args:
        objective: Negative log evidence and its gradient.
        start: Initial vector, with shape (p,); moved into the bounds.
        priors: Priors of the p entries.
        max_evaluations: Limit of the optimiser.
        tolerance: Relative decrease of the objective at which to stop.

    Raises:
        FloatingPointError: If some covariance cannot be factored with any nugget.
    """
    rescues: list[float] = []
    bounds = priors.bounds

    def posterior(vector: Array) -> tuple[float, Array]:
        """Negative log posterior density and its gradient."""
        found = rescue(lambda factor: objective(vector, factor), usable=_is_finite)
        if found.factor > 1.0:
            rescues.append(found.factor)
        penalty, pull = priors.penalty(vector)
        return found.value[0] + penalty, found.value[1] + pull

    result = minimize(
        posterior,
        np.clip(start, bounds[:, 0], bounds[:, 1]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxfun": max_evaluations, "maxcor": CORRECTIONS, "ftol": tolerance},
    )
    return Fit(np.asarray(result.x), -float(result.fun), int(result.nfev), tuple(rescues), str(result.message))


def best(fits: Sequence[Fit]) -> Fit:
    """The fit with the largest value; the first one if several are equal.

    Raises:
        ValueError: If there are none.
    """
    if not fits:
        msg = "at least one start is needed, got none"
        raise ValueError(msg)
    return max(fits, key=lambda fit: fit.value)


def _is_finite(answer: tuple[float, Array]) -> bool:
    return bool(np.isfinite(answer[0]) and np.isfinite(answer[1]).all())
