"""Learning: fits of the surrogate to the data of a run, and draws from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.checks.batch_error import batch_error
from surrogate.inference.depths import COLD_START_EVERY, NOISE_EVERY, STRUCTURE_EVERY, STRUCTURE_GROWTH
from surrogate.inference.draws import draw, is_narrow
from surrogate.inference.mixed.sampling import draw_levels
from surrogate.inference.state import State
from surrogate.inference.view import View
from surrogate.log_density.protocol import Parameters
from surrogate.log_density.training import MOST_FITTED
from surrogate.problem.dataset import OK

__all__ = ["learn", "search_is_due"]


_MISSED = 2.0  # batch error, in units of its limit, above which another structure is searched for


def learn(view: View, temperature: float) -> View:
    """The view with a new surrogate fitted at a temperature, and draws from it."""
    state, setup = view.state, view.setup
    view = View(setup, replace(state, parameters=_fit(view, temperature)), view.before)
    finite = state.data.status == OK
    t, y = view.t[finite], state.data.y[finite]
    if setup.levels is not None:
        draws = draw_levels(view.model, setup, t, state.draws, view.rng)
    else:
        draws = draw(view.model, setup.scaled, t, y, state.draws, view.rng("draws"), n=setup.particles)
    return view.replace(state=replace(view.state, draws=draws))


def _fit(view: View, temperature: float) -> Parameters:
    """Parameters of a new surrogate, with a new structure if that explains the data better."""
    state, setup = view.state, view.setup
    return setup.learner.fit(
        setup.problem(state.data, _scale_points(view), temperature),
        state.parameters,
        cold_start=state.step % COLD_START_EVERY == 0,
        search=search_is_due(state) or _has_missed(view),
        noise=state.step % NOISE_EVERY == 0,
    )


def search_is_due(state: State) -> bool:
    """Whether a search for structure is due: by the steps, and where many are known by the growth of the data."""
    if state.parameters is None or len(state.data) <= MOST_FITTED:
        return state.step % STRUCTURE_EVERY == 0
    now, last = np.floor(np.log([len(state.data), state.parameters.n]) / np.log(STRUCTURE_GROWTH))
    return bool(now > last)


def _scale_points(view: View) -> Array | None:
    """Points that define the whitening of the surrogate: the last draws, or a design around a narrow reference."""
    draws = view.state.draws
    if draws is not None:
        return np.concatenate([draws.posterior, draws.warm])
    finite = view.t[view.state.data.status == OK]
    return finite if view.setup.reference is not None and is_narrow(finite) else None


def _has_missed(view: View) -> bool:
    """Whether the error of a point of the last batch was more than twice the convergence limit."""
    state = view.state
    last = state.recent_rows(1)
    error = batch_error(state.data.y[last], state.predicted[last, 0], state.data.y_max, noise=view.noise[last])
    return error > _MISSED * view.setup.thresholds.batch
