"""Lazy loading of a package's public names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["on_first_use"]


def on_first_use(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Functions ``__getattr__`` and ``__dir__`` for a package that loads its public names on first use.

    Args:
        package: Full name of the package.
        homes: The module that defines each public name.
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
        """All names, including those that have not been loaded yet."""
        return sorted({*vars(sys.modules[package]), *homes})

    return load, names
