"""The state of a run: numbers only, immutable, and its record on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array, Flags
from surrogate.inference.draws import Draws
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.phases import Phase, Verdict
from surrogate.log_density.protocol import Parameters
from surrogate.log_density.restore import parameters_from_arrays
from surrogate.problem.dataset import Dataset

__all__ = ["State"]

_FORMER_COLUMNS = {"border": "infeasible"}
"""Current names of the trace's columns, by their names in older files."""


@dataclass(frozen=True, eq=False)
class State:
    """The complete state of a run, on which ``ask`` and ``tell`` depend.

    Attributes:
        seed: Seed of all random numbers.
        step: Number of batches so far.
        data: Evaluated points.
        predicted: Mean and sd of the log-likelihood predicted before each evaluation, with shape (n, 2); nan in the
            initial design.
        parameters: Parameters of the current surrogate; None before there is one.
        previous: Parameters of the surrogate before the last batch.
        draws: Draws of the current surrogate.
        probes: Points that checks request for the next batch, in unit coordinates, with shape (k, d); None if there are
            none.
        explored: Number of probes, including holes, evaluated since the search for modes last started.
        pending: Points x that were in flight when an asynchronous run last saved its state, with shape (k, d); some may
            have returned since.
        verdict: The phase of the run, and the reason.
        findings: Findings of the checks after the last batch, by name.
        columns: Names of the columns of the trace.
        trace: One row per step that had a surrogate, with shape (steps, columns).
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
    verdict: Verdict = Verdict(Phase.DESIGN, "not started")  # noqa: RUF009
    findings: Mapping[str, Finding] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    trace: Array = field(default_factory=lambda: np.empty((0, 0)))

    def rows(self) -> tuple[dict[str, float], ...]:
        """The trace as one dict per step."""
        return tuple(dict(zip(self.columns, map(float, row), strict=True)) for row in self.trace)

    def column(self, name: str) -> Array:
        """A column of the trace, with shape (steps,); nan if there is no such column."""
        known = name in self.columns
        return self.trace[:, self.columns.index(name)] if known else np.full(len(self.trace), np.nan)

    def recent_rows(self, batches: int) -> Flags:
        """Mask of the finite values of the last batches that a surrogate predicted, with shape (n,)."""
        recent = self.data.step >= self.step - batches
        return recent & self.data.finite & np.isfinite(self.predicted[:, 0])

    def to_arrays(self) -> dict[str, NDArray]:
        """The state as arrays of numbers and fixed-width text, without loss."""
        out: dict[str, NDArray] = {f"data/{k}": v for k, v in self.data.to_arrays().items()}
        out |= {
            "seed": np.array(self.seed),
            "step": np.array(self.step),
            "predicted": self.predicted,
            "verdict/phase": np.array(self.verdict.phase.value),
            "verdict/reason": np.array(self.verdict.reason),
            "trace": self.trace,
            "explored": np.array(self.explored),
            "trace_columns": np.array(self.columns, dtype=np.str_),
        }
        out |= _findings_to_arrays(self.findings)
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
        """The inverse of ``to_arrays``.

        It also reads older layouts, with three flags instead of the phase, no findings, or other names of columns.
        """
        data = {k.removeprefix("data/"): v for k, v in arrays.items() if k.startswith("data/")}
        _check_arrays(arrays)
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
            verdict=Verdict(_phase(arrays), str(arrays["verdict/reason"])),
            findings=_findings_from_arrays(arrays),
            columns=tuple(_FORMER_COLUMNS.get(name, name) for name in map(str, arrays["trace_columns"])),
            trace=arrays["trace"],
        )


def _check_arrays(arrays: Mapping[str, NDArray]) -> None:
    """Raises ValueError unless points and draws in saved arrays are finite, and predictions belong to the points."""
    n, d = arrays["data/x"].shape
    shapes = {"data/x": (n, d), "predicted": (n, 2)}
    if arrays["trace_columns"].size:
        shapes["trace"] = (len(arrays["trace"]), arrays["trace_columns"].size)
    shapes |= {name: (len(arrays[name]), d) for name in ("draws/posterior", "draws/warm") if name in arrays}
    for name, shape in shapes.items():
        x = arrays[name]
        if x.shape != shape or x.dtype.kind != "f" or (name.startswith("draws") and len(x) < 2):
            msg = f"{name} must be floating-point numbers with shape {shape}, got {x.dtype} with shape {x.shape}"
            raise ValueError(msg)
        if name not in ("predicted", "trace") and not np.isfinite(x).all():
            msg = f"{name} must be finite"
            raise ValueError(msg)


def _phase(arrays: dict[str, NDArray]) -> Phase:
    """The phase, read from its name or from the former flags stop, converged and armed."""
    if "verdict/phase" in arrays:
        return Phase(str(arrays["verdict/phase"]))
    stop, converged, armed = map(bool, arrays["verdict/flags"])
    if stop:
        return Phase.DONE if converged else Phase.GAVE_UP
    if armed:
        return Phase.EXPLORE if converged else Phase.ARMED
    if "parameters/hyper" not in arrays:
        return Phase.DESIGN
    tempered = float(arrays["parameters/numbers"][0]) > 1.0 or "previous/hyper" not in arrays
    return Phase.TEMPERED if tempered else Phase.LEARN


def _findings_to_arrays(findings: Mapping[str, Finding]) -> dict[str, NDArray]:
    out: dict[str, NDArray] = {"findings/names": np.array(list(findings), dtype=np.str_)}
    for name, finding in findings.items():
        out[f"findings/{name}/points"] = finding.points
        out[f"findings/{name}/text"] = np.array([finding.claim.value, finding.reason, finding.grounds])
        out[f"findings/{name}/names"] = np.array(list(finding.numbers), dtype=np.str_)
        out[f"findings/{name}/numbers"] = np.array([*finding.numbers.values(), finding.excess], dtype=np.float64)
    return out


def _findings_from_arrays(arrays: dict[str, NDArray]) -> dict[str, Finding]:
    """The findings stored by `_findings_to_arrays`; empty if there are none."""
    out = {}
    for name in map(str, arrays.get("findings/names", ())):
        claim, reason, grounds = map(str, arrays[f"findings/{name}/text"])
        *values, excess = map(float, arrays[f"findings/{name}/numbers"])
        names = (_FORMER_COLUMNS.get(each, each) for each in map(str, arrays[f"findings/{name}/names"]))
        numbers = dict(zip(names, values, strict=True))
        out[name] = Finding(arrays[f"findings/{name}/points"], Claim(claim), reason, numbers, excess, grounds)
    return out


def _parameters_from_arrays(arrays: dict[str, NDArray], name: str) -> Parameters | None:
    part = {k.removeprefix(f"{name}/"): v for k, v in arrays.items() if k.startswith(f"{name}/")}
    return parameters_from_arrays(part) if part else None
