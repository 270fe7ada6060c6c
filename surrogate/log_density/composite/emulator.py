"""Emulator of all outputs of a simulator with errors, for use after a run and in other programs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from surrogate.arrays import Array
from surrogate.gp.process import Data
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.gp.trended import Hyperparameters
from surrogate.log_density.composite.fit import fit_components
from surrogate.log_density.composite.model import CompositeLogDensity
from surrogate.log_density.composite.parameters import SharedKernel
from surrogate.log_density.composite.reduction import principal_components
from surrogate.problem.outputs import Layout
from surrogate.storage.arrays import load_arrays, save_arrays

__all__ = ["OutputEmulator", "emulate_outputs", "load_observables"]


_LEFT = 1e-4  # residual that components may leave, relative to the spread of the outputs near the posterior
_NEAR = 30.0  # depth in nats of the evaluations that define that spread ...
_FEWEST = 3  # ... or that of the fourth best evaluation, if deeper
_KIND = "observables of a simulator"


@dataclass(frozen=True, eq=False)
class OutputEmulator:
    """The outputs of a simulator, learned from the evaluations of a run: principal components and their processes.

    Attributes:
        names: Names of all d parameters.
        columns: Positions of the s parameters of the simulator.
        layout: Names and shapes of the outputs.
        centre: Outputs at which all components are zero, with shape (M,).
        basis: Change of the outputs per unit of each component, with shape (M, K).
        left: Root mean square residual of each output, with shape (M,).
        location: Location of the processes' coordinates u = (x - location) @ forward, for slow parameters x, with shape
            (s,).
        forward: With shape (s, s).
        u: Coordinates of the evaluations, with shape (n, s).
        scores: Components of the evaluations, with shape (n, K).
        far: Distance of each evaluation from the relevant region, with shape (n,).
        groups: The processes of the components.
    """

    names: tuple[str, ...]
    columns: Array
    layout: Layout
    centre: Array
    basis: Array
    left: Array
    location: Array
    forward: Array
    u: Array
    scores: Array
    far: Array
    groups: tuple[SharedKernel, ...]

    def __post_init__(self) -> None:
        data = Data.of(self.u, self.scores, depth=self.far)
        posteriors = []
        for group in self.groups:
            values = data.y[:, torch.as_tensor(group.columns)]
            part = Data(data.u, values, data.depth, data.noise)
            posteriors.append(group.family.condition(part, group.hyper))
        object.__setattr__(self, "_posteriors", tuple(posteriors))

    def components(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance of the components at parameters x with shape (m, d), each with shape (m, K)."""
        u = (x[:, self.columns.astype(int)] - self.location) @ self.forward
        posteriors: tuple[CholeskyPosterior, ...] = getattr(self, "_posteriors")  # noqa: B009 - set in __post_init__
        mean, variance = np.empty((2, len(u), self.scores.shape[1]))
        for group, gp in zip(self.groups, posteriors, strict=True):
            mean[:, group.columns] = gp.mean(u)
            variance[:, group.columns] = gp.variance(u)
        return mean, variance

    def predict(self, x: ArrayLike) -> tuple[Any, Any]:
        """Outputs and their sds at x, in the simulator's arrangement.

        Args:
            x: Parameters with shape (m, d), or (d,) for one point.

        Returns:
            Two arrays, or dicts of arrays, with a leading axis of m unless x is one point. O(m K (n^2 + M)).

        Raises:
            ValueError: If x has another number of parameters.
        """
        points = np.asarray(x, dtype=np.float64)
        if points.ndim not in (1, 2) or points.shape[-1] != len(self.names):
            msg = f"x must have shape (m, {len(self.names)}) or ({len(self.names)},), got {points.shape}"
            raise ValueError(msg)
        mean, variance = self.components(np.atleast_2d(points))
        outputs = self.centre + mean @ self.basis.T
        sd = np.sqrt(variance @ self.basis.T**2 + self.left**2)
        if points.ndim == 1:
            outputs, sd = outputs[0], sd[0]
        return self.layout.split(outputs), self.layout.split(sd)

    __call__ = predict

    def draw(self, x: Array, rng: np.random.Generator) -> Array:
        """Random outputs, with shape (m, M), at x with shape (m, d), one realisation per point."""
        mean, variance = self.components(x)
        z = mean + np.sqrt(variance) * rng.standard_normal(mean.shape)
        return np.asarray(self.centre + z @ self.basis.T)

    def to_arrays(self) -> dict[str, NDArray]:
        """The contents as arrays of numbers and fixed-width text, without loss."""
        numbers = ("columns", "centre", "basis", "left", "location", "forward", "u", "scores", "far")
        of_column = np.empty(self.scores.shape[1], dtype=np.int64)
        for number, group in enumerate(self.groups):
            of_column[group.columns] = number
        return {name: np.asarray(getattr(self, name)) for name in numbers} | {
            "kind": np.array(_KIND),
            "names": np.array(self.names),
            "layout": np.array(self.layout.to_text()),
            "hyper": np.array([group.hyper.vector() for group in self.groups]),
            "kernels": np.array([[group.kernel, group.trend] for group in self.groups]),
            "of_column": of_column,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> OutputEmulator:
        """The inverse of ``to_arrays``.

        Raises:
            ValueError: If the arrays are others, or do not fit together.
        """
        numbers = ("columns", "centre", "basis", "left", "location", "forward", "u", "scores", "far")
        others = ("names", "layout", "hyper", "kernels", "of_column")
        if absent := [name for name in (*numbers, *others) if name not in arrays]:
            msg = f"the arrays of an emulator lack {', '.join(absent)}"
            raise ValueError(msg)
        _check_shapes(arrays)
        size = arrays["u"].shape[1]
        groups = tuple(
            SharedKernel(
                np.flatnonzero(arrays["of_column"] == number), str(kernel), str(trend), Hyperparameters.of(row, size)
            )
            for number, (row, (kernel, trend)) in enumerate(zip(arrays["hyper"], arrays["kernels"], strict=True))
        )
        return cls(
            names=tuple(map(str, arrays["names"])),
            layout=Layout.from_text(str(arrays["layout"])),
            groups=groups,
            **{name: np.asarray(arrays[name], dtype=np.float64) for name in numbers},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the emulator to an ``.npz`` file of numbers, which ``surrogate.load_observables`` reads.

        Raises:
            ValueError: If the path does not end in .npz.
        """
        if Path(path).suffix != ".npz":
            msg = f"observables are saved as .npz, got {os.fspath(path)!r}"
            raise ValueError(msg)
        save_arrays(Path(path), self.to_arrays())


def load_observables(path: str | os.PathLike[str]) -> OutputEmulator:
    """The emulator of a simulator's outputs in a file written by ``result.observables().save``.

    The file holds numbers and names; nothing in it is executed.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is damaged or holds something else.
    """
    arrays = load_arrays(Path(path))
    if str(arrays.get("kind", "")) != _KIND:
        msg = f"{os.fspath(path)} holds no observables of a simulator, which result.observables().save(...) writes"
        raise ValueError(msg)
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            return OutputEmulator.from_arrays(arrays)
    except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError) as error:
        msg = f"{os.fspath(path)} cannot be used: {error}"
        raise ValueError(msg) from error


def _check_shapes(arrays: Mapping[str, NDArray]) -> None:
    """Raises ValueError if the arrays of an emulator are no finite numbers, or do not fit together."""
    s, k, n, m = (np.size(arrays[name]) for name in ("columns", "of_column", "far", "centre"))
    expected = {
        "columns": (s,), "of_column": (k,), "far": (n,), "centre": (m,), "left": (m,), "basis": (m, k),
        "location": (s,), "forward": (s, s), "u": (n, s), "scores": (n, k),
    }  # fmt: skip
    for name, shape in expected.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            msg = f"{name} must be finite numbers with shape {shape}, got {array.dtype} with shape {array.shape}"
            raise ValueError(msg)
    if (size := Layout.from_text(str(arrays["layout"])).size) != m:
        msg = f"the layout must be one of {m} numbers, got {size}"
        raise ValueError(msg)
    d = arrays["names"].size
    if not (arrays["columns"] >= 0).all() or not (arrays["columns"] < d).all():
        msg = f"columns must be positions of the {d} names, got {arrays['columns']}"
        raise ValueError(msg)
    if set(arrays["of_column"]) != set(range(len(arrays["hyper"]))):
        msg = f"of_column must hold each of {len(arrays['hyper'])} groups, got {sorted(set(arrays['of_column']))}"
        raise ValueError(msg)


def emulate_outputs(model: CompositeLogDensity, draws: Array, names: tuple[str, ...]) -> OutputEmulator:
    """An emulator of all outputs of a simulator, including those that are not compared with data.

    Args:
        model: A surrogate of the outputs.
        draws: Draws x of the posterior, with shape (m, d), which define the coordinates.
        names: Names of the d parameters.

    Returns:
        The emulator, in O(n^2 M) for n evaluations of M outputs plus some fits of processes.
    """
    known = model.output_data
    columns = known.source.target.columns
    values = known.data.outputs[known.rows]
    near = known.depth <= max(_NEAR, float(np.sort(known.depth)[min(_FEWEST, len(values) - 1)]))
    spread = np.maximum(values[near].std(0), _LEFT * np.abs(values).max(0))
    spread[spread == 0.0] = 1.0
    best = int(np.argmin(known.depth))
    scaled = (values - values[best]) / spread
    size = np.sqrt(scaled.shape[1])
    allowed = _LEFT * size * (1.0 + np.sqrt((scaled**2).sum(1)) / size)
    basis, scores = principal_components(scaled, allowed=allowed)
    left = spread * np.sqrt((((scaled - scores @ basis.T) ** 2)[near]).mean(0))
    slow = draws[:, columns]
    location, covariance = slow.mean(0), np.atleast_2d(np.cov(slow.T))
    forward = np.linalg.inv(np.linalg.cholesky(covariance)).T
    u = (known.x[:, columns] - location) @ forward
    data = Data.of(u, scores, depth=known.far)
    found = fit_components(data, (), cold_start=True)
    return OutputEmulator(
        names=names,
        columns=columns.astype(np.float64),
        layout=known.layout,
        centre=values[best],
        basis=basis * spread[:, None],
        left=left,
        location=location,
        forward=forward,
        u=u,
        scores=scores,
        far=known.far,
        groups=found.groups,
    )
