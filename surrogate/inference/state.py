"""The state of a run: numbers only, immutable, and its record on disk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array
from surrogate.inference.draws import Draws
from surrogate.inference.stopping import Verdict
from surrogate.log_density.protocol import Parameters
from surrogate.log_density.restore import parameters_from_arrays
from surrogate.problem.dataset import Dataset

__all__ = ["TRACE_COLUMNS", "State"]


TRACE_COLUMNS = (
    "step",
    "n_evaluations",
    "n_finite",
    "best",
    "temperature",
    "log_evidence",
    "log_evidence_error",
    "spread",
    "warm_spread",
    "evidence_spread",
    "batch_error",
    "moved",
    "border",
    "ess",
    "inflation",
    "amplitude",
    "shaping",
    "output_scale",
    "rescues",
    "explored",
    "open_radius",
)


@dataclass(frozen=True, eq=False)
class State:
    """Everything that a run knows; ``ask`` and ``tell`` are functions of it.

    Attributes:
        seed: Of all random numbers.
        step: Number of batches told.
        data: Evaluated points.
        predicted: Mean and sd of the log-likelihood predicted before each evaluation, with shape (n, 2); nan in the
            initial design.
        parameters: The present surrogate; None before there is one.
        previous: The surrogate before the last batch.
        draws: Draws of the present surrogate.
        probes: Points in scaled coordinates that the next batch must hold, with shape (k, d): the search for further
            modes.
        explored: Probes evaluated so far, holes included.
        pending: Points whose evaluations are under way, with shape (k, d), in runs that have such; some of them may
            have been told since.
        verdict: Of the stopping rule.
        trace: One row per step with the columns ``TRACE_COLUMNS``, with shape (steps, columns).
    """

    seed: int
    step: int
    data: Dataset
    predicted: Array
    parameters: Parameters | None = None
    previous: Parameters | None = None
    draws: Draws | None = None
    probes: Array | None = None
    explored: int = 0
    pending: Array | None = None
    verdict: Verdict = field(default_factory=lambda: Verdict(False, False, False, "not started"))
    trace: Array = field(default_factory=lambda: np.empty((0, len(TRACE_COLUMNS))))

    def rows(self) -> tuple[dict[str, float], ...]:
        """The trace as one dict per step."""
        return tuple(dict(zip(TRACE_COLUMNS, map(float, row), strict=True)) for row in self.trace)

    def to_arrays(self) -> dict[str, NDArray]:
        """Arrays of numbers and fixed-width text that define the state exactly."""
        out: dict[str, NDArray] = {f"data/{k}": v for k, v in self.data.to_arrays().items()}
        out |= {
            "seed": np.array(self.seed),
            "step": np.array(self.step),
            "predicted": self.predicted,
            "verdict/flags": np.array([self.verdict.stop, self.verdict.converged, self.verdict.armed]),
            "verdict/reason": np.array(self.verdict.reason),
            "trace": self.trace,
            "explored": np.array(self.explored),
            "trace_columns": np.array(TRACE_COLUMNS),
        }
        for name, parameters in (("parameters", self.parameters), ("previous", self.previous)):
            if parameters is not None:
                out |= {f"{name}/{k}": v for k, v in parameters.to_arrays().items()}
        if self.draws is not None:
            out |= {"draws/posterior": self.draws.posterior, "draws/warm": self.draws.warm}
        if self.probes is not None:
            out["probes"] = self.probes
        if self.pending is not None:
            out["pending"] = self.pending
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray]) -> State:
        """The inverse of ``to_arrays``."""
        data = {k.removeprefix("data/"): v for k, v in arrays.items() if k.startswith("data/")}
        flags = [bool(f) for f in arrays["verdict/flags"]]
        draws = Draws(arrays["draws/posterior"], arrays["draws/warm"]) if "draws/posterior" in arrays else None
        return cls(
            seed=int(arrays["seed"]),
            step=int(arrays["step"]),
            data=Dataset.from_arrays(data),
            predicted=arrays["predicted"],
            parameters=_parameters_from_arrays(arrays, "parameters"),
            previous=_parameters_from_arrays(arrays, "previous"),
            draws=draws,
            probes=arrays.get("probes"),
            pending=arrays.get("pending"),
            explored=int(arrays["explored"]),
            verdict=Verdict(flags[0], flags[1], flags[2], str(arrays["verdict/reason"])),
            trace=arrays["trace"],
        )


def _parameters_from_arrays(arrays: dict[str, NDArray], name: str) -> Parameters | None:
    part = {k.removeprefix(f"{name}/"): v for k, v in arrays.items() if k.startswith(f"{name}/")}
    return parameters_from_arrays(part) if part else None
