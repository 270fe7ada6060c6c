"""The learned log-likelihood as plain arrays, and their files.

``.npz`` files have arrays, which ``load_predictor`` reads without running any code. ``.pt2`` files are programs of
``torch.export``, for environments with torch but without this package.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from surrogate.arrays import Array, Indices
from surrogate.gp.means import Gated, Quadratic, Tilted
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.gp.trended import Residual
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.decades import Decades
from surrogate.log_density.coordinates.symmetry import Symmetry
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp
from surrogate.log_density.feasibility.choice import KINDS
from surrogate.log_density.feasibility.protocol import FeasibilityArrays
from surrogate.log_density.predictor.batch import batch_closure
from surrogate.log_density.predictor.closures import CORRELATIONS
from surrogate.log_density.predictor.module import PredictorModule
from surrogate.log_density.predictor.single import single_closure
from surrogate.storage.arrays import load_arrays, save_arrays
from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from surrogate.log_density.model import ScalarLogDensity

__all__ = ["Predictor", "load_predictor"]


_CACHED = 250_000  # kernel values of a block, which fit into the cache: 2 MB


@dataclass(frozen=True, eq=False)
class PredictorCoordinates:
    """The map of d parameters x to e whitened coordinates u.

    Attributes:
        origin: Where not NaN, log(x - origin) is used instead of x, with shape (d,).
        location: Location of the unit coordinates t = (x - location) / scale, with shape (d,).
        scale: With shape (d,).
        warp: Kinds of input warps, with shape (d,), see ``INPUT_WARPS``.
        support: Lower and upper ends of the support, or of logarithms, in unit coordinates, with shape (2, d).
        couplings: Couplings of the warped coordinates, see ``Couplings.to_array``; without rows if there are none.
        symmetry: Symmetry of the unit coordinates, see ``Symmetry.to_array``; without rows if there is none.
        centre: Centre of the whitened coordinates u = (warped t - centre) @ forward, with shape (e,).
        forward: With shape (e, e).
    """

    origin: Array
    location: Array
    scale: Array
    warp: Indices
    support: Array
    couplings: Array
    symmetry: Array
    centre: Array
    forward: Array

    @property
    def input_warp(self) -> InputWarp:
        """The warp of the unit coordinates."""
        couplings = Couplings.of_array(self.couplings) if len(self.couplings) else None
        low, high = self.support
        symmetry = Symmetry.of_array(self.symmetry) if len(self.symmetry) else None
        return InputWarp(self.warp, low, high, couplings, symmetry)

    @property
    def is_warped(self) -> bool:
        """Whether the input warp differs from the identity."""
        return bool(self.warp.any()) or len(self.couplings) > 0 or len(self.symmetry) > 0

    @property
    def decades(self) -> Decades | None:
        """The map of parameters that enter by their logarithms; None if there are none."""
        return Decades(self.origin) if np.isfinite(self.origin).any() else None


@dataclass(frozen=True, eq=False)
class PredictorResidual:
    """The kernel part of the posterior mean.

    Attributes:
        kernel: Name of the kernel.
        lengthscale: With shape (e,).
        points: Evaluated points in whitened coordinates, with shape (n, e).
        weights: Weights of the kernel at the points, with shape (n,).
        slope_points: Points whose derivatives were known, with shape (m, e); m may be 0.
        slope_weights: Weights of the derivatives of the kernel there, with shape (m, e).
    """

    kernel: str
    lengthscale: Array
    points: Array
    weights: Array
    slope_points: Array
    slope_weights: Array


@dataclass(frozen=True, eq=False)
class Predictor:
    """A predictor: the mean of a log-likelihood's surrogate, -inf where infeasible, made of plain arrays.

    ``predictor(x)`` is the value at one point with shape (d,); ``predictor.log_likelihood(x)`` are those at points with
    shape (m, d). The prior is not included.

    Attributes:
        names: Names of the d parameters.
        bounds: Support of the prior, with shape (d, 2), for information.
        coordinates: Map from parameters to whitened coordinates.
        residual: Kernel part of the mean.
        trend: c, b and C of the trend c + b.u + u.C.u: with shape (1 + e + e^2,).
        tilted: a, c, b and C of exp(a.u) (c + b.u + u.C.u), which is added to the trend, with shape (1 + 2 e + e^2,),
            or (0,) if there is none.
        gates: c, b and C of c + b.u + u.C.u for each of k peaks, with shape (k, 1 + e + e^2); the log of the sum of
            their exponentials is added to the trend. k is 0 if there is one peak.
        peaks: The same of the corrections of the peaks, which are added to the trend, each times the share of its peak.
        box: Lower and upper corner of the trust region in whitened coordinates, with shape (2, e).
        feasibility: Kind of the classifier of feasible points: "everywhere", "process" or "svm".
        classifier: Arrays of the classifier.
        constants: Largest value, temperature and output warp.
    """

    names: tuple[str, ...]
    bounds: Array
    coordinates: PredictorCoordinates
    residual: PredictorResidual
    trend: Array
    tilted: Array
    gates: Array
    peaks: Array
    box: Array
    feasibility: str
    classifier: FeasibilityArrays
    constants: Array

    @classmethod
    def of(
        cls,
        model: ScalarLogDensity,
        names: tuple[str, ...],
        bounds: Array,
        location: Array,
        scale: Array,
        origin: Array | None = None,
    ) -> Predictor:
        """The predictor of a surrogate whose unit coordinates are (x - location) / scale.

        Where an origin is given and not NaN, log(x - origin) is used instead of x.

        Raises:
            ValueError: If the kernel is not one of the package's named kernels.
        """
        gp, parameters = model.gp, model.parameters
        residual = Residual.of(gp)
        if residual.kernel not in CORRELATIONS:
            msg = f"only kernels {sorted(CORRELATIONS)} can be exported, got {residual.kernel}"
            raise ValueError(msg)
        weights, slope_at, slope_weights = residual.weights(gp)
        points, (trend, tilted, gates, peaks) = gp.u.cpu().numpy(), _trends(gp)
        warp = parameters.structure.warp
        coordinates = PredictorCoordinates(
            origin=np.full(len(names), np.nan) if origin is None else origin,
            location=location,
            scale=scale,
            warp=warp.kinds,
            support=warp.ends,
            couplings=np.empty((0, len(names))) if warp.couplings is None else warp.couplings.to_array(),
            symmetry=np.empty((0, len(names))) if warp.symmetry is None else warp.symmetry.to_array(),
            centre=parameters.whitening.centre,
            forward=parameters.whitening.forward,
        )
        return cls(
            names=names,
            bounds=bounds,
            coordinates=coordinates,
            residual=PredictorResidual(
                residual.kernel, residual.lengthscale, points, weights, points[slope_at], slope_weights
            ),
            trend=trend,
            tilted=tilted,
            gates=gates,
            peaks=peaks,
            box=np.stack([model.region.low, model.region.high]),
            feasibility=model.feasibility.kind,
            classifier=model.feasibility.arrays(points.shape[1]),
            constants=np.array([model.y_max, parameters.temperature, parameters.structure.output]),
        )

    def __call__(self, x: ArrayLike) -> float:
        """The log-likelihood at one point with shape (d,), which is not checked; about 10 us for 500 points."""
        return self.single(x)

    @cached_property
    def single(self) -> Callable[[ArrayLike], float]:
        """A fast function of one point, for loops."""
        return single_closure(self)

    @cached_property
    def many(self) -> Callable[[Array], Array]:
        """A function of points with shape (m, d) in one block; ``log_likelihood`` calls it block by block."""
        return batch_closure(self)

    @cached_property
    def module(self) -> PredictorModule:
        """A torch module in float64 that takes points with shape (m, d); ``.to(device)`` moves it."""
        return PredictorModule(self)

    def log_likelihood(self, x: ArrayLike) -> Array:
        """The log-likelihood at points with shape (m, d), with shape (m,): O(m n d).

        Raises:
            ValueError: If the points have another number of parameters.
        """
        points = np.atleast_2d(np.asarray(x, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != len(self.names):
            msg = f"x must have shape (m, {len(self.names)}), got {np.shape(x)}"
            raise ValueError(msg)
        block = max(1, _CACHED // (len(self.residual.points) + len(self.classifier.points)))
        parts = [self.many(points[i : i + block]) for i in range(0, len(points), block)]
        return np.concatenate(parts) if parts else np.empty(0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file: arrays as ``.npz``, or a program of ``torch.export`` as ``.pt2``.

        Prefer the first for storage and exchange, because reading it runs no code. The second is a program, which
        ``torch.export.load`` turns into a module of points with shape (m, d); load it only if you trust its author.

        Raises:
            ValueError: If the suffix is not supported.
            OSError: If the file cannot be written; an existing one is then left intact.
        """
        place = Path(path)
        if place.suffix == ".npz":
            save_arrays(place, self.to_arrays())
        elif place.suffix == ".pt2":
            example = torch.zeros(2, len(self.names), dtype=torch.float64)
            batch = torch.export.Dim("batch")
            program = torch.export.export(self.module, (example,), dynamic_shapes=({0: batch},))
            with replacing(place) as file:
                torch.export.save(program, file)
        else:
            msg = f"a predictor is saved as .npz (numbers) or .pt2 (a program of torch), got {place.name}"
            raise ValueError(msg)

    def to_arrays(self) -> dict[str, NDArray]:
        """The predictor as arrays of numbers and fixed-width text, without loss."""
        owners = (self, self.coordinates, self.residual)
        found = {name: np.asarray(getattr(owner, name)) for owner in owners for name in _names(type(owner))}
        found |= {f"feasible_{name}": getattr(self.classifier, name) for name in _names(FeasibilityArrays)}
        return {f"predictor/{name}": array for name, array in found.items() if name not in _GROUPS}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray]) -> Predictor:
        """The inverse of ``to_arrays``.

        Raises:
            ValueError: If arrays are missing or inconsistent.
        """
        arrays = _current_names(arrays)
        names = [*_names(cls), *_names(PredictorCoordinates), *_names(PredictorResidual)]
        names = [name for name in names if name not in _GROUPS]
        names += [f"feasible_{name}" for name in _names(FeasibilityArrays)]
        if missing := [name for name in names if f"predictor/{name}" not in arrays]:
            msg = f"this is not a predictor: it lacks {', '.join(missing)}"
            raise ValueError(msg)
        values: dict[str, Any] = {name: arrays[f"predictor/{name}"] for name in names}
        _check_shapes(values)
        values |= {"names": tuple(map(str, values["names"]))} | {name: str(values[name]) for name in _WORDS}
        values["coordinates"] = PredictorCoordinates(**{name: values[name] for name in _names(PredictorCoordinates)})
        values["residual"] = PredictorResidual(**{name: values[name] for name in _names(PredictorResidual)})
        values["classifier"] = FeasibilityArrays(*(values[f"feasible_{name}"] for name in _names(FeasibilityArrays)))
        return cls(**{name: values[name] for name in _names(cls)})


def load_predictor(path: str | os.PathLike[str]) -> Predictor:
    """The predictor in a ``.npz`` file written by ``Result.export``.

    The file has arrays and names. It is read without pickle and executes no code, and inconsistent arrays are refused,
    so the worst that an untrusted file can do is give wrong numbers. A ``.pt2`` file is a program and is not read here.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is damaged or is not a predictor.
    """
    if Path(path).suffix == ".pt2":
        msg = (
            f"{path} is a program: read it with torch.export.load if you trust its author; "
            "load_predictor reads .npz only"
        )
        raise ValueError(msg)
    return Predictor.from_arrays(load_arrays(Path(path)))


def _trends(gp: CholeskyPosterior) -> tuple[Array, Array, Array, Array]:
    """The arrays ``trend``, ``tilted``, ``gates`` and ``peaks`` of a predictor."""
    mean, e = gp.process.mean, gp.u.shape[1]
    none = np.empty((0, 1 + e + e * e))
    if isinstance(mean, Gated):
        peaks = np.stack([_flat(quadratic) for quadratic in mean.quadratics(gp.coefficients, e)])
        return np.zeros(1 + e + e * e), np.empty(0), np.array(mean.gates), peaks
    if isinstance(mean, Tilted):
        plain, tilted = mean.quadratics(gp.coefficients)
        return _flat(plain), np.concatenate([mean.along, _flat(tilted)]), none, none
    return _flat(gp.polynomial), np.empty(0), none, none


def _flat(quadratic: Quadratic) -> Array:
    return np.concatenate([part.cpu().numpy().ravel() for part in quadratic])


_WORDS = ("kernel", "feasibility")
_GROUPS = ("coordinates", "residual", "classifier")  # fields that are stored part by part


def _names(kind: type) -> list[str]:
    return [entry.name for entry in fields(kind)]


_FORMER_NAMES = {"border": "points", "border_weights": "weights", "border_root": "root", "border_shape": "shape"}


def _current_names(arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    """Arrays of an older format, without couplings, symmetry, tilt and peaks, under current names."""
    arrays = {"predictor/tilted": np.empty(0), **arrays}
    if "predictor/trend" in arrays:
        none = np.empty((0, arrays["predictor/trend"].size))
        arrays = {"predictor/gates": none, "predictor/peaks": none, **arrays}
    if "predictor/warp" in arrays:
        d = arrays["predictor/warp"].size
        none = np.empty((0, d))
        arrays = {"predictor/couplings": none, "predictor/origin": np.full(d, np.nan), **arrays}
        arrays = {"predictor/symmetry": none, **arrays}
    if "predictor/border_weights" not in arrays:
        return arrays
    kind = "process" if arrays["predictor/border_weights"].size else "everywhere"
    renamed = {f"predictor/feasible_{new}": arrays.get(f"predictor/{old}") for old, new in _FORMER_NAMES.items()}
    known = {name: array for name, array in renamed.items() if array is not None}
    return {"predictor/feasibility": np.array(kind), **known, **arrays}


def _check_shapes(values: dict[str, NDArray]) -> None:
    """Raises ValueError if shapes or types of the arrays are inconsistent."""
    d, (e,), n = len(values["warp"]), values["centre"].shape or (0,), len(np.atleast_1d(values["weights"]))
    m, k = len(np.atleast_2d(values["slope_weights"])), len(np.atleast_1d(values["feasible_weights"]))
    root = (k, k) if str(values["feasibility"]) == "process" else (0, 0)
    tilted = 1 + 2 * e + e * e if np.size(values["tilted"]) else 0
    rows = Couplings.rows(d) if len(np.atleast_1d(values["couplings"])) else 0
    images, peaks = len(np.atleast_1d(values["symmetry"])), len(np.atleast_1d(values["gates"]))
    expected = {
        "names": (d,), "bounds": (d, 2), "origin": (d,), "location": (d,), "scale": (d,), "warp": (d,),
        "support": (2, d), "centre": (e,), "forward": (e, e),
        "kernel": (), "lengthscale": (e,), "points": (n, e), "weights": (n,),
        "slope_points": (m, e), "slope_weights": (m, e), "trend": (1 + e + e * e,), "tilted": (tilted,), "box": (2, e),
        "gates": (peaks, 1 + e + e * e), "peaks": (peaks, 1 + e + e * e),
        "feasibility": (), "feasible_points": (k, e), "feasible_weights": (k,), "feasible_root": root,
        "feasible_shape": (3,), "constants": (3,), "couplings": (rows, d), "symmetry": (images, d),
    }  # fmt: skip
    wrong = [name for name, shape in expected.items() if values[name].shape != shape]
    wrong += [name for name in expected if name not in ("names", *_WORDS) and values[name].dtype.kind not in "fi"]
    wrong += [] if str(values["feasibility"]) in ("everywhere", *KINDS) else ["feasibility"]
    if wrong or e != d + int((values["warp"] == CIRCLE).sum()) or str(values["kernel"]) not in CORRELATIONS:
        msg = f"this is not a predictor of this version: {', '.join(wrong) or 'kernel or warps'} do not match"
        raise ValueError(msg)
