"""Lowering of a log-density outside the box of its data: constants shared by all implementations."""

from __future__ import annotations

__all__ = ["BEND_QUARTIC", "BEND_WIDTH"]


BEND_WIDTH = 0.1
"""Distance outside the trust region, in units of its width, at which a log-density is bent down by half a nat."""
BEND_QUARTIC = 0.1
"""Weight of the square of the bend beside the bend itself: a quartic, which outgrows any quadratic trend."""
