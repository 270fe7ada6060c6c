"""What is to be learned: parameters with priors, a log-likelihood, and what one evaluation of it gave."""

from __future__ import annotations

import inspect
import math
import os
import re
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import special

__all__ = ["Evaluation", "Parameter", "Posterior", "Prior"]

_NAME = re.compile(r"[^\W\d][\w.-]*")
_LONGEST_REASON = 500  # characters; reasons are kept in arrays of fixed width


# Priors


@dataclass(frozen=True)
class Parameter:
    r"""A named parameter with a prior density on the real line.

    Attributes:
        name: A word for tables and files: a letter, then letters, digits, ``_``, ``.`` or ``-``.
        prior: Bounds ``(low, high)`` of a uniform density, or a frozen continuous distribution of ``scipy.stats``.
        label: LaTeX without dollars for plots; the name if not given.
        periodic: Whether the two bounds are the same point, as for an angle.

    Raises:
        TypeError: If the name is not a string or the prior is of another kind.
        ValueError: If the name or the bounds cannot be used.

    >>> Parameter("omega", (0.0, 1.0), label=r"\Omega")
    Parameter(name='omega', prior=(0.0, 1.0), label='\\Omega', periodic=False)
    """

    name: str
    prior: Any
    label: str | None = None
    periodic: bool = False

    _density: _Density = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not _is_distribution(self.prior):
            object.__setattr__(self, "prior", _box(self.name, self.prior))
        density = _Uniform(*self.prior) if isinstance(self.prior, tuple) else _density_of(self.name, self.prior)
        object.__setattr__(self, "_density", density)
        if self.periodic and not np.all(np.isfinite(density.bounds)):
            msg = f"parameter '{self.name}' is periodic and so needs finite bounds, got {density.bounds}."
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Prior:
    """A product of one-dimensional densities, normalised.

    Attributes:
        parameters: At least one, in the order of the columns of x.

    Raises:
        TypeError: If something is not a `Parameter`.
        ValueError: If there are none, or two have the same name.
    """

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                msg = f"a prior is made of Parameter(name, prior), got {parameter!r}."
                raise TypeError(msg)
        if not self.parameters:
            msg = "a prior needs at least one parameter, got none."
            raise ValueError(msg)
        if repeated := [name for name, count in Counter(self.names).items() if count > 1]:
            msg = f"parameter names must differ, got {', '.join(map(repr, repeated))} more than once."
            raise ValueError(msg)

    @classmethod
    def of(cls, spec: Any) -> Prior:
        """The prior that ``spec`` describes.

        Args:
            spec: A dict of name -> ``(low, high)``, frozen ``scipy.stats`` distribution or `Parameter`; a sequence of
                `Parameter`; an array of bounds with shape (d, 2), for parameters x0, x1, ...; or a `Prior`.

        Raises:
            TypeError: If it is something else, or a distribution is not frozen or not continuous.
            ValueError: If names or bounds cannot be used.

        >>> Prior.of({"a": (0, 1), "b": (-2, 2)}).names
        ('a', 'b')
        """
        if isinstance(spec, Prior):
            return spec
        if isinstance(spec, Mapping):
            return cls(tuple(_named(name, prior) for name, prior in spec.items()))
        if isinstance(spec, Sequence) and any(isinstance(entry, Parameter) for entry in spec):
            return cls(tuple(spec))
        return cls(_numbered(spec))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def labels(self) -> tuple[str, ...]:
        """LaTeX labels of the parameters, without dollars."""
        return tuple(_default_label(p.name) if p.label is None else p.label for p in self.parameters)

    @property
    def d(self) -> int:
        """Number of parameters."""
        return len(self.parameters)

    @property
    def bounds(self) -> np.ndarray:
        """Support of each parameter, which may be infinite, with shape (d, 2)."""
        return np.array([parameter._density.bounds for parameter in self.parameters], dtype=np.float64)

    @property
    def periodic(self) -> np.ndarray:
        """Whether each parameter is periodic, with shape (d,)."""
        return np.array([parameter.periodic for parameter in self.parameters])

    @property
    def is_box(self) -> bool:
        """Whether all densities are uniform."""
        return all(isinstance(parameter._density, _Uniform) for parameter in self.parameters)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Natural log of the normalised density at points with shape (m, d), with shape (m,).

        It is -inf outside of the support and at NaN. An edge where a density is infinite counts as outside.
        """
        x = self._points(x)
        total = np.zeros(len(x))
        with np.errstate(invalid="ignore", over="ignore"):  # -inf + inf at an edge, squares far outside
            for columns, density in self._groups:
                total += density.log_density(x[:, columns]).sum(axis=1)
        return np.where(total < np.inf, total, -np.inf)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Points with the given cumulative probabilities; u in [0, 1] (not checked) and x have shape (m, d)."""
        return self._map(self._points(u), "quantile")

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        """Cumulative probability of each coordinate, the inverse of `quantile`; both have shape (m, d)."""
        return self._map(self._points(x), "cumulative")

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws with shape (n, d), all of them inside of the support."""
        # A uniform draw can be exactly 0, whose quantile is infinite for unbounded densities.
        return self.quantile(np.maximum(rng.random((n, self.d)), 2.0**-54))

    @cached_property
    def _groups(self) -> list[tuple[slice | list[int], _Density]]:
        """Columns and their density: all uniform ones in one group, all normal ones in another, the rest singly."""
        densities = [parameter._density for parameter in self.parameters]
        columns = {
            kind: [i for i, density in enumerate(densities) if isinstance(density, kind)]
            for kind in (_Uniform, _Normal, _Scipy)
        }
        stacked = [(columns[kind], kind.stack([densities[i] for i in columns[kind]])) for kind in (_Uniform, _Normal)]
        single = [([i], densities[i]) for i in columns[_Scipy]]
        return [(_index(group, self.d), density) for group, density in (*stacked, *single) if group]

    def _map(self, values: np.ndarray, function: str) -> np.ndarray:
        result = np.empty_like(values)
        for columns, density in self._groups:
            result[:, columns] = getattr(density, function)(values[:, columns])
        return result

    def _points(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.d:
            msg = f"points must have shape (m, {self.d}), got {x.shape}."
            raise ValueError(msg)
        return x


@dataclass(frozen=True, eq=False)
class _Uniform:
    """Uniform densities; the bounds are floats or have shape (k,)."""

    low: Any
    high: Any

    @classmethod
    def stack(cls, densities: list[Any]) -> _Uniform:
        return cls(np.array([density.low for density in densities]), np.array([density.high for density in densities]))

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return np.where((x >= self.low) & (x <= self.high), -np.log(self.high - self.low), -np.inf)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return np.clip(self.low + u * (self.high - self.low), self.low, self.high)

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        return np.clip((x - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Normal:
    """Normal densities; location and scale are floats or have shape (k,)."""

    loc: Any
    scale: Any

    @classmethod
    def stack(cls, densities: list[Any]) -> _Normal:
        return cls(np.array([density.loc for density in densities]), np.array([density.scale for density in densities]))

    @property
    def bounds(self) -> tuple[float, float]:
        return -math.inf, math.inf

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return -0.5 * ((x - self.loc) / self.scale) ** 2 - np.log(self.scale) - 0.5 * math.log(2 * math.pi)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return self.loc + self.scale * special.ndtri(u)

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        return special.ndtr((x - self.loc) / self.scale)


@dataclass(frozen=True, eq=False)
class _Scipy:
    """Any other frozen distribution of scipy.stats."""

    distribution: Any

    @property
    def bounds(self) -> tuple[float, float]:
        low, high = self.distribution.support()
        return float(low), float(high)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return self.distribution.logpdf(x)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        return self.distribution.ppf(u)

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        return self.distribution.cdf(x)


_Density: TypeAlias = _Uniform | _Normal | _Scipy


def _index(columns: list[int], d: int) -> slice | list[int]:
    """The columns; as a slice, which copies nothing, if they are all of d."""
    return slice(None) if len(columns) == d else columns


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        msg = f"a parameter name must be a string, got {name!r}."
        raise TypeError(msg)
    if not _NAME.fullmatch(name):
        msg = f"a parameter name must be a letter, then letters, digits, '_', '.' or '-', got {name!r}."
        raise ValueError(msg)


def _default_label(name: str) -> str:
    """The name itself, with underscores escaped: LaTeX would read them as subscripts."""
    return rf"\mathrm{{{name}}}".replace("_", r"\_") if "_" in name else name


def _named(name: Any, prior: Any) -> Parameter:
    if not isinstance(prior, Parameter):
        return Parameter(name, prior)
    if prior.name != name:
        msg = f"the prior of '{name}' is a Parameter called '{prior.name}'; both names must be the same."
        raise ValueError(msg)
    return prior


def _numbered(spec: Any) -> tuple[Parameter, ...]:
    """Parameters x0, x1, ... with the bounds in an array-like with shape (d, 2)."""
    expected = (
        "a prior is a dict of name -> (low, high), scipy.stats distribution or Parameter, or bounds of shape (d, 2)"
    )
    try:
        bounds = np.asarray(spec, dtype=np.float64)
    except (TypeError, ValueError):
        msg = f"{expected}; got {type(spec).__name__}: {spec!r}."
        raise TypeError(msg) from None
    if bounds.ndim == 0:
        msg = f"{expected}; got {type(spec).__name__}: {spec!r}."
        raise TypeError(msg)
    if bounds.size and (bounds.ndim != 2 or bounds.shape[1] != 2):
        msg = f"{expected}; got an array with shape {bounds.shape}."
        raise ValueError(msg)
    return tuple(Parameter(f"x{i}", row, label=f"x_{{{i}}}" if i > 9 else f"x_{i}") for i, row in enumerate(bounds))


def _box(name: str, prior: Any) -> tuple[float, float]:
    """The bounds as two floats, once checked."""
    expected = f"the prior of '{name}' must be bounds (low, high) or a frozen distribution of scipy.stats"
    if isinstance(prior, str | bytes | Mapping) or not isinstance(prior, Iterable):
        msg = f"{expected}, got {type(prior).__name__}: {prior!r}."
        raise TypeError(msg)
    try:
        bounds = [float(bound) for bound in prior]
    except (TypeError, ValueError):
        msg = f"{expected}, got {prior!r}."
        raise TypeError(msg) from None
    if len(bounds) != 2:
        msg = f"{expected}, got {len(bounds)} numbers: {prior!r}."
        raise ValueError(msg)
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)):
        msg = (
            f"the bounds of '{name}' must be finite, got ({low}, {high}); a scipy.stats distribution may be unbounded."
        )
        raise ValueError(msg)
    if low >= high:
        msg = f"the bounds of '{name}' must be low < high, got ({low}, {high})."
        raise ValueError(msg)
    return low, high


def _is_distribution(prior: Any) -> bool:
    """Whether it comes from scipy.stats, frozen or not; imports nothing for a pair of numbers."""
    return any(kind.__module__.startswith("scipy.stats") for kind in type(prior).__mro__)


def _density_of(name: str, distribution: Any) -> _Density:
    """The density of a frozen scalar continuous distribution, in closed form for uniform and normal ones."""
    _check_distribution(name, distribution)
    family = distribution.dist.name
    if family not in ("uniform", "norm"):
        return _Scipy(distribution)
    loc, scale = _location_and_scale(*distribution.args, **distribution.kwds)
    if not math.isfinite(loc + scale):
        msg = f"the prior of '{name}' has arguments that are not finite: {_spelling(distribution)}."
        raise ValueError(msg)
    return _Normal(loc, scale) if family == "norm" else _Uniform(*_box(name, (loc, loc + scale)))


def _location_and_scale(loc: float = 0.0, scale: float = 1.0) -> tuple[float, float]:
    return float(loc), float(scale)


def _check_distribution(name: str, distribution: Any) -> None:
    from scipy.stats import distributions

    what = f"the prior of '{name}'"
    if isinstance(distribution, distributions.rv_continuous):
        msg = f"{what} is not frozen: give its arguments, as in scipy.stats.{distribution.name}(loc=0, scale=1)."
        raise TypeError(msg)
    if not isinstance(distribution, distributions.rv_frozen) or not isinstance(
        distribution.dist, distributions.rv_continuous
    ):
        msg = f"{what} must be a one-dimensional continuous distribution of scipy.stats, got {_kind(distribution)}."
        raise TypeError(msg)
    with np.errstate(invalid="ignore"):  # 0 * inf, found by the comparison below
        low, high = distribution.support()
    if np.ndim(low) or np.ndim(high):
        msg = f"{what} must be one distribution, got arguments with shape {np.shape(low)}; give each its own name."
        raise ValueError(msg)
    if not low < high:
        msg = f"{what} has arguments outside of their domain: {_spelling(distribution)}."
        raise ValueError(msg)


def _kind(distribution: Any) -> str:
    name = getattr(getattr(distribution, "dist", distribution), "name", None)
    return type(distribution).__name__ if name is None else f"{name} ({type(distribution).__name__})"


def _spelling(distribution: Any) -> str:
    """How a frozen distribution was written."""
    keywords = [f"{key}={value!r}" for key, value in distribution.kwds.items()]
    return f"{distribution.dist.name}({', '.join([*map(repr, distribution.args), *keywords])})"


# Evaluations


@dataclass(frozen=True)
class Evaluation:
    """What one call of a log-likelihood gave.

    Attributes:
        y: Log-likelihood (natural log): finite if ok, -inf if infeasible, NaN if failed.
        status: "ok"; "infeasible" for a likelihood of zero, which is a legal answer; "failed" for anything else.
        derived: Further numbers that the likelihood computed, by name.
        noise: Standard deviation of y, 0 if exact.
        gradient: Derivatives of y with respect to the d parameters; empty if there are none.
        reason: Why it failed, in one line; empty otherwise.
        seconds: Wall-clock time of the call.
        worker: Host and process id of where it ran.
    """

    y: float
    status: Literal["ok", "infeasible", "failed"]
    derived: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0
    reason: str = ""
    seconds: float = 0.0
    worker: str = ""
    gradient: tuple[float, ...] = ()

    @classmethod
    def failure(cls, reason: str, *, seconds: float = 0.0, worker: str = "") -> Evaluation:
        """A failed evaluation; the reason is put on one line of bounded length."""
        words = " ".join(reason.replace("\0", " ").split())
        shown = words if len(words) <= _LONGEST_REASON else words[: _LONGEST_REASON - 3] + "..."
        return cls(math.nan, "failed", reason=shown, seconds=seconds, worker=worker)


@dataclass(frozen=True, eq=False)
class Posterior:
    """A log-likelihood with the prior of its parameters.

    The likelihood is called with one array of shape (d,) if it has a single required positional argument, and with the
    parameters by name if its arguments are called like them. With ``vectorized`` it gets an array of shape (b, d), or
    arrays of shape (b,) by name. It returns a float, ``(float, dict of derived numbers)`` or ``(float, noise sd)``,
    and arrays of shape (b,) in their place with ``vectorized``. With ``gradient`` it returns ``(float, gradient)`` with
    an array of shape (d,), or a dict with that array as ``"gradient"`` among the derived numbers; (b, d) with
    ``vectorized``. A gradient that is not finite counts as missing, and the value stands alone.

    Attributes:
        log_likelihood: A callable; -inf is a legal answer.
        prior: A `Prior`, or anything that `Prior.of` takes.
        vectorized: Whether it takes many points in one call.
        noise: Standard deviation of answers that come without one; None if exact.
        gradient: Whether answers come with the derivatives with respect to the parameters.

    Raises:
        TypeError: If the likelihood is not callable, or its arguments match neither convention.
        ValueError: If the noise is negative or not finite.

    >>> Posterior(lambda a, b: -(a**2) - b**2, {"a": (-1, 1), "b": (-1, 1)}).evaluate([0.5, 0.5]).y
    -0.5
    """

    log_likelihood: Callable[..., Any]
    prior: Prior
    vectorized: bool = field(default=False, kw_only=True)
    noise: float | None = field(default=None, kw_only=True)
    gradient: bool = field(default=False, kw_only=True)
    _by_name: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.log_likelihood):
            msg = f"log_likelihood must be callable, got {type(self.log_likelihood).__name__}."
            raise TypeError(msg)
        if self.noise is not None and not 0 <= self.noise < math.inf:
            msg = f"noise must be a finite standard deviation >= 0 or None, got {self.noise!r}."
            raise ValueError(msg)
        object.__setattr__(self, "prior", Prior.of(self.prior))
        object.__setattr__(self, "_by_name", _takes_names(self.log_likelihood, self.prior.names))

    def evaluate(self, x: np.ndarray) -> Evaluation:
        """What the likelihood says of the point x, with shape (d,).

        Nothing that the likelihood does is raised, except KeyboardInterrupt and SystemExit.

        Raises:
            ValueError: If x does not have shape (d,).
        """
        x = np.asarray(x, dtype=np.float64)
        if x.shape != (self.prior.d,):
            msg = f"a point must have shape ({self.prior.d},), got {x.shape}."
            raise ValueError(msg)
        if self.vectorized:
            return self.evaluate_many(x[None])[0]
        return self._timed(x, lambda answer: [self._evaluation(answer)], n=1)[0]

    def evaluate_many(self, x: np.ndarray) -> list[Evaluation]:
        """What a vectorised likelihood says of points with shape (b, d), in one call.

        An exception fails all points; a NaN or +inf only its own. Without ``vectorized`` each point has its own call.

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
        """One call of the likelihood on x, and what its answer or exception says of n points."""
        start = time.perf_counter()
        try:
            evaluations = read(self._call(x))
        except Exception as error:  # whatever a user's function may raise is an answer
            evaluations = [Evaluation.failure(_describe(error))] * n
        seconds, worker = (time.perf_counter() - start) / n, f"{socket.gethostname()}:{os.getpid()}"
        return [replace(evaluation, seconds=seconds, worker=worker) for evaluation in evaluations]

    def _call(self, x: np.ndarray) -> Any:
        if not self._by_name:
            return self.log_likelihood(x.copy())
        columns = x.T.copy() if x.ndim == 2 else x.tolist()
        return self.log_likelihood(**dict(zip(self.prior.names, columns, strict=True)))

    def _evaluation(self, answer: Any) -> Evaluation:
        try:
            if not self.gradient:
                return _read(answer, self.prior.names, noise=self.noise or 0.0)
            answer, gradient = _without_gradient(answer, self.prior.d)
            evaluation = _read(answer, self.prior.names, noise=self.noise or 0.0)
            return replace(evaluation, gradient=gradient) if evaluation.status == "ok" else evaluation
        except _UnusableError as error:
            return Evaluation.failure(str(error))

    def _unstack(self, answer: Any, b: int) -> list[Any]:
        """The answers for each of b points, as a likelihood of one point would give them."""
        if not self.gradient:
            return _unstack(answer, b)
        rest, gradients = _gradient_part(answer)
        parts = [part if isinstance(part, tuple) else (part, {}) for part in _unstack(rest, b)]
        if gradients is None:
            return parts
        rows = _block(gradients, (b, self.prior.d))
        return [(value, {**extra, _GRADIENT: row}) for (value, extra), row in zip(parts, rows, strict=True)]


_GRADIENT = "gradient"


def _gradient_part(answer: Any) -> tuple[Any, Any]:
    """An answer without its gradient, and the gradient or None."""
    value, extra = _split(answer)
    if isinstance(extra, Mapping):
        rest = {name: part for name, part in extra.items() if name != _GRADIENT}
        return (value, rest), extra.get(_GRADIENT)
    return value, extra


def _without_gradient(answer: Any, d: int) -> tuple[Any, tuple[float, ...]]:
    """An answer without its gradient, and the derivatives; none if there are none or some are not finite."""
    rest, gradient = _gradient_part(answer)
    if gradient is None:
        return rest, ()
    values = _block(gradient, (d,))
    return rest, tuple(values.tolist()) if np.isfinite(values).all() else ()


def _block(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A gradient as an array of numbers."""
    try:
        block = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        block = np.empty(())
    if block.shape != shape:
        msg = f"the gradient must be numbers with shape {shape}, got {type(values).__name__} with {np.shape(values)}"
        raise _UnusableError(msg)
    return block


class _UnusableError(Exception):
    """A likelihood answered with something that is not a log-likelihood."""


def _read(answer: Any, names: tuple[str, ...], *, noise: float) -> Evaluation:
    """The evaluation that an answer stands for; ``noise`` if it comes without."""
    value, extra = _split(answer)
    y = _number(value, "the log-likelihood")
    if math.isnan(y) or y == math.inf:
        msg = f"the log-likelihood is {'NaN' if math.isnan(y) else '+inf'}; only -inf may stand for an impossible point"
        raise _UnusableError(msg)
    status: Literal["ok", "infeasible"] = "infeasible" if y == -math.inf else "ok"
    if isinstance(extra, Mapping):
        return Evaluation(y, status, derived=_derived(extra, names), noise=noise if status == "ok" else 0.0)
    if status == "infeasible":
        return Evaluation(y, status)
    return Evaluation(y, status, noise=noise if extra is None else _noise(extra))


def _split(answer: Any) -> tuple[Any, Any]:
    """The value, and what came with it or None."""
    if not isinstance(answer, tuple):
        return answer, None
    if len(answer) != 2 or answer[1] is None:
        kinds = ", ".join(type(part).__name__ for part in answer)
        msg = f"the likelihood returned a tuple ({kinds}), not a float, (float, dict of derived) or (float, noise sd)"
        raise _UnusableError(msg)
    return answer


def _noise(value: Any) -> float:
    noise = _number(value, "the noise sd")
    if not 0 <= noise < math.inf:
        msg = f"the noise sd must be finite and >= 0, got {noise}"
        raise _UnusableError(msg)
    return noise


def _derived(values: Mapping[Any, Any], names: tuple[str, ...]) -> dict[str, float]:
    for name in values:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            msg = f"the name of a derived value must be a letter, then letters, digits, '_', '.' or '-', got {name!r}"
            raise _UnusableError(msg)
        if name in names:
            msg = f"the derived value '{name}' is called like a parameter"
            raise _UnusableError(msg)
    return {name: _number(value, f"the derived value '{name}'") for name, value in values.items()}


def _number(value: Any, what: str) -> float:
    """A real number, 0-d array or array with one element as a float."""
    shape = tuple(getattr(value, "shape", ()))
    if math.prod(shape) != 1:
        msg = f"{what} is an array with shape {shape}, not one number"
        raise _UnusableError(msg)
    item = value.item() if hasattr(value, "item") else value
    if item is None:
        msg = f"{what} is None (a function without return?)"
        raise _UnusableError(msg)
    if isinstance(item, bool | str | bytes | complex) or not hasattr(item, "__float__"):
        msg = f"{what} is not a real number but {type(item).__name__}: {item!r}"
        raise _UnusableError(msg)
    return float(item)


def _unstack(answer: Any, b: int) -> list[Any]:
    """The answers for each of b points, as a likelihood of one point would give them."""
    value, extra = _split(answer)
    y = _column(value, b, "the log-likelihood")
    if extra is None:
        return list(y)
    if not isinstance(extra, Mapping):
        return list(zip(y, _column(extra, b, "the noise sd"), strict=True))
    derived = {name: _column(values, b, f"the derived value {name!r}") for name, values in extra.items()}
    return [(y[i], {name: values[i] for name, values in derived.items()}) for i in range(b)]


def _column(values: Any, b: int, what: str) -> np.ndarray:
    if np.shape(values) != (b,):
        kind = type(values).__name__
        msg = f"{what} of a vectorised likelihood must have shape ({b},), got {kind} with shape {np.shape(values)}"
        raise _UnusableError(msg)
    return np.asarray(values)


def _describe(error: Exception) -> str:
    """Type, message and innermost line of an exception; the message alone if it is about the answer."""
    if isinstance(error, _UnusableError):
        return str(error)
    message = "".join(traceback.format_exception_only(error))
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    code = f": {last.line}" if last.line else ""
    return f"{message.strip()} (in {last.name}, {os.path.basename(last.filename)} line {last.lineno}{code})"


# Signatures


def _takes_names(function: Callable[..., Any], names: tuple[str, ...]) -> bool:
    """Whether the parameters are to be given by name, rather than as one array.

    Raises:
        TypeError: If neither can work.
    """
    arguments = _arguments_of(function)
    if arguments is None:
        return False
    kinds = inspect.Parameter
    by_name = [a for a in arguments if a.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    positional = [a for a in arguments if a.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    required = [a for a in (*positional, *by_name) if a.default is kinds.empty]
    any_name = any(a.kind is kinds.VAR_KEYWORD for a in arguments)
    missing = [] if any_name else [name for name in names if name not in {a.name for a in by_name}]
    unknown = list(dict.fromkeys(a.name for a in required if a.name not in names or a.kind is kinds.POSITIONAL_ONLY))
    if not missing and not unknown:
        return True
    if {a.name for a in required} == {positional[0].name if positional else None}:
        return False
    raise TypeError(_mismatch(function, names, missing, unknown))


def _arguments_of(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Arguments of a function; None if it has no signature, or one that says nothing."""
    try:
        arguments = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    only_variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    takes_anything = inspect.Parameter.VAR_POSITIONAL in {a.kind for a in arguments}
    return None if takes_anything and {a.kind for a in arguments} <= only_variable else arguments


def _mismatch(function: Callable[..., Any], names: tuple[str, ...], missing: list[str], unknown: list[str]) -> str:
    called = getattr(function, "__name__", type(function).__name__)
    parts = [f"log_likelihood '{called}' must take one array of shape ({len(names)},), or the parameters by name"]
    if missing:
        parts.append(f"parameters that are not among its arguments: {', '.join(missing)}")
    if unknown:
        parts.append(f"arguments without default that are not parameters: {', '.join(unknown)}")
    return "; ".join(parts) + "."
