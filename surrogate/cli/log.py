"""Logging of the package to standard error, for -v."""

from __future__ import annotations

import logging

__all__ = ["show_log"]

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def show_log(verbosity: int) -> None:
    """Sets how much the package logs: nothing at 0, steps and failures at 1, also each call from 2."""
    if not verbosity:
        return
    logger = logging.getLogger("surrogate")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
