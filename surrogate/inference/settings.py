"""Settings of a run, and conversion of the arguments of `infer` to the inputs of the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from surrogate.arrays import Array
from surrogate.executors.calls import Limits
from surrogate.inference.design import Reference
from surrogate.inference.fast import FastPoints
from surrogate.inference.hidden_modes import check_effort
from surrogate.log_density.feasibility.choice import check_kind
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior
from surrogate.problem.words import did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "GivenSettings",
    "Settings",
    "check_counts",
    "check_seconds",
    "fast_points",
    "initial_data",
    "reference_for",
    "usable_device",
]


@dataclass(frozen=True, eq=False)
class Settings:
    """Less common settings of a run; ``surrogate.infer`` takes them by name.

    Attributes:
        mode: "sync": in batches, with the same numbers for any number of workers. "async": a new point for each worker
            as soon as it is free. "auto": "sync" for up to d workers or if ``fast`` is given, otherwise "async".
        max_eval_seconds: Time limit of one call in seconds; implies ``isolate``.
        max_failures: Number of failed evaluations after which the run ends; None for no limit.
        isolate: Whether each call runs in a child process, so that a crash is only a failed evaluation. The likelihood
            must be importable.
        retries: How often to repeat a failed call at the same point. Time-outs are not repeated. All trials count as
            one call.
        into: Whether ``output`` may hold other files, as long as a run would not replace any of them.
        callback: Called with each new row of the trace.
        n_samples: Effective number of independent posterior draws.
        reweight: Number of draws at which to call the likelihood for exact importance weights. These calls do not count
            in ``max_evaluations``, and the result has only these draws.
        gradient: Whether the likelihood returns its derivatives with respect to the parameters: (float, array (d,)), as
            ``jax.value_and_grad`` does, or as ``"gradient"`` in the dict of derived values. An evaluation then gives d
            + 1 numbers, and designs are smaller. Not possible with periodic parameters.
        feasibility: Classifier of points with a finite log-likelihood: "process" (Gaussian process) or "svm" (support
            vector machine).
        explore: How long to look for further modes once the posterior is known: "fast", "normal" or "thorough" go on as
            long as an evaluation makes a hidden mode less probable by 3, 0.8 or 0.025 %, in long runs half of that. If
            the posterior is not one Gaussian they also go on until it is less probable than 10, 3 or 0.5 %, where few
            evaluations seem enough for that. The status says what is left. "thorough" may take ten times the
            evaluations of a short run. No effect with a reference that has a width.
        confirm: Whether a further batch of evaluations must confirm that all checks agree, and further modes are
            searched for, before the run ends. ``Result.compare_with`` leaves that out, since the evaluations from which
            it starts are those of a run that did it. Without confirmation the run ends as soon as all checks agree
            and the last batch hardly moved the posterior.
        fast: Names of fast parameters, which are cheap to change, and the number of further values of them to evaluate
            at each point. Points with equal slow parameters are evaluated in succession, so this is not possible in
            mode "async".

    Raises:
        ValueError: If a setting has a wrong value.
        TypeError: If a setting has a wrong type.
    """

    mode: str = "auto"
    max_eval_seconds: float | None = None
    max_failures: int | None = None
    isolate: bool = False
    retries: int = 0
    into: bool = False
    callback: Callable[[dict[str, float]], None] | None = None
    n_samples: int = 10_000
    reweight: int | None = None
    gradient: bool = False
    feasibility: str = "process"
    explore: str = "normal"
    confirm: bool = True
    fast: tuple[Sequence[str], int] | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "sync", "async"):
            msg = f"mode must be 'auto', 'sync' or 'async', got {self.mode!r}"
            raise ValueError(msg)
        if self.mode == "async" and self.fast is not None and self.fast[1] and len(self.fast[0]):
            msg = (
                "fast= needs mode='sync' or 'auto', got 'async': points with the same slow parameters would go "
                "to different workers, which would each compute the slow part again"
            )
            raise ValueError(msg)
        check_kind(self.feasibility)
        check_effort(self.explore)
        check_counts(n_samples=self.n_samples, reweight=self.reweight)
        Limits(self.max_eval_seconds, self.isolate, self.retries)  # raises errors for wrong values

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Settings with the given values, and defaults for the others.

        Raises:
            TypeError: If a setting is unknown; the message gives the closest name.
        """
        names = [field.name for field in fields(cls)]
        if unknown := [name for name in given if name not in names]:
            hint = did_you_mean(unknown[0], names, cutoff=0.5, otherwise=f"; there are {', '.join(names)}")
            msg = f"infer() has no argument {unknown[0]!r}{hint}"
            raise TypeError(msg)
        return cls(**given)

    @property
    def limits(self) -> Limits:
        """Limits on a single call."""
        return Limits(self.max_eval_seconds, self.isolate, self.retries)


class GivenSettings(TypedDict, total=False):
    """The fields of `Settings`, for type checkers."""

    mode: str
    max_eval_seconds: float | None
    max_failures: int | None
    isolate: bool
    retries: int
    into: bool
    callback: Callable[[dict[str, float]], None] | None
    n_samples: int
    reweight: int | None
    gradient: bool
    feasibility: str
    explore: str
    confirm: bool
    fast: tuple[Sequence[str], int] | None


def check_counts(**counts: int | None) -> None:
    """Raises an error unless all values that are not None are whole numbers of at least 1.

    Raises:
        TypeError: If one is not a whole number.
        ValueError: If one is below 1.
    """
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer))):
            msg = f"{name} must be a positive integer, got {value!r}"
            raise TypeError(msg)
        if value is not None and value < 1:
            msg = f"{name} must be a positive integer, got {value}"
            raise ValueError(msg)


def check_seconds(**seconds: float | None) -> None:
    """Raises an error unless all values that are not None are positive numbers.

    Raises:
        ValueError: If one is not.
    """
    for name, value in seconds.items():
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            msg = f"{name} must be a positive number of seconds, got {value!r}"
            raise ValueError(msg)


def usable_device(spec: str | None) -> str:
    """The device: the CPU by default; "auto" selects a GPU if there is one.

    Raises:
        ValueError: If the device cannot be used here.
    """
    import torch

    if spec == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    name = spec or "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        what = str(error).splitlines()[0]
        msg = (
            f"device {name!r} cannot be used ({what}); use 'cpu', which always works, or 'auto', "
            "which takes what is available"
        )
        raise ValueError(msg) from error
    return name


def fast_points(spec: tuple[Sequence[str], int] | None, names: tuple[str, ...]) -> FastPoints | None:
    """The settings for fast parameters, by position; None if there are none.

    Raises:
        ValueError: If a name is unknown, or all parameters are fast.
    """
    if spec is None or not spec[1] or not len(spec[0]):
        return None
    fast, count = spec
    check_counts(fast=count)
    if unknown := [name for name in fast if name not in names]:
        msg = f"fast parameters must be some of {', '.join(names)}, got {', '.join(map(repr, unknown))}"
        raise ValueError(msg)
    if len(set(fast)) == len(names):
        msg = "not all parameters can be fast: leave out fast= and call the likelihood as often as you like"
        raise ValueError(msg)
    return FastPoints(tuple(names.index(name) for name in fast), count)


def reference_for(spec: Any, prior: Prior) -> Reference | None:
    """The expected location of the posterior, inside the prior; None if nothing is given.

    Args:
        spec: A reference as `Reference.of` takes it, or a mapping from all parameters to values or pairs (mean, sd).
        prior: The prior.

    Raises:
        ValueError: If ``spec`` is not a valid reference, or lies outside the prior.
    """
    if spec is None:
        return None
    reference = Reference.of(_by_name(spec, prior) if isinstance(spec, Mapping) else spec, prior.d)
    reference.check_inside(prior)
    return reference


def _by_name(spec: Mapping[str, Any], prior: Prior) -> Any:
    """The reference, a point or means and sds, in the order of the parameters."""
    names = prior.names
    if set(spec) != set(names):
        msg = f"reference must hold a value for each of {', '.join(names)}, got {', '.join(map(str, spec)) or 'none'}"
        raise ValueError(msg)
    values = [spec[name] for name in names]
    sizes = {np.size(value) for value in values}
    if not sizes <= {1, 2} or len(sizes) > 1:
        msg = f"reference must hold a number for each parameter, or a pair (mean, sd) for each, got {dict(spec)!r}"
        raise ValueError(msg)
    columns = np.array(values, dtype=np.float64).reshape(len(names), -1)
    return columns[:, 0] if columns.shape[1] == 1 else (columns[:, 0], columns[:, 1])


def initial_data(initial: Any, prior: Prior, noise: float | None = None) -> Dataset:
    """Earlier evaluations, given as a pair (x, y) or a `Dataset`, as a dataset of step -1; empty for None.

    Points repeated with the same value count once. Columns of a data frame are matched by name. The values of a pair
    have the noise sd ``noise``, if there is one.

    Raises:
        ValueError: If shapes or values are invalid, or a point lies outside the prior.
    """
    if initial is None:
        return Dataset.empty(prior.d)
    if isinstance(initial, Dataset):
        _check_inside(initial.x, prior)
        return replace(initial, step=np.full(len(initial), -1, dtype=np.int64))
    x, y = _distinct(*_pair(initial, prior))
    _check_inside(x, prior)
    return Dataset.empty(prior.d).append(x, [_earlier(float(value), noise or 0.0) for value in y], -1)


def _earlier(value: float, noise: float) -> Evaluation:
    if np.isfinite(value):
        return Evaluation(value, "ok", {}, noise, worker="initial")
    return Evaluation(value, "infeasible", worker="initial")


def _distinct(x: Array, y: Array) -> tuple[Array, Array]:
    """The points and values without repetitions, in the order of first appearance."""
    first = np.sort(np.unique(np.column_stack([x, y]), axis=0, return_index=True)[1])
    return x[first], y[first]


def _pair(initial: Any, prior: Prior) -> tuple[Array, Array]:
    d = prior.d
    expected = f"initial must be a pair (x, y) with shapes (n, {d}) and (n,), or a Dataset"
    try:
        points, values = initial
        x, y = np.asarray(_columns_of(points, prior.names), dtype=np.float64), np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, _NamesError):
            raise
        msg = f"{expected}, got {type(initial).__name__}"
        raise ValueError(msg) from error
    if x.ndim != 2 or x.shape[1] != d or y.shape != (len(x),):
        msg = f"{expected}, got shapes {x.shape} and {y.shape}"
        raise ValueError(msg)
    if np.isnan(y).any() or np.isposinf(y).any() or not np.isfinite(x).all():
        msg = "initial must hold finite points, and log-likelihoods that are finite or -inf"
        raise ValueError(msg)
    return x, y


class _NamesError(ValueError):
    """Raised if a table has no column for a parameter."""


def _columns_of(points: Any, names: tuple[str, ...]) -> Any:
    """The columns of a data frame in the order of the parameters; other objects unchanged.

    Raises:
        ValueError: If the columns have names and a parameter is not among them.
    """
    columns = getattr(points, "columns", None)
    if columns is None or not all(isinstance(column, str) for column in columns):
        return points
    if missing := [name for name in names if name not in list(columns)]:
        msg = f"initial has the columns {', '.join(columns)}, but no column for {', '.join(missing)}"
        raise _NamesError(msg)
    return points[list(names)]


def _check_inside(x: Array, prior: Prior) -> None:
    outside = ~np.isfinite(prior.log_density(x))
    if outside.any():
        row = int(np.argmax(outside))
        msg = (
            f"initial must lie inside the prior, but {int(outside.sum())} of {len(x)} points do not, the first in row "
            f"{row}: {x[row].tolist()}. Drop them or widen the prior"
        )
        raise ValueError(msg)
