"""Versions of the software that a run was made with."""

from __future__ import annotations

import platform
from importlib import metadata

from surrogate._version import __version__

__all__ = ["software_versions"]

_LIBRARIES = ("numpy", "scipy", "torch", "scikit-learn", "emcee", "getdist", "matplotlib")


def software_versions() -> dict[str, str]:
    """Names and versions of this package, of Python and of the libraries that the numbers come from."""
    found = {"surrogate": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
