"""Options of the Cobaya sampler as users write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from surrogate.problem.words import did_you_mean

__all__ = ["merged", "number_of"]

_DIMENSIONAL = re.compile(r"\s*(\d*\.?\d*)\s*d\s*\^?\s*(\d*\.?\d*)\s*", flags=re.IGNORECASE)


def number_of(value: Any, d: int, name: str) -> int | None:
    """An option in d-notation: 100, "10d" or "30d1.5", which is 30 times d to the 1.5.

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


def merged(default: Mapping[str, Any], given: Any, where: str) -> dict[str, Any]:
    """The defaults, replaced by what is given.

    Raises:
        ValueError: If something unknown is given.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        msg = f"{where} must be a block of options ({', '.join(default)}), got {given!r}"
        raise ValueError(msg)
    for name in given:
        if name not in default:
            msg = f"unknown option '{name}' in {where}{did_you_mean(str(name), default)} (known: {', '.join(default)})"
            raise ValueError(msg)
    return {**default, **given}
