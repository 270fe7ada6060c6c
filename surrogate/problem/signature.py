"""Detection of whether a function takes parameters by name or as one array."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["takes_names"]


def takes_names(function: Callable[..., Any], names: tuple[str, ...], *, role: str = "log_likelihood") -> bool:
    """Whether the function takes the parameters by name instead of as one array.

    Raises:
        TypeError: If it takes them in neither way.
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
    raise TypeError(_mismatch(function, names, missing, unknown, role))


def _arguments_of(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Names of the arguments of a function; None if its signature is unknown or open-ended."""
    try:
        arguments = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    only_variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    takes_anything = inspect.Parameter.VAR_POSITIONAL in {a.kind for a in arguments}
    return None if takes_anything and {a.kind for a in arguments} <= only_variable else arguments


def _mismatch(
    function: Callable[..., Any], names: tuple[str, ...], missing: list[str], unknown: list[str], role: str
) -> str:
    called = getattr(function, "__name__", type(function).__name__)
    parts = [f"{role} '{called}' must take one array of shape ({len(names)},), or the parameters by name"]
    if missing:
        parts.append(f"parameters that are not among its arguments: {', '.join(missing)}")
    if unknown:
        parts.append(f"arguments without default that are not parameters: {', '.join(unknown)}")
    return "; ".join(parts)
