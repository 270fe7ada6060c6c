"""The trace of a run: one row for each step that had a surrogate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from surrogate.inference.checks import Check
from surrogate.inference.state import State
from surrogate.log_density.protocol import Parameters

__all__ = ["columns_of", "with_row"]


_OF_THE_STATE = ("step", "n_evaluations", "n_finite", "best", "explored")
_OF_THE_SURROGATE = ("temperature", "amplitude", "shaping", "output_scale", "rescues")


def columns_of(checks: Sequence[Check]) -> tuple[str, ...]:
    """Names of the columns of a trace: those of the state, of the surrogate, and of each check."""
    return (*_OF_THE_STATE, *_OF_THE_SURROGATE, *(name for check in checks for name in check.columns))


def with_row(state: State, checks: Sequence[Check]) -> State:
    """The state with one more row in its trace; new columns are nan in earlier rows."""
    row = _of_state(state) | ({} if state.parameters is None else _of_surrogate(state.parameters))
    for check in checks:
        finding = state.findings.get(check.name)
        row |= check.columns if finding is None else {name: finding.numbers[name] for name in check.columns}
    columns = (*state.columns, *(name for name in columns_of(checks) if name not in state.columns))
    trace = np.full((len(state.trace) + 1, len(columns)), np.nan)
    trace[:-1, : len(state.columns)] = state.trace
    trace[-1] = [row.get(name, np.nan) for name in columns]
    return replace(state, columns=columns, trace=trace)


def _of_state(state: State) -> dict[str, float]:
    data = state.data
    numbers = state.step, len(data), int(data.finite.sum()), data.y_max, state.explored
    return dict(zip(_OF_THE_STATE, map(float, numbers), strict=True))


def _of_surrogate(parameters: Parameters) -> dict[str, float]:
    return {"temperature": parameters.temperature, **parameters.numbers()}
