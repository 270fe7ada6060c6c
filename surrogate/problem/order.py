"""Exchangeable parameters in ascending order, such as the places of the first and the second line of a spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.special import gammaln

from surrogate.arrays import Array, Flags, Indices
from surrogate.problem.discrete import Discrete

__all__ = ["are_in_order", "log_density_of_order", "orders_of"]


class _Ordered(Protocol):
    """What an order needs of a parameter."""

    @property
    def name(self) -> str: ...
    @property
    def prior(self) -> object: ...
    @property
    def periodic(self) -> bool: ...
    @property
    def only(self) -> object: ...
    @property
    def above(self) -> str | None: ...
    @property
    def density_words(self) -> str: ...


def orders_of(parameters: Sequence[_Ordered]) -> tuple[Indices, ...]:
    """Columns of the parameters in ascending order, one array for each group of them.

    Raises:
        ValueError: If a parameter is above an unknown one, two are above the same, they are in a circle, or their
            priors differ or are not those of continuous parameters that act everywhere.
    """
    place = {parameter.name: index for index, parameter in enumerate(parameters)}
    next_above: dict[str, str] = {}
    for parameter in parameters:
        if parameter.above is None:
            continue
        _check_pair(parameter, parameters, place)
        if parameter.above in next_above:
            msg = f"'{parameter.name}' and '{next_above[parameter.above]}' are both above '{parameter.above}': "
            msg += "name them one above the other"
            raise ValueError(msg)
        next_above[parameter.above] = parameter.name
    out = []
    for first in (p.name for p in parameters if p.above is None and p.name in next_above):
        names = [first]
        while names[-1] in next_above:
            names.append(next_above[names[-1]])
        out.append(np.array([place[name] for name in names]))
    if sum(map(len, out)) != len(next_above) + len(out):
        msg = f"parameters cannot be above each other in a circle: {', '.join(next_above)}"
        raise ValueError(msg)
    return tuple(out)


def _check_pair(parameter: _Ordered, parameters: Sequence[_Ordered], place: dict[str, int]) -> None:
    """Refuses a parameter that cannot be above the one that it names."""
    where = f"above= of '{parameter.name}'"
    if parameter.above not in place or parameter.above == parameter.name:
        msg = f"{where} must name another parameter ({', '.join(place)}), got {parameter.above!r}"
        raise ValueError(msg)
    below = parameters[place[parameter.above]]
    for one in (parameter, below):
        if isinstance(one.prior, Discrete) or one.periodic or one.only:
            msg = f"{where}: '{one.name}' must be continuous, not periodic and act everywhere"
            raise ValueError(msg)
    if parameter.density_words != below.density_words:
        msg = (
            f"{where} must name a parameter with the same prior, got {parameter.density_words} and "
            f"{below.density_words}. For different priors, let the parameter be the distance from '{below.name}'"
        )
        raise ValueError(msg)


def log_density_of_order(x: Array) -> Array:
    """Log density of k sorted draws relative to independent ones: log k!, or -inf out of order, with shape (m,).

    Args:
        x: Values of the parameters in their order, with shape (m, k).
    """
    return np.where(are_in_order(x), gammaln(x.shape[1] + 1.0), -np.inf)


def are_in_order(x: Array) -> Flags:
    """Whether the values of each row ascend, with shape (m,); equal ones count as ascending."""
    return np.asarray((np.diff(x, axis=1) >= 0.0).all(axis=1))
