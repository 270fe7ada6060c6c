"""Whether the found modes explain all that was evaluated."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.inference.checks.check import SEARCH
from surrogate.inference.depths import bulk_depth
from surrogate.inference.findings import Finding
from surrogate.inference.setup import inner_box
from surrogate.inference.trilateration import radius_of, search
from surrogate.inference.view import View

__all__ = ["Modes", "fruitless_rounds", "is_surprise", "patience"]


_MOST = 6  # times d: probes after which the search ends in any case
_DRAWS = 4000  # of the posterior: enough for a mixture of eight in sixty dimensions
_ROUND = 2  # probes of a round: one at the most likely place, one to guard against its being wrong
_CLOSER = 0.8  # factor by which a round must shorten the smallest radius to count as progress
_SURPRISE = (0.85, 0.3)  # a radius below 0.85 times the predicted one minus 0.3 is a surprise ...
_AS_NEAR = 1.5  # ... if it is at most 1.5 times the smallest known


class Modes:
    """No evaluated point is much closer to a mode than the found posterior says; else probes look for that mode.

    Where the posterior explains what was seen, as a Gaussian does, none are needed. See
    `surrogate.inference.trilateration`.
    """

    name = "modes"
    phases = SEARCH
    columns = {"open_radius": np.nan}

    def look(self, view: View) -> Finding:
        """Probes, and the smallest radius of an unexplained point; infinite if there is none."""
        setup, state, model = view.setup, view.state, view.model
        if setup.knows_width or max(0, state.explored - setup.holes_to_fill) >= _MOST * view.d:
            return Finding(view.nowhere, numbers=self.columns)
        gave_up = _fruitless_rounds(view) >= patience(view.d)
        rng, sample, finite = copy.deepcopy(view.exploration.rng), view.sample, state.data.finite
        t, y = view.window.unrolled(view.t)[finite], state.data.y[finite]
        top = float(model.smooth(sample.x).max())
        found = search(
            t,
            y,
            sample.x[rng.choice(len(sample.x), _DRAWS, p=sample.weights)],
            model.trend_depth(t) if model.exact else None,
            model.left_out_depth(y),
            lambda m: top - model.smooth(m),
            inner_box(setup, view.window),
            rng,
            count=0 if gave_up else _ROUND,
        )
        return Finding(found.probes, numbers={"open_radius": found.nearest})


def _fruitless_rounds(view: View) -> int:
    """Rounds of probes that led nowhere, since the search for modes last began."""
    state, data = view.state, view.state.data
    step, explored, nearest = map(state.column, ("step", "explored", "open_radius"))
    again = np.flatnonzero(np.diff(explored, append=state.explored) < 0)
    rounds = np.isfinite(nearest)
    rounds[: again[-1] + 1 if len(again) else 0] = False
    surprised = []
    for round_step, radius in zip(step[rounds], nearest[rounds], strict=True):
        rows = (data.step == round_step) & data.finite & np.isfinite(state.predicted[:, 0])
        gap, predicted_gap = data.y_max - data.y[rows], data.y_max - state.predicted[rows, 0]
        surprised.append(bool(is_surprise(gap, predicted_gap, radius, view.d).any()))
    return fruitless_rounds(nearest[rounds].tolist(), surprised)


def fruitless_rounds(nearest: Sequence[float], surprised: Sequence[bool]) -> int:
    """Rounds of probes since the last that brought the search nearer, by a fifth, to a mode, or surprised it.

    Probes for a mode that exists close in on it: on targets with two modes each second round did, at the least. Points
    that a curved or truncated posterior leaves unexplained have no mode to close in on.

    Args:
        nearest: Smallest radius of an unexplained point before each round.
        surprised: Whether a point of the round was much better than predicted, see `is_surprise`.
    """
    best, rounds, before = np.inf, 0, False
    for radius, surprise in zip(nearest, surprised, strict=True):
        closer = radius < _CLOSER * best
        best = radius if closer else best
        rounds = 0 if closer or before else rounds + 1
        before = surprise
    return 0 if before else rounds


def patience(d: int) -> int:
    """Rounds of probes that may lead nowhere before the search gives up, max(2, d - 1).

    On three unequal modes in five dimensions four rounds found what an unlimited search of 30 probes did.
    """
    return max(2, d - 1)


def is_surprise(gap: Array, predicted_gap: Array, nearest: Array, d: int) -> Flags:
    """Whether evaluated points are much nearer to a mode than the surrogate said, and as near as the nearest known.

    Args:
        gap: Depth below the best point, with shape (n,).
        predicted_gap: The same, as predicted before the evaluation; negative where more was expected than the best.
        nearest: Smallest radius of an unexplained point at that time.
        d: Number of parameters.
    """
    radius, predicted = radius_of(gap), radius_of(np.maximum(predicted_gap, 0.0))
    outside = predicted_gap > bulk_depth(d)
    return outside & (radius < _SURPRISE[0] * predicted - _SURPRISE[1]) & (radius < _AS_NEAR * nearest)
