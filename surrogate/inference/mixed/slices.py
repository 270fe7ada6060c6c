"""The view of one level, for checks of continuous parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from surrogate.inference.draws import ScaledPrior
from surrogate.inference.mixed.sampling import draws_at, mixed_model
from surrogate.inference.view import View
from surrogate.log_density.protocol import LogDensity
from surrogate.problem.levels import Levels

__all__ = ["at_level", "levels_of"]


def levels_of(view: View) -> Levels:
    """The levels of a run.

    Raises:
        TypeError: If the run has no levels.
    """
    levels = view.setup.levels
    if levels is None:
        msg = "the run has no categories or integers"
        raise TypeError(msg)
    return levels


def at_level(view: View, level: int) -> View:
    """The view of one level over its continuous parameters: its evaluations, its draws and its surrogate."""
    levels, state = levels_of(view), view.state
    mine = levels.index(state.data.x) == level
    data = state.data.where(mine)
    data = replace(data, x=data.x[:, levels.continuous], gradient=data.gradient[:, levels.continuous])
    own = draws_at(levels, view.draws, level)
    if len(own.posterior) == 0:
        own = replace(own, posterior=own.warm)
    state = replace(state, data=data, predicted=state.predicted[mine], draws=own, probes=None, pending=None)
    out = View(view.setup.continuous, state)
    y_max = data.y_max if data.finite.any() else state.data.y_max if np.isfinite(state.data.y_max) else view.model.y_max

    def sliced(model: LogDensity) -> LogDensity:
        return mixed_model(model).at_level(level, y_max)

    before = None if view.before is None else sliced(view.before)
    out = replace(out, before=before)
    vars(out)["model"] = sliced(view.model)
    vars(out)["window"] = _continuous(view.window, view.setup.continuous.scaled)
    return out


def _continuous(window: ScaledPrior, scaled: ScaledPrior) -> ScaledPrior:
    """The window of the continuous parameters, with circles cut as in the window of all levels."""
    return replace(scaled, seam=window.seam)
