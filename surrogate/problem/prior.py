"""Parameters and their priors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from surrogate.arrays import Indices
from surrogate.problem.densities import (
    Density,
    Normal,
    ScipyDensity,
    Uniform,
    box,
    density_of,
    is_distribution,
)
from surrogate.problem.discrete import Discrete
from surrogate.problem.levels import Levels
from surrogate.problem.order import are_in_order, log_density_of_order, orders_of

__all__ = ["NAME", "Parameter", "Prior"]

NAME = re.compile(r"[^\W\d][\w.-]*")


@dataclass(frozen=True)
class Parameter:
    r"""A named parameter with a prior: a density on the real line, or probabilities of categories or integers.

    Args:
        name: See below.
        prior: See below; left out for categories and integers.
        label: See below.
        periodic: See below.
        categories: Names of two or more categories.
        integers: The pair (low, high) of the lowest and highest integer, both included.
        weights: Prior probabilities of the categories or integers, which need not be normalised, as a sequence or by
            value; equal by default.
        only: Values of categories and integers at which this parameter acts, by their names, such as
            ``{"n_planets": [1, 2]}``; at others it must have no effect, and is not searched. It acts everywhere unless
            given.
        above: Name of an exchangeable parameter with the same prior, which this one exceeds: the second of two lines
            lies above the first. Both have the joint density of two ordered draws.

    Attributes:
        name: Name in tables and files: a letter, then letters, digits, ``_``, ``.`` or ``-``.
        prior: Bounds ``(low, high)`` of a uniform density, a frozen continuous distribution of ``scipy.stats``, or the
            `Discrete` values of categories or integers.
        label: LaTeX label without dollars, for plots; the name by default.
        periodic: Whether the two bounds are the same point, as for an angle.
        only: Pairs of the name of a categorical or integer parameter and the values of it at which this one acts; empty
            if it acts everywhere.
        above: Name of the parameter that this one exceeds; None if it may have any value.

    Raises:
        TypeError: If the name is not a string or the prior or ``only`` has an unsupported type.
        ValueError: If the name, the bounds, the categories, the integers or the weights are invalid.

    >>> Parameter("omega", (0.0, 1.0), label=r"\Omega")
    Parameter(name='omega', prior=(0.0, 1.0), label='\\Omega', periodic=False)
    >>> Parameter("n_planets", integers=(0, 1)).prior
    Discrete(values=(0, 1), weights=(0.5, 0.5))
    """

    name: str
    prior: Any = None
    label: str | None = None
    periodic: bool = False
    categories: InitVar[Any] = field(default=None, kw_only=True)
    integers: InitVar[Any] = field(default=None, kw_only=True)
    weights: InitVar[Any] = field(default=None, kw_only=True)
    only: Any = field(default=None, kw_only=True, repr=False)
    above: str | None = field(default=None, kw_only=True, repr=False)

    _density: Density = field(init=False, repr=False, compare=False)

    @property
    def prior_words(self) -> str:
        """A description of the prior as it was given.

        >>> Parameter("a", (0, 2)).prior_words
        'uniform from 0 to 2'
        """
        words = self.density_words + "".join(
            f", where {name} is {' or '.join(map(str, values))}" for name, values in self.only
        )
        return words if self.above is None else f"{words}, above {self.above}"

    @property
    def density_words(self) -> str:
        """A description of the density alone, without the conditions on other parameters."""
        if isinstance(self.prior, Discrete):
            return self.prior.words
        if isinstance(self.prior, tuple):
            words = "uniform from {:g} to {:g}".format(*self.prior)
        else:
            values = [f"{value:g}" for value in self.prior.args]
            values += [f"{name}={value:g}" for name, value in self.prior.kwds.items()]
            words = f"{self.prior.dist.name}({', '.join(values)})"
        return f"{words}, periodic" if self.periodic else words

    def __post_init__(self, categories: Any, integers: Any, weights: Any) -> None:
        _check_name(self.name)
        if categories is not None or integers is not None or weights is not None:
            object.__setattr__(self, "prior", _discrete(self.name, self.prior, categories, integers, weights))
        if not isinstance(self.prior, Discrete) and not is_distribution(self.prior):
            object.__setattr__(self, "prior", box(self.name, self.prior))
        object.__setattr__(self, "_density", _density_for(self.name, self.prior))
        object.__setattr__(self, "only", _where(self.name, self.only))
        if self.only and isinstance(self.prior, Discrete):
            msg = f"parameter '{self.name}' has categories or integers: only= is for continuous parameters"
            raise ValueError(msg)
        if self.periodic and isinstance(self.prior, Discrete):
            msg = f"parameter '{self.name}' has categories or integers and cannot be periodic"
            raise ValueError(msg)
        if self.periodic and not np.all(np.isfinite(self._density.bounds)):
            msg = f"parameter '{self.name}' is periodic and therefore needs finite bounds, got {self._density.bounds}"
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Prior:
    """A prior: the normalised product of one-dimensional densities.

    Parameters in ascending order have the density of sorted draws: that of k such parameters is k! times the product
    where they are in order, and 0 elsewhere. It is normalised, so that a likelihood in which they can be exchanged has
    the same evidence as without the order.

    Attributes:
        parameters: At least one, in the order of the columns of x.

    Raises:
        TypeError: If an element is not a `Parameter`.
        ValueError: If there are none, two have the same name, or an order is impossible.
    """

    parameters: tuple[Parameter, ...]

    orders: tuple[Indices, ...] = field(init=False, repr=False)
    """Columns of parameters that are in ascending order, one array for each such group."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                msg = f"a prior must consist of Parameter(name, prior) objects, got {parameter!r}"
                raise TypeError(msg)
        if not self.parameters:
            msg = "a prior needs at least one parameter, got none"
            raise ValueError(msg)
        if repeated := [name for name, count in Counter(self.names).items() if count > 1]:
            msg = f"parameter names must differ, got {', '.join(map(repr, repeated))} more than once"
            raise ValueError(msg)
        for parameter in self.parameters:
            self._check_only(parameter)
        object.__setattr__(self, "orders", orders_of(self.parameters))

    def _check_only(self, parameter: Parameter) -> None:
        """Refuses values at which a parameter acts that no categorical or integer parameter has."""
        discrete = {p.name: p.prior.values for p in self.parameters if isinstance(p.prior, Discrete)}
        for name, values in parameter.only:
            if name not in discrete or (unknown := [value for value in values if value not in discrete[name]]):
                got = f"'{name}'" if name not in discrete else f"{unknown[0]!r} of '{name}'"
                known = "; ".join(f"{each}: {list(some)}" for each, some in discrete.items()) or "none"
                msg = f"only= of '{parameter.name}' must name values of categories or integers ({known}), got {got}"
                raise ValueError(msg)

    @classmethod
    def of(cls, spec: Any) -> Prior:
        """The prior that ``spec`` describes.

        Args:
            spec: A dict of name -> ``(low, high)``, frozen ``scipy.stats`` distribution, `Parameter`, or dict of the
                arguments of `Parameter`, such as ``{"categories": ["a", "b"]}``; a sequence of `Parameter`; an array of
                bounds with shape (d, 2), for parameters x0, x1, ...; or a `Prior`.

        Raises:
            TypeError: If ``spec`` has another type, or a distribution is not frozen or not continuous.
            ValueError: If names or bounds are invalid.

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

    @cached_property
    def levels(self) -> Levels | None:
        """The levels of categorical and integer parameters; None if there are no such parameters.

        Raises:
            ValueError: If there are too many.
        """
        only = [parameter.only for parameter in self.parameters]
        return Levels.of(self.names, [parameter.prior for parameter in self.parameters], only)

    def given(self, values: Mapping[str, Any]) -> Prior:
        """The prior of the other parameters that act where categories or integers have these values.

        Raises:
            ValueError: If a name is not that of a categorical or integer parameter, or does not have the value.

        >>> x = Parameter("x", (0, 1), only={"n": [1]})
        >>> prior = Prior.of({"n": {"integers": (0, 1)}, "x": x, "y": (0, 1)})
        >>> prior.given({"n": 0}).names, prior.given({"n": 1}).names
        (('y',), ('x', 'y'))
        """
        known = {p.name: p.prior.values for p in self.parameters if isinstance(p.prior, Discrete)}
        for name, value in values.items():
            if value not in known.get(name, ()):
                msg = f"categories and integers have the values {known}, got {name}={value!r}"
                raise ValueError(msg)
        out = []
        for parameter in self.parameters:
            acts = all(values[name] in some for name, some in parameter.only if name in values)
            if acts and parameter.name not in values:
                rest = tuple(pair for pair in parameter.only if pair[0] not in values)
                out.append(replace(parameter, only=rest))
        return Prior(tuple(out))

    @property
    def discrete(self) -> np.ndarray:
        """Mask of the categorical and integer parameters, with shape (d,)."""
        return np.array([isinstance(parameter.prior, Discrete) for parameter in self.parameters])

    @property
    def normal(self) -> np.ndarray:
        """Mean and sd of each parameter with a normal prior, NaN of others, with shape (d, 2)."""
        densities = [parameter._density for parameter in self.parameters]
        return np.array([(p.loc, p.scale) if isinstance(p, Normal) else (np.nan, np.nan) for p in densities])

    @property
    def is_box(self) -> bool:
        """Whether all densities are uniform."""
        return all(isinstance(parameter._density, Uniform) for parameter in self.parameters)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Natural log of the normalised density at points with shape (m, d), with shape (m,).

        It is -inf outside the support and at NaN. An edge where a density is infinite counts as outside.
        """
        x = self._points(x)
        total = np.zeros(len(x))
        with np.errstate(invalid="ignore", over="ignore"):  # -inf + inf at edges, and overflowing squares far outside
            for columns, density in self._groups:
                total += density.log_density(x[:, columns]).sum(axis=1)
        for order in self.orders:
            total += log_density_of_order(x[:, order])
        return np.where(total < np.inf, total, -np.inf)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Points with the given cumulative probabilities; u in [0, 1] (not checked) and x have shape (m, d).

        Parameters in ascending order are sorted, so that uniform u give draws of the prior.
        """
        return self.arranged(self._map(self._points(u), "quantile"))

    def in_order(self, x: np.ndarray) -> np.ndarray:
        """Mask of the points x, with shape (m, d), with parameters in their order; also for unit coordinates."""
        out = np.full(len(x), True)
        for columns in self.orders:
            out &= are_in_order(x[:, columns])
        return out

    def arranged(self, x: np.ndarray) -> np.ndarray:
        """The points x, with shape (m, d), with parameters in ascending order sorted; also for unit coordinates."""
        if not self.orders:
            return x
        out = np.array(x)
        for columns in self.orders:
            out[:, columns] = np.sort(out[:, columns], axis=1)
        return out

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        """Cumulative probability of each coordinate, the inverse of `quantile` apart from orders; shape (m, d)."""
        return self._map(self._points(x), "cumulative")

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws, with shape (n, d), all inside the support."""
        # A uniform number can be exactly 0, whose quantile is infinite for unbounded densities.
        return self.quantile(np.maximum(rng.random((n, self.d)), 2.0**-54))

    @cached_property
    def _groups(self) -> list[tuple[slice | list[int], Density]]:
        """Pairs of columns and their density; all uniform densities are one group, and so are all normal ones."""
        densities = [parameter._density for parameter in self.parameters]
        columns = {
            kind: [i for i, density in enumerate(densities) if isinstance(density, kind)]
            for kind in (Uniform, Normal, ScipyDensity, Discrete)
        }
        stacked = [(columns[kind], kind.stack([densities[i] for i in columns[kind]])) for kind in (Uniform, Normal)]
        single = [([i], densities[i]) for kind in (ScipyDensity, Discrete) for i in columns[kind]]
        return [(_index(group, self.d), density) for group, density in (*stacked, *single) if group]

    def _map(self, values: np.ndarray, function: str) -> np.ndarray:
        result = np.empty_like(values)
        for columns, density in self._groups:
            result[:, columns] = getattr(density, function)(values[:, columns])
        return result

    def _points(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.d:
            msg = f"points must have shape (m, {self.d}), got {x.shape}"
            raise ValueError(msg)
        return x


def _index(columns: list[int], d: int) -> slice | list[int]:
    """The columns, as a slice if they are all d columns, to avoid a copy."""
    return slice(None) if len(columns) == d else columns


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        msg = f"a parameter name must be a string, got {name!r}"
        raise TypeError(msg)
    if not NAME.fullmatch(name):
        msg = f"a parameter name must be a letter, then letters, digits, '_', '.' or '-', got {name!r}"
        raise ValueError(msg)


def _default_label(name: str) -> str:
    """The name itself, with underscores escaped: LaTeX would read them as subscripts."""
    return rf"\mathrm{{{name}}}".replace("_", r"\_") if "_" in name else name


def _named(name: Any, prior: Any) -> Parameter:
    if isinstance(prior, Mapping):
        return _from_arguments(name, prior)
    if not isinstance(prior, Parameter):
        return Parameter(name, prior)
    if prior.name != name:
        msg = f"the prior of '{name}' is a Parameter called '{prior.name}'; both names must be the same"
        raise ValueError(msg)
    return prior


_ARGUMENTS = ("prior", "label", "periodic", "categories", "integers", "weights", "only", "above")


def _where(name: str, only: Any) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Pairs of a parameter and its values, from a mapping, or from such pairs."""
    if only is None:
        return ()
    pairs = only.items() if isinstance(only, Mapping) else only
    expected = f"only= of '{name}' must be a dict of name -> list of values, such as {{'n_planets': [1, 2]}}"
    try:
        out = tuple((str(key), values) for key, values in pairs)
    except (TypeError, ValueError):
        msg = f"{expected}, got {only!r}"
        raise TypeError(msg) from None
    for _, values in out:
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            msg = f"{expected}, got {only!r}"
            raise TypeError(msg)
    return tuple((key, tuple(values)) for key, values in out)


def _from_arguments(name: Any, arguments: Mapping[str, Any]) -> Parameter:
    if unknown := [word for word in arguments if word not in _ARGUMENTS]:
        msg = f"the prior of '{name}' may have {', '.join(_ARGUMENTS)}; got dict with {', '.join(map(repr, unknown))}"
        raise TypeError(msg)
    return Parameter(name, **arguments)


def _discrete(name: str, prior: Any, categories: Any, integers: Any, weights: Any) -> Discrete:
    """The values of a categorical or integer parameter, of which exactly one kind must be given."""
    given = {"prior": prior, "categories": categories, "integers": integers}
    words = [word for word, value in given.items() if value is not None]
    if words not in (["categories"], ["integers"]):
        msg = f"parameter '{name}' needs exactly one of prior, categories and integers (the latter two may have "
        msg += f"weights), got {' and '.join(words) or 'weights alone'}"
        raise ValueError(msg)
    if categories is not None:
        return Discrete.categories(name, categories, weights)
    return Discrete.integers(name, integers, weights)


def _density_for(name: str, prior: Any) -> Density:
    """The density of a checked prior."""
    if isinstance(prior, Discrete):
        return prior
    return Uniform(*prior) if isinstance(prior, tuple) else density_of(name, prior)


def _numbered(spec: Any) -> tuple[Parameter, ...]:
    """Parameters x0, x1, ... with the bounds in an array-like with shape (d, 2)."""
    expected = (
        "a prior is a dict of name -> (low, high), scipy.stats distribution or Parameter, or bounds of shape (d, 2)"
    )
    try:
        bounds = np.asarray(spec, dtype=np.float64)
    except (TypeError, ValueError):
        msg = f"{expected}; got {type(spec).__name__}: {spec!r}"
        raise TypeError(msg) from None
    if bounds.ndim == 0:
        msg = f"{expected}; got {type(spec).__name__}: {spec!r}"
        raise TypeError(msg)
    if bounds.size and (bounds.ndim != 2 or bounds.shape[1] != 2):
        msg = f"{expected}; got an array with shape {bounds.shape}"
        raise ValueError(msg)
    return tuple(Parameter(f"x{i}", row, label=f"x_{{{i}}}" if i > 9 else f"x_{i}") for i, row in enumerate(bounds))
