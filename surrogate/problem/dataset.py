"""The dataset of a run: an immutable table of evaluated points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from surrogate.problem.evaluation import Evaluation
from surrogate.problem.outputs import Layout

__all__ = ["FAILED", "INFEASIBLE", "OK", "Dataset"]

OK, INFEASIBLE, FAILED = 0, 1, 2

_CODES = {"ok": OK, "infeasible": INFEASIBLE, "failed": FAILED}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Evaluated points in the order of their proposal, one row each.

    The arrays are read-only; index with a mask or copy before handing them to torch.

    Attributes:
        x: Points, with shape (n, d).
        y: Log-likelihoods, with shape (n,): finite if ok; -inf if infeasible, or the number that stands for it, see
            ``surrogate.problem.walls``; NaN if failed.
        noise: Standard deviations of y, with shape (n,); 0 if exact.
        status: Codes `OK`, `INFEASIBLE` or `FAILED`, with shape (n,).
        derived: Derived values, with shape (n, k); NaN where a row has none.
        derived_names: Names of the k derived values, in the order of their first appearance.
        seconds: Wall-clock time of each evaluation, with shape (n,).
        step: Step of the loop that proposed each row, with shape (n,); 0 is the initial design.
        reasons: Why each of the n rows failed; empty if it did not.
        gradient: Derivatives of y with respect to x, with shape (n, d); NaN if unknown.
        outputs: Outputs of the simulator, with shape (n, m); NaN in rows without outputs. m is 0 if there is no
            simulator.
        layout: Names and shapes of these outputs; None if there are none.

    Raises:
        ValueError: If the shapes do not fit together.
    """

    x: np.ndarray
    y: np.ndarray
    noise: np.ndarray
    status: np.ndarray
    derived: np.ndarray
    derived_names: tuple[str, ...]
    seconds: np.ndarray
    step: np.ndarray
    reasons: tuple[str, ...]
    gradient: np.ndarray = None  # type: ignore[assignment]  # NaN unless given
    outputs: np.ndarray = None  # type: ignore[assignment]  # none unless given
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if self.gradient is None:
            object.__setattr__(self, "gradient", np.full(np.shape(self.x), np.nan))
        if self.outputs is None:
            object.__setattr__(self, "outputs", np.empty((len(self.reasons), 0)))
        for name, dtype in _DTYPES.items():
            object.__setattr__(self, name, _freeze(getattr(self, name), dtype))
        object.__setattr__(self, "derived_names", tuple(self.derived_names))
        object.__setattr__(self, "reasons", tuple(self.reasons))
        _check_shapes(self)

    @classmethod
    def empty(cls, d: int) -> Dataset:
        """A dataset of d parameters without rows."""
        none = np.empty(0)
        return cls(np.empty((0, d)), none, none, none, np.empty((0, 0)), (), none, none, ())

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Dataset:
        """The dataset restored from the arrays of `to_arrays`, bit for bit; other entries are ignored.

        Raises:
            ValueError: If an array is missing or the shapes do not fit together.
        """
        if "gradient" not in arrays and "x" in arrays:  # files of earlier versions
            arrays = {**arrays, "gradient": np.full(np.shape(arrays["x"]), np.nan)}
        if "outputs" not in arrays and "x" in arrays:
            arrays = {**arrays, "outputs": np.empty((len(arrays["x"]), 0))}
        names = [entry.name for entry in fields(cls) if entry.name != "layout"]
        if missing := [name for name in names if name not in arrays]:
            msg = f"a dataset needs the arrays {', '.join(names)}; missing: {', '.join(missing)}"
            raise ValueError(msg)
        values: dict[str, Any] = {name: tuple(arrays[name].tolist()) for name in _WORDS}
        layout = Layout.from_text(str(arrays["layout"])) if "layout" in arrays else None
        return cls(**values | {name: arrays[name] for name in _DTYPES}, layout=layout)

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.x.shape[1]

    @property
    def finite(self) -> np.ndarray:
        """Mask of the rows with a finite log-likelihood, with shape (n,)."""
        return self.status == OK

    @property
    def y_max(self) -> float:
        """Largest log-likelihood; -inf if no row has a finite one."""
        return float(np.max(self.y[self.finite], initial=-np.inf))

    def __len__(self) -> int:
        return len(self.y)

    def append(self, x: np.ndarray, evaluations: Sequence[Evaluation], step: int) -> Dataset:
        """A copy with b further rows.

        Args:
            x: Points, with shape (b, d).
            evaluations: Their b evaluations.
            step: The step of the loop that proposed them.

        Raises:
            ValueError: If the shapes do not fit.
        """
        x = np.asarray(x, dtype=np.float64)
        if x.shape != (len(evaluations), self.d):
            msg = f"x must have shape ({len(evaluations)}, {self.d}) for {len(evaluations)} evaluations, got {x.shape}"
            raise ValueError(msg)
        evaluations = _alike(self, evaluations)
        names = tuple(dict.fromkeys([*self.derived_names, *(name for e in evaluations for name in e.derived)]))
        return Dataset(
            x=np.concatenate([self.x, x]),
            y=np.append(self.y, [e.y for e in evaluations]),
            noise=np.append(self.noise, [e.noise for e in evaluations]),
            status=np.append(self.status, np.array([_CODES[e.status] for e in evaluations], dtype=np.uint8)),
            derived=np.concatenate([_widen(self.derived, len(names)), _derived(evaluations, names)]),
            derived_names=names,
            seconds=np.append(self.seconds, [e.seconds for e in evaluations]),
            step=np.append(self.step, np.full(len(evaluations), step, dtype=np.int64)),
            reasons=(*self.reasons, *(e.reason for e in evaluations)),
            gradient=np.concatenate([self.gradient, _gradients(evaluations, self.d)]),
            **_outputs_with(self, evaluations),
        )

    @property
    def has_outputs(self) -> np.ndarray:
        """Mask of the rows with outputs of a simulator, with shape (n,)."""
        if self.layout is None:
            return np.zeros(len(self), dtype=bool)
        return np.isfinite(self.outputs[:, 0])

    @property
    def has_gradients(self) -> bool:
        """Whether any row has known derivatives."""
        return bool(np.isfinite(self.gradient).any())

    def head(self, n: int) -> Dataset:
        """The first n rows, or all if there are fewer, with all columns of derived values."""
        rows = {name: getattr(self, name)[:n] for name in (*_DTYPES, "reasons")}
        return replace(self, **rows)

    def where(self, mask: np.ndarray) -> Dataset:
        """The rows of a mask with shape (n,), in order, with all columns of derived values."""
        rows: dict[str, Any] = {name: getattr(self, name)[mask] for name in _DTYPES}
        return replace(self, reasons=tuple(np.array(self.reasons, dtype=object)[mask]), **rows)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The table as arrays of numbers and fixed-width text, for `from_arrays`."""
        words = {name: np.array(getattr(self, name), dtype=np.str_) for name in _WORDS}
        if self.layout is not None:
            words["layout"] = np.array(self.layout.to_text())
        return {name: getattr(self, name) for name in _DTYPES} | words


_DTYPES: dict[str, type] = {
    "x": np.float64,
    "y": np.float64,
    "noise": np.float64,
    "status": np.uint8,
    "derived": np.float64,
    "seconds": np.float64,
    "step": np.int64,
    "gradient": np.float64,
    "outputs": np.float64,
}
_WORDS = ("derived_names", "reasons")


def _check_shapes(data: Dataset) -> None:
    n, k = len(data.reasons), len(data.derived_names)
    d = data.x.shape[-1]
    m = 0 if data.layout is None else data.layout.size
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(_DTYPES, (n,))
    expected |= {"x": (n, d), "derived": (n, k), "gradient": (n, d), "outputs": (n, m)}
    got = {name: getattr(data, name).shape for name in expected}
    if wrong := [name for name in expected if got[name] != expected[name]]:
        words = ", ".join(f"{name} with shape {got[name]} instead of {expected[name]}" for name in wrong)
        msg = f"the arrays of a dataset of {n} rows do not fit together: {words}"
        raise ValueError(msg)


def _freeze(array: np.ndarray, dtype: type) -> np.ndarray:
    """A read-only copy in C order, or the array itself if it is that already."""
    if isinstance(array, np.ndarray) and _is_frozen(array, dtype):
        return array
    given = np.asarray(array)
    if np.dtype(dtype).kind in "iu" and given.size:
        limits = np.iinfo(dtype)
        if given.dtype.kind not in "iufb" or not ((given >= limits.min) & (given <= limits.max)).all():
            msg = f"integers from {limits.min} to {limits.max} were expected, got {given.dtype}"
            raise ValueError(msg)
    copy: np.ndarray = np.array(given, dtype=dtype, order="C")
    copy.flags.writeable = False
    return copy


def _is_frozen(array: np.ndarray, dtype: type) -> bool:
    """Whether an array needs no copy; avoids copying large outputs each time that a table is replaced."""
    return not array.flags.writeable and array.flags.owndata and array.flags.c_contiguous and array.dtype == dtype


def _layout_with(data: Dataset, evaluations: Sequence[Evaluation]) -> Layout | None:
    """The layout of the outputs of a table, or else of the first further evaluation that has any."""
    found = [e.outputs.layout for e in evaluations if e.outputs is not None]
    return data.layout or (found[0] if found else None)


def _outputs_with(data: Dataset, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Outputs of a table and of further evaluations, and their layout."""
    layout = _layout_with(data, evaluations)
    if layout is None:
        return {"outputs": np.empty((len(data) + len(evaluations), 0))}
    outputs = np.full((len(data) + len(evaluations), layout.size), np.nan)
    if data.layout is not None:
        outputs[: len(data)] = data.outputs
    for row, evaluation in enumerate(evaluations, start=len(data)):
        if evaluation.outputs is not None:
            outputs[row] = evaluation.outputs.values
    outputs.flags.writeable = False
    return {"outputs": outputs, "layout": layout}


def _alike(data: Dataset, evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """The evaluations, with failures in place of those whose outputs differ in names or shapes from the first."""
    layout = _layout_with(data, evaluations)
    if all(e.outputs is None or e.outputs.layout == layout for e in evaluations):
        return evaluations
    return [e if e.outputs is None or e.outputs.layout == layout else _layout_failure(e, layout) for e in evaluations]


def _layout_failure(evaluation: Evaluation, layout: Layout | None) -> Evaluation:
    """The failed evaluation that replaces one with outputs of another layout."""
    first, now = (dict(zip(part.names, part.shapes, strict=True)) for part in (layout, evaluation.outputs.layout))  # type: ignore[union-attr]
    reason = f"the simulator returned outputs {now} after {first}: their names and shapes must not change"
    return Evaluation.failure(reason, seconds=evaluation.seconds, worker=evaluation.worker)


def _widen(derived: np.ndarray, k: int) -> np.ndarray:
    """The derived values, extended to k columns by NaN."""
    return np.pad(derived, ((0, 0), (0, k - derived.shape[1])), constant_values=np.nan)


def _derived(evaluations: Sequence[Evaluation], names: tuple[str, ...]) -> np.ndarray:
    rows = [[evaluation.derived.get(name, np.nan) for name in names] for evaluation in evaluations]
    return np.array(rows, dtype=np.float64).reshape(len(evaluations), len(names))


def _gradients(evaluations: Sequence[Evaluation], d: int) -> np.ndarray:
    rows = [evaluation.gradient or (np.nan,) * d for evaluation in evaluations]
    return np.array(rows, dtype=np.float64).reshape(len(evaluations), d)
