"""Bayesian inference and active learning for functions that cost seconds to hours a call."""

from surrogate._version import __version__

__all__ = ["__version__"]
