"""Versions of the software that made a run."""

from __future__ import annotations

import platform
from importlib import metadata

from surrogate._version import __version__

__all__ = ["software_versions"]

_LIBRARIES = ("numpy", "scipy", "torch", "scikit-learn", "emcee", "getdist", "matplotlib")


def software_versions() -> dict[str, str]:
    """Names and versions of this package, Python and the numerical libraries."""
    found = {"surrogate": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
