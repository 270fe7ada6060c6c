"""Ablation: runs without one of their parts, to measure its benefit."""

from __future__ import annotations

from dataclasses import replace

from surrogate.inference.checks import CHECKS
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.scouts import SCOUTS
from surrogate.inference.scouts.fill import Fill
from surrogate.inference.scouts.probes import Probes
from surrogate.inference.setup import Setup

__all__ = ["parts", "without"]


_SEARCHED = ("structures", "input_warps", "output_warps", "couplings", "divisions", "peaks", "noise")
_SWITCHES = {"temperature": "tempered", "feasibility_doubt": "feasibility_doubt", "jumps": "jumps"}
_EXPLORING = ("promising", "survey", "labels", "exchanges", "holes", "modes")
_NEEDED = (Fill.name, Probes.name)  # parts without which a batch is incomplete


def parts() -> tuple[str, ...]:
    """Names of the parts that can be left out: scouts, checks, searches, settings, and "explore"."""
    names = [*(scout.name for scout in SCOUTS), *(check.name for check in CHECKS)]
    return (*_SEARCHED, *_SWITCHES, *(name.replace(" ", "_") for name in names if name not in _NEEDED), "explore")


def without(loop: PosteriorLoop, name: str) -> PosteriorLoop:
    """A copy of the loop without one of its parts; "explore" stands for all parts that look for further modes.

    Raises:
        ValueError: If there is no part of that name.

    >>> from surrogate.problem.prior import Prior
    >>> loop = PosteriorLoop(Setup(Prior.of({"a": (0.0, 1.0)})))
    >>> "holes" in [check.name for check in without(loop, "holes").checks]
    False
    """
    if name not in parts():
        msg = f"name must be one of {', '.join(parts())}, got {name!r}"
        raise ValueError(msg)
    if name in _SEARCHED or name in _SWITCHES:
        return replace(loop, setup=_setup_without(loop.setup, name))
    left_out = _EXPLORING if name == "explore" else (name.replace("_", " "),)
    if "holes" in left_out:
        loop = replace(loop, setup=replace(loop.setup, n_holes=0))
    scouts = tuple(scout for scout in loop.scouts if scout.name not in left_out)
    return replace(loop, scouts=scouts, checks=tuple(check for check in loop.checks if check.name not in left_out))


def _setup_without(setup: Setup, name: str) -> Setup:
    if name in _SWITCHES:
        return replace(setup, switches=replace(setup.switches, **{_SWITCHES[name]: False}))
    return replace(setup, search=replace(setup.search, **{name: False}))
