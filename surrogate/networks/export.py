"""Files of trained networks: exact copies, and compressed ones for programs without this package."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from surrogate.arrays import Array
from surrogate.networks.portable import PortableNetwork, evaluator
from surrogate.networks.recipes import Recipe, lean
from surrogate.rng import generator
from surrogate.storage.arrays import load_arrays, save_arrays
from surrogate.storage.files import replacing

__all__ = ["ExportReport", "export_network", "load_network", "save_network"]

Function = Callable[[ArrayLike], Array]

_JUDGED = 0.25  # share of the rows held out to compare errors
_LEAST_PROBABILITY = 1e-300  # smaller ones count as this, so that the logarithm is finite
_REPEATS = 15  # repetitions of a timed prediction; the fastest counts, being least disturbed by other programs


class FittedNetwork(Protocol):
    """A fitted ``NetworkRegressor`` or ``NetworkClassifier``."""

    def portable(self) -> PortableNetwork:
        """The networks used for prediction, with the scaling of inputs and outputs."""


@dataclass(frozen=True)
class ExportReport:
    """Size, error and time of a network before and after an export.

    Attributes:
        path: The file.
        bytes: Sizes of the files.
        errors: Root mean square errors on the held-out rows; for classes, the mean of -log p of the right class.
        milliseconds_one: Milliseconds of a prediction of one row.
        milliseconds_many: Milliseconds of a prediction of 1000 rows.
        n_judged: Number of held-out rows.
        wrong: Fractions of held-out rows that are classified wrongly; None for regression.
    """

    path: Path
    bytes: tuple[int, int]
    errors: tuple[float, float]
    milliseconds_one: tuple[float, float]
    milliseconds_many: tuple[float, float]
    n_judged: int
    wrong: tuple[float, float] | None = None

    @property
    def change(self) -> float:
        """Relative change of the error; negative if it fell."""
        return self.errors[1] / self.errors[0] - 1.0 if self.errors[0] > 0 else float(self.errors[1] > 0)

    def __str__(self) -> str:
        lines = [
            f"bytes            {self.bytes[0]:>10,} -> {self.bytes[1]:>10,}  {self.bytes[1] / self.bytes[0]:.1%}",
            f"error            {self.errors[0]:>10.5g} -> {self.errors[1]:>10.5g}  {self.change:+.2%}",
        ]
        if self.wrong is not None:
            lines.append(f"wrong classes    {self.wrong[0]:>10.2%} -> {self.wrong[1]:>10.2%}")
        for name, (before, after) in (("one row", self.milliseconds_one), ("1000 rows", self.milliseconds_many)):
            lines.append(f"ms for {name:<9} {before:>10.3g} -> {after:>10.3g}  {after / before:.0%}")
        measure = "root mean squares" if self.wrong is None else "means of -log p of the right class"
        return "\n".join([*lines, f"errors are {measure} over {self.n_judged} held-out rows"])


def save_network(model: FittedNetwork, path: str | os.PathLike[str]) -> None:
    """Writes the networks of a fitted ``NetworkRegressor`` or ``NetworkClassifier`` to a ``.npz`` file of arrays.

    ``load_network`` reads it, ``surrogate export`` compresses it, and it can be evaluated with numpy only (see the page
    on lean networks). The file predicts means without error bars, or class probabilities. It holds all networks that a
    prediction averages: 30 with "swag", 80 with "mcmc". The variance of the logits of "last-layer" and "kfac" is not
    saved; the file has the temperature that fits held-out rows best without it.

    Raises:
        TypeError: If ``model`` is not a fitted estimator.
        ValueError: If the path does not end in .npz, or the networks are of a kind that cannot be saved.
        OSError: If the file cannot be written; an existing file is then left unchanged.
    """
    place = Path(path)
    if place.suffix != ".npz":
        msg = f"a network is saved as .npz, got {place.name}"
        raise ValueError(msg)
    save_arrays(place, _portable(model).to_arrays())


def load_network(path: str | os.PathLike[str]) -> PortableNetwork:
    """The network in a ``.npz`` file; reading runs no code from the file.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If the file is damaged or does not hold a network.
    """
    return PortableNetwork.of_arrays(load_arrays(Path(path)))


def export_network(
    model: PortableNetwork | FittedNetwork,
    path: str | os.PathLike[str],
    x: ArrayLike,
    y: ArrayLike,
    recipe: Recipe,
    *,
    tolerance: float = 0.02,
) -> ExportReport:
    """Writes a compressed network and reports its size and error; raises if the error rises too much.

    Three quarters of the rows, drawn by the recipe's seed, train the compressed network on the outputs of the original
    one. The remaining rows measure the error of the file itself, after reading it back from the disk: the root mean
    square error, or the mean of -log p of the right class.

    Args:
        model: A fitted regressor or classifier, or the result of ``load_network``.
        path: File to write: ``.npz``, arrays that only need numpy, or ``.pt2``, a program for ``torch.export.load``.
            Only ``.npz`` omits individual zero weights, and only ``.pt2`` computes with integers or bf16. The names of
            classes are in the array ``classes`` or in the extra file ``classes.json``.
        x: Inputs with shape (n, d), similar to those that will be predicted; preferably not used in training.
        y: Targets or classes, with shape (n,).
        recipe: How to compress the network.
        tolerance: Largest relative rise of the error.

    Raises:
        ValueError: If the error rises by more than the tolerance, in which case nothing is written; if a shape or the
            suffix is wrong; or if the recipe does not suit the kind of file.
    """
    place = Path(path)
    _check_kind(place, recipe)
    portable = model if isinstance(model, PortableNetwork) else _portable(model)
    columns, target = _check(portable, x, y)
    order = generator(recipe.seed, "export").permutation(len(target))
    judged, used = np.split(order, [max(1, round(_JUDGED * len(order)))])
    judge = _Judge(columns[judged], target[judged], portable.classes is not None)
    small = lean(portable, recipe, columns[used])
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / f"before{place.suffix}", Path(folder) / f"after{place.suffix}"
        _write(before, portable, Recipe(precision="float32"), columns[used])
        _write(after, small, recipe, columns[used])
        report = judge.compared(place, (before, after))
        if not report.change <= tolerance:
            msg = f"the error rises by {report.change:.1%}, more than the tolerance of {tolerance:.1%}; "
            msg += "nothing was written. Prune less, train longer, give more rows, or allow more"
            raise ValueError(msg)
        content = after.read_bytes()
    with replacing(place) as file:
        file.write(content)
    return report


def _portable(model: FittedNetwork) -> PortableNetwork:
    if not hasattr(model, "portable") or not hasattr(model, "modules_"):
        msg = f"expected a fitted NetworkRegressor or NetworkClassifier, got {type(model).__name__}"
        raise TypeError(msg)
    return model.portable()


def _check_kind(path: Path, recipe: Recipe) -> None:
    if path.suffix not in {".npz", ".pt2"}:
        msg = f"a lean network is written as .npz (numbers) or .pt2 (a program of torch), got {path.name}"
        raise ValueError(msg)
    if path.suffix == ".npz" and recipe.activations != "none":
        msg = f"activations {recipe.activations!r} need a .pt2 file: readers of .npz compute in single precision"
        raise ValueError(msg)


def _check(model: PortableNetwork, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    columns, target = np.asarray(x, dtype=float), _targets(model.classes, y)
    d = len(model.mean)
    if columns.ndim != 2 or columns.shape[1] != d or target.shape != (len(columns),) or len(columns) < 2:
        msg = f"the rows must have {d} columns and a target, and be two or more, "
        msg += f"got {columns.shape} and {target.shape}"
        raise ValueError(msg)
    if not (np.isfinite(columns).all() and np.isfinite(target).all()):
        msg = "the rows must be finite numbers"
        raise ValueError(msg)
    return columns, target


def _targets(classes: NDArray | None, y: ArrayLike) -> NDArray:
    """Numbers, or the indices of the rows' classes."""
    if classes is None:
        return np.asarray(y, dtype=float)
    labels = np.asarray(y)
    if not (known := np.isin(labels, classes)).all():
        msg = f"the rows have classes that the network does not have: {np.unique(labels[~known]).tolist()}; "
        msg += f"it has {classes.tolist()}"
        raise ValueError(msg)
    return np.searchsorted(classes, labels)


def _write(path: Path, model: PortableNetwork, recipe: Recipe, sample: Array) -> None:
    if path.suffix == ".npz":
        save_arrays(path, model.to_arrays(recipe.precision))
        return
    static = torch.from_numpy(sample) if recipe.activations == "static" else None
    module = model.module(recipe.precision, recipe.activations, static)
    example = torch.zeros(2, len(model.mean), dtype=torch.float64)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    for node in program.graph.nodes:  # source locations of operations, which would be most of a small network's file
        node.meta.pop("stack_trace", None)
        node.meta.pop("nn_module_stack", None)
    named = {} if model.classes is None else {"classes.json": json.dumps(model.classes.tolist())}
    torch.export.save(program, path, extra_files=named)


def _read(path: Path) -> Function:
    """The prediction function in a file, read without this package."""
    if path.suffix == ".npz":
        return evaluator(load_arrays(path))
    module = torch.export.load(path).module()

    @torch.no_grad()
    def evaluate(x: ArrayLike) -> Array:
        return module(torch.from_numpy(np.asarray(x, dtype=float))).numpy()

    return evaluate


@dataclass(frozen=True, eq=False)
class _Judge:
    """Rows that nothing was fitted to, and their targets, or indices of their classes."""

    x: Array
    y: NDArray
    classes: bool

    def compared(self, place: Path, files: tuple[Path, Path]) -> ExportReport:
        """Sizes, errors and times of two files."""
        before, after = (_read(path) for path in files)
        many = np.resize(self.x, (1000, self.x.shape[1]))
        return ExportReport(
            place,
            (files[0].stat().st_size, files[1].stat().st_size),
            (self.error(before), self.error(after)),
            (_milliseconds(before, self.x[:1]), _milliseconds(after, self.x[:1])),
            (_milliseconds(before, many), _milliseconds(after, many)),
            len(self.y),
            (self.wrong(before), self.wrong(after)) if self.classes else None,
        )

    def error(self, function: Function) -> float:
        """Root mean square error, or mean of -log p of the right class."""
        found = function(self.x)
        if self.classes:
            return float(-np.log(np.maximum(found[np.arange(len(self.y)), self.y], _LEAST_PROBABILITY)).mean())
        return float(np.sqrt(np.mean((found - self.y) ** 2)))

    def wrong(self, function: Function) -> float:
        """Share of the rows of which another class is the most probable."""
        return float(np.mean(function(self.x).argmax(1) != self.y))


def _milliseconds(function: Function, x: Array) -> float:
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        function(x)
        times.append(1000.0 * (time.perf_counter() - started))
    return min(times)
