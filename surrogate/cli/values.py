"""Checks of the words and values of a document, with messages that say where they stand."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Iterable
from typing import Any

from surrogate.problem.words import did_you_mean

__all__ = ["check_words", "flag", "mapping", "nearest", "number", "refuse", "text", "whole"]


def mapping(value: Any, where: str, *, instead: str = "") -> dict[Any, Any]:
    """The value, which must be a dict; otherwise a ValueError that names the place in the document."""
    if not isinstance(value, dict):
        msg = f"{where} must be {f'{instead} or ' if instead else ''}a mapping of keys to values, got {value!r}"
        raise ValueError(msg)
    return value


def check_words(given: Iterable[Any], allowed: Collection[str], where: str, *, besides: str = "") -> None:
    """Raises a ValueError for the first key that is not allowed, with the closest allowed key in the message."""
    for word in given:
        if word not in allowed:
            place = f"{where}: " if where else ""
            words = [besides, *allowed] if besides else list(allowed)
            listed = f"; allowed: {', '.join(words)}" if len(words) <= 20 else ""
            msg = f"{place}unknown key {word!r}{nearest(str(word), words)}{listed}"
            raise ValueError(msg)


def nearest(word: str, words: Collection[str]) -> str:
    """The end of a message, "; did you mean 'x'?", with the closest of the words; empty if none is close."""
    return did_you_mean(word, words, cutoff=0.5)


def number(value: Any, where: str) -> float:
    """The value as a float; text such as 1e-3, which YAML 1.1 does not read as a number, is converted."""
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Real)):
        return refuse(value, where)
    try:
        return float(value)
    except ValueError:
        return refuse(value, where)


def refuse(value: Any, where: str, what: str = "a number") -> Any:
    """Raises a ValueError that says what was expected and what was given."""
    msg = f"{where} must be {what}, got {value!r}"
    raise ValueError(msg) from None


def whole(value: Any, where: str) -> int:
    """The value, which must be a whole number or text that spells one; otherwise a ValueError."""
    found = number(value, where)
    return int(found) if found.is_integer() else refuse(value, where, "a whole number")


def flag(value: Any, where: str) -> bool:
    """The value, which must be True or False; otherwise a ValueError."""
    return value if isinstance(value, bool) else refuse(value, where, "true or false")


def text(value: Any, where: str) -> str:
    """The value, which must be text; otherwise a ValueError."""
    return value if isinstance(value, str) else refuse(value, where, "text")
