"""The last result of a costly function, kept in case that it is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Latest"]

T = TypeVar("T")


class Latest(Generic[T]):
    """The last result of a function of immutable objects, computed anew if one of these is another object."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], T] | None = None

    def of(self, arguments: tuple[object, ...], make: Callable[[], T]) -> T:
        """The result for these arguments, which are compared by identity.

        Args:
            arguments: Everything on which the result depends.
            make: Computes the result.
        """
        kept = self._kept
        if kept is not None and all(one is other for one, other in zip(kept[0], arguments, strict=True)):
            return kept[1]
        result = make()
        self._kept = arguments, result
        return result
