"""Public names of a package that are loaded when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["on_first_use"]


def on_first_use(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose import costs nothing.

    Args:
        package: Its full name.
        homes: For each public name the module that defines it.
    """

    def load(name: str) -> Any:
        """A public name, loaded on its first use."""
        if name not in homes:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        """All names, those included that have not been used yet."""
        return sorted({*vars(sys.modules[package]), *homes})

    return load, names
