"""Targets made of an expensive simulator, whose outputs are learned, and a cheap comparison with data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.problem.evaluation import Evaluation, UnusableError, describe_error, read_answer
from surrogate.problem.outputs import Layout, Outputs
from surrogate.problem.signature import takes_names

__all__ = ["Observables"]


@dataclass(frozen=True, eq=False)
class Observables:
    """A log-likelihood compare(simulator(slow parameters), all parameters) with an expensive simulator.

    A run learns the outputs of the simulator as functions of the slow parameters, which takes far fewer calls than
    learning the log-likelihood. The other parameters are *fast*: they cost no call.

    ``simulator`` takes the slow parameters by name, or as one array in the order of ``slow``. It returns an array or a
    dict of arrays of any fixed shapes, or a pair of these and a dict of derived numbers. For an impossible point it may
    return -inf instead. Exceptions and values that are not finite are failed evaluations.

    ``compare`` takes the outputs, as the simulator returns them, and a dict of all parameters, and returns the
    log-likelihood (natural log, -inf where impossible). It is called at draws of the surrogate, thousands of times per
    iteration. With ``vectorized`` it takes m points in one call, as outputs with a leading axis of m and parameters
    with shape (m,), and returns shape (m,). This is the default if ``compare`` has a true attribute ``vectorized``.

    If ``compare`` has a method ``parts``, which takes the same arguments and returns a dict of numbers, such as the
    chi2 of each data set, these are recorded as derived values. Draws get them from their emulated outputs.

    Attributes:
        simulator: The expensive function.
        compare: The cheap function, such as a `GaussianData`.
        slow: Names of the parameters that the simulator takes; by default all.
        vectorized: Whether ``compare`` takes many points in one call.

    Raises:
        TypeError: If the simulator or the comparison is not callable.
        ValueError: If ``slow`` is empty or names a parameter twice.

    >>> target = Observables(lambda a: np.array([a, a * a]), lambda out, p: -float(((out - p["b"]) ** 2).sum()), ["a"])
    >>> target.slow
    ('a',)
    """

    simulator: Callable[..., Any]
    compare: Callable[..., Any]
    slow: Sequence[str] | None = None
    vectorized: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for what in ("simulator", "compare"):
            if not callable(getattr(self, what)):
                msg = f"{what} must be callable, got {type(getattr(self, what)).__name__}"
                raise TypeError(msg)
        if getattr(self.compare, "vectorized", False):
            object.__setattr__(self, "vectorized", True)
        if self.slow is None:
            return
        if isinstance(self.slow, str):
            msg = f"slow must be a list of names, got the text {self.slow!r}"
            raise TypeError(msg)
        names = tuple(self.slow)
        if not names or len(set(names)) < len(names):
            msg = f"slow must name each parameter of the simulator once, got {list(names)}"
            raise ValueError(msg)
        object.__setattr__(self, "slow", names)

    def bound(self, names: tuple[str, ...]) -> BoundObservables:
        """The target with the parameters of a prior.

        Raises:
            ValueError: If a slow parameter is not among the names.
            TypeError: If the simulator takes the slow parameters neither by name nor as one array.
        """
        slow = names if self.slow is None else tuple(self.slow)
        if missing := [name for name in slow if name not in names]:
            msg = f"slow parameters must be parameters of the prior ({', '.join(names)}); not among them: " + ", ".join(
                missing
            )
            raise ValueError(msg)
        by_name = takes_names(self.simulator, slow, role="simulator")
        return BoundObservables(self, names, np.array([names.index(name) for name in slow]), by_name)


@dataclass(frozen=True, eq=False)
class BoundObservables:
    """An ``Observables`` bound to the parameters of a prior.

    Attributes:
        target: Simulator and comparison.
        names: Names of all d parameters.
        columns: Positions of the slow parameters, in the order in which the simulator takes them.
        by_name: Whether the simulator takes them by name.
    """

    target: Observables
    names: tuple[str, ...]
    columns: Indices
    by_name: bool

    def evaluate(self, x: Array) -> Evaluation:
        """The evaluation at x with shape (d,), including outputs; exceptions of the simulator are raised."""
        slow = x[self.columns]
        names = [self.names[j] for j in self.columns]
        if self.by_name:
            answer = self.target.simulator(**dict(zip(names, slow.tolist(), strict=True)))
        else:
            answer = self.target.simulator(slow.copy())
        derived: Mapping[Any, Any] = {}
        if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping):
            answer, derived = answer
        if _is_impossible(answer):
            return Evaluation(-np.inf, "infeasible")
        return self.compared(Outputs.of(answer), x, derived)

    def compared(self, outputs: Outputs, x: Array, derived: Mapping[Any, Any] | None = None) -> Evaluation:
        """The evaluation at x with shape (d,) from known outputs, without calling the simulator."""
        try:
            value = self.compare(outputs.layout, outputs.values[None], x[None])[0]
            parts = self.parts(outputs.layout, outputs.values[None], x[None])
            known = dict(derived or {}) | {name: float(values[0]) for name, values in parts.items()}
            evaluation = read_answer((value, known), self.names, noise=0.0)
        except UnusableError as error:
            evaluation = Evaluation.failure(str(error))
        except Exception as error:  # any exception of a user's function is a failed evaluation
            evaluation = Evaluation.failure(f"compare: {describe_error(error)}")
        return replace(evaluation, outputs=outputs)

    def compare(self, layout: Layout, values: Array, x: Array) -> Array:
        """Log-likelihoods of outputs with shape (m, size) at x with shape (m, d), with shape (m,).

        Raises:
            UnusableError: If the comparison does not return a log-likelihood for each point.
        """
        if self.target.vectorized:
            out = np.asarray(self.target.compare(layout.split(values), self._columns(x)), dtype=np.float64)
            if out.shape != (len(x),):
                msg = f"a vectorised compare must return shape ({len(x)},), got {out.shape}"
                raise UnusableError(msg)
            return out
        return np.array([_value(self.target.compare(*given)) for given in self._one_by_one(layout, values, x)])

    @property
    def has_parts(self) -> bool:
        """Whether the comparison names numbers beside its log-likelihood."""
        return hasattr(self.target.compare, "parts")

    def parts(self, layout: Layout, values: Array, x: Array) -> dict[str, Array]:
        """Numbers that the comparison names beside its log-likelihood, each with shape (m,); see ``compare``.

        Raises:
            UnusableError: If they are not numbers, or not the same at all points.
        """
        if not self.has_parts or not len(x):
            return {}
        parts: Callable[..., Mapping[str, Any]] = self.target.compare.parts  # type: ignore[attr-defined]
        if self.target.vectorized:
            found = {
                name: np.asarray(v, dtype=np.float64)
                for name, v in parts(layout.split(values), self._columns(x)).items()
            }
        else:
            rows = [parts(*given) for given in self._one_by_one(layout, values, x)]
            if any(set(row) != set(rows[0]) for row in rows):
                msg = "parts of compare must have the same names at all points"
                raise UnusableError(msg)
            found = {
                name: np.array([_value(row[name], f"the part {name!r} of compare") for row in rows]) for name in rows[0]
            }
        if wrong := [name for name, part in found.items() if part.shape != (len(x),)]:
            name = wrong[0]
            msg = f"parts of a vectorised compare must have shape ({len(x)},), got {found[name].shape} for {name!r}"
            raise UnusableError(msg)
        return found

    def _columns(self, x: Array) -> dict[str, Array]:
        """Parameters by name, each with shape (m,)."""
        return dict(zip(self.names, x.T, strict=True))

    def _one_by_one(self, layout: Layout, values: Array, x: Array) -> Iterator[tuple[Any, dict[str, float]]]:
        """Outputs and parameters of each point, as a comparison of one point takes them."""
        for row, point in zip(values, x.tolist(), strict=True):
            yield layout.split(row), dict(zip(self.names, point, strict=True))


def _is_impossible(answer: Any) -> bool:
    """Whether a simulator returned -inf instead of its outputs."""
    return np.ndim(answer) == 0 and isinstance(answer, (float, np.floating, np.ndarray)) and bool(answer == -np.inf)


def _value(answer: Any, what: str = "the value of compare") -> float:
    if np.shape(answer) not in ((), (1,)) or answer is None:
        msg = f"{what} must be one number, got {type(answer).__name__} with shape {np.shape(answer)}"
        raise UnusableError(msg)
    return float(np.asarray(answer, dtype=np.float64).reshape(()))
