"""The target of a posterior run: a log-likelihood and the prior of its parameters."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from surrogate.problem.discrete import Discrete
from surrogate.problem.evaluation import (
    GRADIENT,
    Evaluation,
    UnusableError,
    describe_error,
    gradient_block,
    gradient_part,
    read_answer,
    unstack_answers,
    without_gradient,
)
from surrogate.problem.observables import BoundObservables, Observables
from surrogate.problem.prior import Prior
from surrogate.problem.signature import takes_names

__all__ = ["Posterior"]


@dataclass(frozen=True, eq=False)
class Posterior:
    """A log-likelihood with the prior of its parameters.

    The likelihood is called with one array of shape (d,) if it has a single required positional argument, and with the
    parameters by name if its arguments have their names. With ``vectorized`` it gets an array of shape (b, d), or
    arrays of shape (b,) by name. It returns a float, ``(float, dict of derived numbers)`` or ``(float, noise sd)``;
    with ``vectorized`` each number is an array of shape (b,). With ``gradient`` it returns ``(float, gradient)``, where
    the gradient has shape (d,), or has it as ``"gradient"`` among the derived numbers; with ``vectorized`` its shape is
    (b, d). A gradient that is not finite counts as missing; the value is still used.

    Passed by name, a category is its text and an integer a Python int. In an array they are codes: a category is its
    position 0, 1, ... among the categories, and an integer is itself.

    Attributes:
        log_likelihood: A callable, which may return -inf; or an `Observables`, whose evaluations include the
            simulator's outputs.
        prior: A `Prior`, or anything that `Prior.of` takes.
        vectorized: Whether it takes many points in one call.
        noise: Standard deviation of values returned without one; None if exact.
        gradient: Whether the derivatives with respect to the parameters are returned too.

    Raises:
        TypeError: If the likelihood is not callable, or its arguments match neither convention.
        ValueError: If the noise is negative or not finite.

    >>> Posterior(lambda a, b: -(a**2) - b**2, {"a": (-1, 1), "b": (-1, 1)}).evaluate([0.5, 0.5]).y
    -0.5
    """

    log_likelihood: Any
    prior: Prior
    vectorized: bool = field(default=False, kw_only=True)
    noise: float | None = field(default=None, kw_only=True)
    gradient: bool = field(default=False, kw_only=True)
    _by_name: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.log_likelihood, Observables):
            self._bind(self.log_likelihood)
            return
        if not callable(self.log_likelihood):
            msg = f"log_likelihood must be callable, got {type(self.log_likelihood).__name__}"
            raise TypeError(msg)
        given: Any = self.noise
        if np.ndim(given) > 0:
            msg = (
                f"noise must be one standard deviation, got an array with shape {np.shape(given)}; if it differs "
                "between points, return (value, noise sd) from the log-likelihood"
            )
            raise TypeError(msg)
        if self.noise is not None and not 0 <= self.noise < math.inf:
            msg = f"noise must be a finite standard deviation >= 0 or None, got {self.noise!r}"
            raise ValueError(msg)
        object.__setattr__(self, "prior", Prior.of(self.prior))
        object.__setattr__(self, "_by_name", takes_names(self.log_likelihood, self.prior.names))

    def _bind(self, target: Observables) -> None:
        """Checks a target with a simulator and binds it to the parameters of the prior."""
        for name, given in (("vectorized", self.vectorized), ("noise", self.noise), ("gradient", self.gradient)):
            if given:
                msg = f"{name}= does not go with Observables, got {given!r}: leave it out"
                raise ValueError(msg)
        object.__setattr__(self, "prior", Prior.of(self.prior))
        object.__setattr__(self, "log_likelihood", target.bound(self.prior.names))
        object.__setattr__(self, "_by_name", False)

    @property
    def observables(self) -> BoundObservables | None:
        """The simulator and the comparison; None for a plain log-likelihood."""
        return self.log_likelihood if isinstance(self.log_likelihood, BoundObservables) else None

    def evaluate(self, x: np.ndarray) -> Evaluation:
        """The evaluation of the point x, with shape (d,).

        Exceptions of the likelihood become failed evaluations; only KeyboardInterrupt and SystemExit are raised.

        Raises:
            ValueError: If x does not have shape (d,).
        """
        x = np.asarray(x, dtype=np.float64)
        if x.shape != (self.prior.d,):
            msg = f"a point must have shape ({self.prior.d},), got {x.shape}"
            raise ValueError(msg)
        if self.vectorized:
            return self.evaluate_many(x[None])[0]
        if self.observables is not None:
            return self._timed(x, lambda answer: [answer], n=1)[0]
        return self._timed(x, lambda answer: [self._evaluation(answer)], n=1)[0]

    def evaluate_many(self, x: np.ndarray) -> list[Evaluation]:
        """Evaluations of points with shape (b, d), by one call of a vectorised likelihood.

        If a vectorised likelihood raises an exception, all b evaluations are failures; a value of NaN or +inf is a
        failure of its own point only. A likelihood that is not vectorised is called once for each point.

        Raises:
            ValueError: If x does not have shape (b, d).
        """
        x = self.prior._points(x)
        if not self.vectorized:
            return [self.evaluate(point) for point in x]
        if not len(x):
            return []
        return self._timed(x, lambda answer: [self._evaluation(one) for one in self._unstack(answer, len(x))], n=len(x))

    def _timed(self, x: np.ndarray, read: Callable[[Any], list[Evaluation]], *, n: int) -> list[Evaluation]:
        """The evaluations of n points by one call of the likelihood at x, with its duration."""
        start = time.perf_counter()
        try:
            evaluations = read(self._call(x))
        except Exception as error:  # any exception of a user's function is a failed evaluation
            evaluations = [Evaluation.failure(describe_error(error))] * n
        seconds, worker = (time.perf_counter() - start) / n, f"{socket.gethostname()}:{os.getpid()}"
        return [replace(evaluation, seconds=seconds, worker=worker) for evaluation in evaluations]

    def _call(self, x: np.ndarray) -> Any:
        if self.observables is not None:
            return self.observables.evaluate(x.copy())
        if not self._by_name:
            return self.log_likelihood(x.copy())
        columns: Any = x.T.copy() if x.ndim == 2 else x.tolist()
        if self.prior.levels is not None:
            columns = _with_values(columns, self.prior)
        return self.log_likelihood(**dict(zip(self.prior.names, columns, strict=True)))

    def _evaluation(self, answer: Any) -> Evaluation:
        try:
            if not self.gradient:
                return read_answer(answer, self.prior.names, noise=self.noise or 0.0)
            answer, gradient = without_gradient(answer, self.prior.d)
            evaluation = read_answer(answer, self.prior.names, noise=self.noise or 0.0)
            return replace(evaluation, gradient=gradient) if evaluation.status == "ok" else evaluation
        except UnusableError as error:
            return Evaluation.failure(str(error))

    def _unstack(self, answer: Any, b: int) -> list[Any]:
        """The return value for b points as b return values of single points."""
        if not self.gradient:
            return unstack_answers(answer, b)
        rest, gradients = gradient_part(answer)
        parts = [part if isinstance(part, tuple) else (part, {}) for part in unstack_answers(rest, b)]
        if gradients is None:
            return parts
        rows = gradient_block(gradients, (b, self.prior.d))
        return [(value, {**extra, GRADIENT: row}) for (value, extra), row in zip(parts, rows, strict=True)]


def _with_values(columns: Any, prior: Prior) -> list[Any]:
    """The arguments by name, with codes replaced by categories and Python ints, or arrays of these if vectorised."""
    out = []
    for column, parameter in zip(columns, prior.parameters, strict=True):
        kind = parameter.prior
        if not isinstance(kind, Discrete):
            out.append(column)
        elif np.ndim(column):
            out.append(np.array(kind.values)[kind.index(column)])
        else:
            out.append(kind.value(column))
    return out
