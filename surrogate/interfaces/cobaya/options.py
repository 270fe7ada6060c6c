"""Options of the Cobaya sampler as users write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from surrogate.problem.words import did_you_mean

__all__ = ["Numbers", "Speeds", "number_of"]

_DIMENSIONAL = re.compile(r"\s*(\d*\.?\d*)\s*d\s*\^?\s*(\d*\.?\d*)\s*", flags=re.IGNORECASE)


def number_of(value: Any, d: int, name: str) -> int | None:
    """The value of an option such as 100, "10d" or "30d1.5", where the last means 30 times d^1.5.

    Raises:
        ValueError: If it is something else.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    match = _DIMENSIONAL.fullmatch(value) if isinstance(value, str) else None
    if match:
        return int(np.ceil(float(match[1] or 1) * d ** float(match[2] or 1)))
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if isinstance(value, bool) or number != (int(number) if np.isfinite(number) else 0):
        msg = (
            f"{name} must be a whole number, or one in units of the dimension such as '10d' or '30d1.5', got {value!r}"
        )
        raise ValueError(msg)
    return int(number)


@dataclass(frozen=True)
class Numbers:
    """Options that may depend on the dimension d, as numbers; None for options without a value.

    Attributes:
        max_evaluations: Largest number of likelihood calls.
        batch_size: Number of points chosen together.
        n_samples: Number of rows of the chain.
        reweight: Number of draws evaluated for new weights.
        recompute: Number of draws evaluated without new weights.
    """

    max_evaluations: int | None
    batch_size: int | None
    n_samples: int | None
    reweight: int | None
    recompute: int | None

    @classmethod
    def of(cls, options: Any, d: int) -> Numbers:
        """The numbers for a sampler, whose attributes are the options.

        Raises:
            ValueError: If a value is not a number, or both ``reweight`` and ``recompute`` are given.
        """
        numbers = cls(**{name: number_of(getattr(options, name), d, name) for name in cls.__dataclass_fields__})
        if numbers.reweight and numbers.recompute:
            msg = "give either 'reweight' or 'recompute': both evaluate draws of the surrogate"
            raise ValueError(msg)
        return numbers


@dataclass(frozen=True)
class Speeds:
    """Settings for fast parameters, which are cheap to change.

    Attributes:
        fast_points: Extra values of the fast parameters for each choice of the slow ones.
        fast_params: Names of the fast parameters; None for Cobaya's fast block.
        measure: Whether to measure the speeds first.
    """

    fast_points: int = 0
    fast_params: list[str] | None = None
    measure: bool = False

    @classmethod
    def of(cls, given: Any) -> Speeds:
        """The settings in the block ``speeds``, with defaults for missing ones.

        Raises:
            ValueError: If it has an unknown option.
        """
        known = tuple(cls.__dataclass_fields__)
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            msg = f"speeds must be a block of options ({', '.join(known)}), got {given!r}"
            raise ValueError(msg)
        for name in given:
            if name not in known:
                suggestion = did_you_mean(str(name), known)
                msg = f"unknown option '{name}' in speeds{suggestion} (known: {', '.join(known)})"
                raise ValueError(msg)
        return cls(**given)
