"""The log-likelihood that a run has learned, as numbers: for other programs, fast for single points and for batches.

Three forms, of the same function:

* numpy closures, one for a single point, a few times faster than any call that goes through batches, for samplers that
  walk point by point, and one for batches;
* a torch module for batches, on any device and with derivatives;
* files: ``.npz``, plain numbers that ``load_predictor`` reads without running anything, and ``.pt2``, a program of
  ``torch.export``, for programs that have torch and not this package.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from surrogate.arrays import Array, Indices
from surrogate.gp.trended import Residual
from surrogate.log_density.coordinates.couplings import STEEPEST, Couplings
from surrogate.log_density.coordinates.warps import CIRCLE, EXPANDED_TO, InputWarp, OutputWarp
from surrogate.log_density.feasibility.process import PRIOR_VARIANCE, SURE, FeasibilityProcess, Shape
from surrogate.log_density.feasibility.protocol import Feasibility
from surrogate.storage.arrays import load_arrays, save_arrays
from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from surrogate.log_density.model import ScalarLogDensity

__all__ = ["Predictor", "load_predictor"]


@dataclass(frozen=True, eq=False)
class Predictor:
    """Mean of the surrogate of a log-likelihood, -inf where it is infeasible: a function of numbers only.

    ``predictor(x)`` is the value at one point with shape (d,); ``predictor.log_likelihood(x)`` are those at points with
    shape (m, d). The prior is not part of it.

    Attributes:
        names: Of the d parameters.
        bounds: Support of the prior, with shape (d, 2), for information.
        location: Of the scaled coordinates t = (x - location) / scale, with shape (d,).
        scale: With shape (d,).
        warp: Kinds of input warps, with shape (d,), see ``INPUT_WARPS``.
        support: Lower and upper ends of the support in scaled coordinates, with shape (2, d).
        centre: Of the whitened coordinates u = (warped t - centre) @ forward, with shape (e,).
        forward: With shape (e, e).
        kernel: Name of the kernel.
        lengthscale: With shape (e,).
        points: Evaluated points in whitened coordinates, with shape (n, e).
        weights: Of the kernel at the points, with shape (n,).
        slope_points: Points whose derivatives were known, with shape (m, e); m may be 0.
        slope_weights: Of the derivatives of the kernel there, with shape (m, e).
        trend: c, b and C of the trend c + b.u + u.C.u: with shape (1 + e + e^2,).
        box: Lower and upper corner of the trust region in whitened coordinates, with shape (2, e).
        border: Labelled points that tell what is feasible, with shape (k, e), see ``FeasibilityProcess``; k
            is 0 where nothing infeasible was seen.
        border_weights: With shape (k,).
        border_root: With shape (k, k).
        border_shape: Variance of what bends it, its scale, and 1 if it is smooth.
        constants: Largest value, temperature and output warp.
        couplings: Of the warped coordinates, ``Couplings.to_array``; without rows where there are none.
    """

    names: tuple[str, ...]
    bounds: Array
    location: Array
    scale: Array
    warp: Indices
    support: Array
    centre: Array
    forward: Array
    kernel: str
    lengthscale: Array
    points: Array
    weights: Array
    slope_points: Array
    slope_weights: Array
    trend: Array
    box: Array
    border: Array
    border_weights: Array
    border_root: Array
    border_shape: Array
    constants: Array
    couplings: Array = field(default_factory=lambda: np.empty((0, 0)))

    @classmethod
    def of(
        cls, model: ScalarLogDensity, names: tuple[str, ...], bounds: Array, location: Array, scale: Array
    ) -> Predictor:
        """The numbers of a surrogate whose scaled coordinates are (x - location) / scale.

        Raises:
            ValueError: If the kernel is not one of the package's own, which have names.
        """
        gp, parameters = model.gp, model.parameters
        residual = Residual.of(gp)
        if residual.kernel not in _CORRELATIONS:
            msg = f"only kernels {sorted(_CORRELATIONS)} can be exported, got {residual.kernel}"
            raise ValueError(msg)
        weights, slope_at, slope_weights = residual.weights(gp)
        points = gp.u.cpu().numpy()
        warp = parameters.structure.warp
        return cls(
            names=names,
            bounds=bounds,
            location=location,
            scale=scale,
            warp=warp.kinds,
            support=np.stack([warp.low, warp.high]),
            centre=parameters.whitening.centre,
            forward=parameters.whitening.forward,
            kernel=residual.kernel,
            lengthscale=residual.lengthscale,
            points=points,
            weights=weights,
            slope_points=points[slope_at],
            slope_weights=slope_weights,
            trend=np.concatenate([part.cpu().numpy().ravel() for part in gp.polynomial]),
            box=np.stack([model.low, model.high]),
            constants=np.array([model.y_max, parameters.temperature, parameters.structure.output]),
            **_border_arrays(model.feasibility, points.shape[1]),
            couplings=np.empty((0, len(names))) if warp.couplings is None else warp.couplings.to_array(),
        )

    @property
    def input_warp(self) -> InputWarp:
        """The warp of the scaled coordinates."""
        couplings = Couplings.of_array(self.couplings) if len(self.couplings) else None
        low, high = self.support
        return InputWarp(self.warp, low, high, couplings)

    @property
    def is_warped(self) -> bool:
        """Whether the warp does anything."""
        return bool(self.warp.any()) or len(self.couplings) > 0

    def __call__(self, x: ArrayLike) -> float:
        """The log-likelihood at one point with shape (d,) (not checked): about 10 microseconds for 500 points."""
        return self.single(x)

    @cached_property
    def single(self) -> Callable[[ArrayLike], float]:
        """The function of one point, for loops that count every microsecond."""
        return _closure(self)

    @cached_property
    def many(self) -> Callable[[Array], Array]:
        """The function of points with shape (m, d) in one block, which ``log_likelihood`` calls in turn."""
        return _batch_closure(self)

    @cached_property
    def module(self) -> PredictorModule:
        """The function of points with shape (m, d) as a torch module in float64, which ``.to(device)`` moves."""
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
        block = max(1, 250_000 // (len(self.points) + len(self.border)))  # kernel values that stay in the cache
        parts = [self.many(points[i : i + block]) for i in range(0, len(points), block)]
        return np.concatenate(parts) if parts else np.empty(0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file, by its suffix: ``.npz`` of numbers, or ``.pt2``, a program of ``torch.export``.

        The first is what to keep and to send: reading it runs no code. The second is read by ``torch.export.load``,
        gives a module of points with shape (m, d), and should be read only by who trusts its writer: it is a program,
        and its format is torch's.

        Raises:
            ValueError: If the suffix is another one.
            OSError: If the file cannot be written; a former one is then intact.
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
        """Arrays of numbers and fixed-width text that define it exactly."""
        return {f"predictor/{entry.name}": np.asarray(getattr(self, entry.name)) for entry in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray]) -> Predictor:
        """The inverse of ``to_arrays``.

        Raises:
            ValueError: If arrays are missing or do not fit together.
        """
        names = [entry.name for entry in fields(cls)]
        if "predictor/warp" in arrays:  # files written before there were couplings have none
            arrays = {"predictor/couplings": np.empty((0, arrays["predictor/warp"].size)), **arrays}
        if missing := [name for name in names if f"predictor/{name}" not in arrays]:
            msg = f"this is no predictor: it lacks {', '.join(missing)}"
            raise ValueError(msg)
        values: dict[str, Any] = {name: arrays[f"predictor/{name}"] for name in names}
        _check_shapes(values)
        words = {"names": tuple(map(str, values["names"])), "kernel": str(values["kernel"])}
        return cls(**values | words)


def load_predictor(path: str | os.PathLike[str]) -> Predictor:
    """The predictor in a ``.npz`` file, as ``Result.export`` writes it.

    The file holds numbers and names. It is read without pickle, nothing in it is run, and what does not fit together is
    refused, so that a file from a stranger can give wrong numbers and nothing worse. A ``.pt2`` file is a program and
    is not read here.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is damaged or is no predictor.
    """
    if Path(path).suffix == ".pt2":
        msg = f"{path} is a program: torch.export.load reads it, if you trust its writer; load_predictor takes .npz"
        raise ValueError(msg)
    return Predictor.from_arrays(load_arrays(Path(path)))


def _check_shapes(values: dict[str, NDArray]) -> None:
    """Refuses arrays that do not belong together, by the lengths that others give."""
    d, (e,), n = len(values["warp"]), values["centre"].shape or (0,), len(np.atleast_1d(values["weights"]))
    m, k = len(np.atleast_2d(values["slope_weights"])), len(np.atleast_1d(values["border_weights"]))
    rows = Couplings.rows(d) if len(np.atleast_1d(values["couplings"])) else 0
    expected = {
        "names": (d,), "bounds": (d, 2), "location": (d,), "scale": (d,), "warp": (d,), "support": (2, d),
        "centre": (e,), "forward": (e, e), "kernel": (), "lengthscale": (e,), "points": (n, e), "weights": (n,),
        "slope_points": (m, e), "slope_weights": (m, e), "trend": (1 + e + e * e,), "box": (2, e),
        "border": (k, e), "border_weights": (k,), "border_root": (k, k), "border_shape": (3,), "constants": (3,),
        "couplings": (rows, d),
    }  # fmt: skip
    wrong = [name for name, shape in expected.items() if values[name].shape != shape]
    wrong += [name for name in expected if name not in ("names", "kernel") and values[name].dtype.kind not in "fi"]
    if wrong or e != d + int((values["warp"] == CIRCLE).sum()) or str(values["kernel"]) not in _CORRELATIONS:
        msg = f"this is no predictor of this version: {', '.join(wrong) or 'kernel or warps'} do not fit"
        raise ValueError(msg)


def _border_arrays(feasibility: Feasibility, e: int) -> dict[str, Array]:
    """The numbers of feasibility in e whitened coordinates; empty where everything is feasible."""
    empty = {"points": np.empty((0, e)), "weights": np.empty(0), "root": np.empty((0, 0)), "shape": np.zeros(3)}
    arrays = empty | feasibility.arrays()
    return {
        "border": arrays["points"],
        "border_weights": arrays["weights"],
        "border_root": arrays["root"],
        "border_shape": arrays["shape"],
    }


# One point, numpy


def _closure(p: Predictor) -> Callable[[ArrayLike], float]:
    """The function of one point: what is affine is one product, a coordinate of ones carries what is constant."""
    to_z, offset = _affine(p)
    warped = _scalar_warp(p)
    correlate = _CORRELATIONS[p.kernel]
    scaled = p.points / p.lengthscale
    points = np.column_stack([scaled, -0.5 * (scaled**2).sum(1)])
    weights, trend = p.weights, _augmented_trend(p)
    low, high = p.box / p.lengthscale
    box = tuple(zip(low.tolist(), high.tolist(), (10.0 / (high - low)).tolist(), strict=True))
    slopes = _scalar_slopes(p) if len(p.slope_points) else None
    feasible = _scalar_border(p) if len(p.border) else None
    y_max, temperature, output = map(float, p.constants[:3])
    inverse = _scalar_inverse(output) if output else None

    def single(x: ArrayLike) -> float:
        """The log-likelihood at a point with shape (d,), which is not checked."""
        z = to_z.dot(x if warped is None else warped(x))
        z += offset
        e = points.dot(z)
        e -= 0.5 * (z.dot(z) - 1.0)  # now minus half the squared distances
        value = float(z.dot(trend.dot(z))) + float(weights.dot(correlate(e)))
        if slopes is not None:
            value += slopes(z)
        if inverse is not None:
            value = inverse(value)
        bend = 0.0
        for coordinate, (below, above, sharpness) in zip(z.tolist(), box, strict=False):
            if coordinate < below:
                bend += ((below - coordinate) * sharpness) ** 2
            elif coordinate > above:
                bend += ((coordinate - above) * sharpness) ** 2
        if bend:
            value -= 0.5 * (bend + (0.1 * bend) ** 2)
        if feasible is not None:
            value += feasible(z)
        return y_max + temperature * value

    return single


def _affine(p: Predictor) -> tuple[Array, Array]:
    """z = A v + b for z = (u / lengthscale, 1), with v = x without warps and v = warped t with them."""
    matrix = p.forward.T / p.lengthscale[:, None]
    offset = -matrix @ p.centre
    if not p.is_warped:
        offset -= matrix @ (p.location / p.scale)
        matrix = matrix / p.scale
    return np.concatenate([matrix, np.zeros((1, len(p.centre)))]), np.append(offset, 1.0)


def _augmented_trend(p: Predictor) -> Array:
    """The trend as a quadratic form of z."""
    d = len(p.centre)
    out = np.zeros((d + 1, d + 1))
    out[:d, :d] = p.trend[d + 1 :].reshape(d, d) * np.outer(p.lengthscale, p.lengthscale)
    out[:d, d], out[d, d] = p.trend[1 : d + 1] * p.lengthscale, p.trend[0]
    return out


def _scalar_warp(p: Predictor) -> Callable[[ArrayLike], Array] | None:
    if not p.is_warped:
        return None
    warp = p.input_warp
    return lambda x: warp.forward(((np.asarray(x, dtype=np.float64) - p.location) / p.scale)[None])[0]


def _scalar_slopes(p: Predictor) -> Callable[[Array], float]:
    """The share of the derivatives' rows: sum_i h_i (z - z_i).b_i."""
    slope = _SLOPES[p.kernel]
    points, b = p.slope_points / p.lengthscale, p.slope_weights / p.lengthscale
    along = np.column_stack([b, -(points * b).sum(1)])
    points = np.column_stack([points, -0.5 * (points**2).sum(1)])

    def slopes(z: Array) -> float:
        e = points.dot(z)
        e -= 0.5 * (z.dot(z) - 1.0)
        return float(slope(e).dot(along.dot(z)))

    return slopes


def _scalar_border(p: Predictor) -> Callable[[Array], float]:
    """Natural log of the probability of being feasible."""
    points, weights, root, lengthscale = p.border, p.border_weights, p.border_root, p.lengthscale
    bend, length, smooth = map(float, p.border_shape)
    d = len(lengthscale)
    norms, unit = (points**2).sum(1), 1.0 / (length**2 * d)

    def feasible(z: Array) -> float:
        u = z[:-1] * lengthscale
        square = float(u.dot(u))
        inner = points.dot(u)
        k = 1.0 + inner / d
        if bend:
            r2 = np.maximum((norms + square - 2.0 * inner) * unit, 0.0)
            k += bend * (np.exp(-0.5 * r2) if smooth else _matern52(-0.5 * r2))
        k *= PRIOR_VARIANCE
        half = root.dot(k)
        variance = PRIOR_VARIANCE * (1.0 + square / d + bend) - float(half.dot(half))
        margin = float(weights.dot(k)) / math.sqrt(1.0 + max(variance, 0.0))
        probability = (0.5 * math.erfc(-margin / math.sqrt(2.0)) - SURE) / (1.0 - 2.0 * SURE)
        return math.log(min(probability, 1.0)) if probability > 0.0 else -math.inf

    return feasible


def _scalar_inverse(scale: float) -> Callable[[float], float]:
    """The inverse output warp, see ``OutputWarp.inverse``."""
    o = abs(scale)
    if scale > 0:
        return lambda z: -o * math.expm1(min(-z / o, 600.0))
    end, steep = EXPANDED_TO * o, 1.0 / (1.0 - EXPANDED_TO)
    return lambda z: -o * math.log1p(-min(z, end) / o) + steep * max(z - end, 0.0)


def _rbf(e: Array) -> Array:
    return np.exp(e, out=e)


def _root(e: Array, nu: float) -> Array:
    """sqrt(2 nu) r, from minus half the squared distances."""
    e *= -4.0 * nu
    return np.sqrt(np.maximum(e, 0.0, out=e), out=e)


def _matern32(e: Array) -> Array:
    t = _root(e, 1.5)
    return (1.0 + t) * np.exp(-t)


def _matern52(e: Array) -> Array:
    t = _root(e, 2.5)
    return (1.0 + t * (1.0 + t / 3.0)) * np.exp(-t)


def _matern52_slope(e: Array) -> Array:
    t = _root(e, 2.5)
    return (5.0 / 3.0) * (1.0 + t) * np.exp(-t)


_CORRELATIONS = {"rbf": _rbf, "matern32": _matern32, "matern52": _matern52}
_SLOPES = {"rbf": _rbf, "matern52": _matern52_slope}


# Batches, numpy


def _batch_closure(p: Predictor) -> Callable[[Array], Array]:
    """The function of many points: numpy's exponential takes half of the time of torch's on processors with AVX-512."""
    to_z, offset = _affine(p)
    warp = p.input_warp if p.is_warped else None
    correlate, points = _CORRELATIONS[p.kernel], _columns(p.points / p.lengthscale)
    weights, trend, inverse = p.weights, _augmented_trend(p), OutputWarp(float(p.constants[2])).inverse
    low, high = p.box
    sharpness = 10.0 / (high - low)
    slopes = _batch_slopes(p) if len(p.slope_points) else None
    feasible = _batch_border(p) if len(p.border) else None
    y_max, temperature = map(float, p.constants[:2])

    def many(x: Array) -> Array:
        """The log-likelihoods at points with shape (m, d), which is not checked."""
        z = (x if warp is None else warp.forward((x - p.location) / p.scale)) @ to_z.T
        z += offset
        value = ((z @ trend) * z).sum(1)
        value += correlate(_halves(z[:, :-1], points)) @ weights
        if slopes is not None:
            value += slopes(z)
        u = z[:, :-1] * p.lengthscale
        excess = (np.maximum(low - u, 0.0) + np.maximum(u - high, 0.0)) * sharpness
        bend = (excess * excess).sum(1)
        value = inverse(value) - 0.5 * (bend + (0.1 * bend) ** 2)
        return y_max + temperature * (value if feasible is None else value + feasible(u))

    return many


def _batch_slopes(p: Predictor) -> Callable[[Array], Array]:
    """The share of the derivatives' rows, as in `_scalar_slopes`."""
    slope = _SLOPES[p.kernel]
    scaled, b = p.slope_points / p.lengthscale, p.slope_weights / p.lengthscale
    along, points = np.column_stack([b, -(scaled * b).sum(1)]).T, _columns(scaled)
    return lambda z: (slope(_halves(z[:, :-1], points)) * (z @ along)).sum(1)


def _batch_border(p: Predictor) -> Callable[[Array], Array]:
    """Natural logs of the probabilities of being feasible."""
    bend, length, smooth = map(float, p.border_shape)
    border = FeasibilityProcess(p.border, p.border_weights, p.border_root, Shape(bend, length, bool(smooth)), 0.0)

    def feasible(u: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(border.probability(u))

    return feasible


def _halves(z: Array, columns: Array) -> Array:
    """Minus half the squared distances, with shape (m, n), by one product with `_columns`."""
    left = np.column_stack([z, np.ones(len(z)), -0.5 * (z * z).sum(1)])
    e = left @ columns
    return np.clip(e, -700.0, 0.0, out=e)  # denormal numbers would make exp fifty times slower


# Batches, torch


class PredictorModule(torch.nn.Module):
    """Points with shape (m, d) to log-likelihoods with shape (m,), in float64."""

    location: Tensor
    scale: Tensor
    support: Tensor
    centre: Tensor
    forward_map: Tensor
    lengthscale: Tensor
    points: Tensor
    weights: Tensor
    slope_points: Tensor
    slope_weights: Tensor
    slope_offsets: Tensor
    linear: Tensor
    quadratic: Tensor
    constant: Tensor
    box: Tensor
    border: Tensor
    border_weights: Tensor
    border_root: Tensor
    bends: Tensor
    scales: Tensor
    linears: Tensor
    frame: Tensor
    coupling_offset: Tensor
    coupling_centre: Tensor

    def __init__(self, p: Predictor) -> None:
        super().__init__()
        self._kinds = [int(kind) for kind in p.warp]
        self._kernel = p.kernel
        self._y_max, self._temperature, self._output = map(float, p.constants)
        self._bordered, self._sloped = len(p.border) > 0, len(p.slope_points) > 0
        self._border_shape = tuple(map(float, p.border_shape))
        e = len(p.centre)
        buffers = {
            "location": p.location,
            "scale": p.scale,
            "support": p.support,
            "centre": p.centre,
            "forward_map": p.forward,
            "lengthscale": p.lengthscale,
            "points": _columns(p.points / p.lengthscale),
            "weights": p.weights,
            "linear": p.trend[1 : e + 1],
            "quadratic": p.trend[e + 1 :].reshape(e, e),
            "constant": p.trend[:1],
            "box": p.box,
        }
        if self._sloped:
            scaled = p.slope_weights / p.lengthscale
            buffers["slope_points"] = _columns(p.slope_points / p.lengthscale)
            buffers["slope_weights"] = scaled
            buffers["slope_offsets"] = (p.slope_points / p.lengthscale * scaled).sum(1)
        self._coupled = len(p.couplings) > 0
        if self._coupled:
            of = Couplings.of_array(p.couplings)
            buffers |= {"bends": of.bend, "scales": of.scale, "linears": of.linear, "frame": of.frame}
            buffers |= {"coupling_offset": of.offset, "coupling_centre": of.centre}
        if self._bordered:
            buffers |= {"border": p.border, "border_weights": p.border_weights, "border_root": p.border_root}
        for name, array in buffers.items():
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(array), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Log-likelihoods at x."""
        u = (self._warped((x - self.location) / self.scale) - self.centre) @ self.forward_map
        z = u / self.lengthscale
        k = _CORRELATIONS_OF_TENSORS[self._kernel](_exponents(z, self.points))
        value = self.constant + u @ self.linear + ((u @ self.quadratic) * u).sum(1) + k @ self.weights
        if self._sloped:
            h = _SLOPES_OF_TENSORS[self._kernel](_exponents(z, self.slope_points))
            value = value + (h * (z @ self.slope_weights.T - self.slope_offsets)).sum(1)
        value = self._unwarped(value) - self._bend(u)
        if self._bordered:
            value = value + torch.log(self._feasible(u))
        return self._y_max + self._temperature * value

    def _feasible(self, u: Tensor) -> Tensor:
        """Probability of being feasible."""
        bend, length, smooth = self._border_shape
        d, square, inner = u.shape[1], (u * u).sum(1), u @ self.border.T
        k = 1.0 + inner / d
        if bend:
            r2 = (square[:, None] + self.border.square().sum(1) - 2.0 * inner).clamp(min=0.0) / (length**2 * d)
            k = k + bend * (torch.exp(-0.5 * r2) if smooth else _matern52_of(-0.5 * r2))
        k = PRIOR_VARIANCE * k
        variance = PRIOR_VARIANCE * (1.0 + square / d + bend) - (k @ self.border_root.T).square().sum(1)
        margin = k @ self.border_weights / (1.0 + variance.clamp(min=0.0)).sqrt()
        return ((torch.special.ndtr(margin) - SURE) / (1.0 - 2.0 * SURE)).clamp(0.0, 1.0)

    def _warped(self, t: Tensor) -> Tensor:
        out = self._warped_alone(t)
        if not self._coupled:
            return out
        d = len(self._kinds)
        s = (out[:, :d] - self.coupling_centre) @ self.frame
        stretch = torch.exp(-(s @ self.scales).clamp(-STEEPEST, STEEPEST))
        z = (s - self.coupling_offset - s @ self.linears - s.square() @ self.bends) * stretch
        return torch.cat([z, out[:, d:]], 1)

    def _warped_alone(self, t: Tensor) -> Tensor:
        if not any(self._kinds):
            return t
        columns, sines = [], []
        for j, kind in enumerate(self._kinds):
            low, high = self.support[0, j], self.support[1, j]
            if kind == CIRCLE:
                angle = 2.0 * math.pi * (t[:, j] - low) / (high - low)
                columns.append(torch.cos(angle))
                sines.append(torch.sin(angle))
            else:
                columns.append(_warp_column(t[:, j], kind, low, high))
        return torch.stack(columns + sines, 1)

    def _unwarped(self, z: Tensor) -> Tensor:
        o = abs(self._output)
        if self._output > 0:
            return -o * torch.expm1((-z / o).clamp(max=600.0))
        if self._output < 0:
            end = EXPANDED_TO * o
            return -o * torch.log1p(-z.clamp(max=end) / o) + (z - end).clamp(min=0.0) / (1.0 - EXPANDED_TO)
        return z

    def _bend(self, u: Tensor) -> Tensor:
        low, high = self.box[0], self.box[1]
        excess = (low - u).clamp(min=0.0) + (u - high).clamp(min=0.0)
        bend = (excess / (0.1 * (high - low))).square().sum(1)
        return 0.5 * (bend + (0.1 * bend).square())


def _warp_column(t: Tensor, kind: int, low: Tensor, high: Tensor) -> Tensor:
    if kind == 0:
        return t
    width = torch.where(torch.isfinite(high - low), high - low, torch.ones_like(low))
    above, below = torch.maximum(t - low, 1e-7 * width), torch.maximum(high - t, 1e-7 * width)
    return {1: lambda: torch.log(above), 2: lambda: -torch.log(below), 3: lambda: torch.log(above / below)}[kind]()


def _columns(points: Array) -> Array:
    """(Z, -|Z|^2 / 2, 1), transposed: what makes minus half the squared distances of (z, 1, -|z|^2 / 2)."""
    return np.column_stack([points, -0.5 * (points**2).sum(1), np.ones(len(points))]).T


def _exponents(z: Tensor, columns: Tensor) -> Tensor:
    """Minus half the squared distances, with shape (m, n), by one product with `_columns`."""
    left = torch.cat([z, torch.ones_like(z[:, :1]), -0.5 * (z * z).sum(1, keepdim=True)], 1)
    # Denormal numbers would make exp four times slower.
    return (left @ columns).clamp(-700.0, 0.0)


def _root_of(e: Tensor, nu: float) -> Tensor:
    return (-4.0 * nu * e).sqrt()


def _matern32_of(e: Tensor) -> Tensor:
    t = _root_of(e, 1.5)
    return (1.0 + t) * torch.exp(-t)


def _matern52_of(e: Tensor) -> Tensor:
    t = _root_of(e, 2.5)
    return (1.0 + t * (1.0 + t / 3.0)) * torch.exp(-t)


def _matern52_slope_of(e: Tensor) -> Tensor:
    t = _root_of(e, 2.5)
    return (5.0 / 3.0) * (1.0 + t) * torch.exp(-t)


_CORRELATIONS_OF_TENSORS: dict[str, Callable[[Tensor], Tensor]] = {
    "rbf": torch.exp,
    "matern32": _matern32_of,
    "matern52": _matern52_of,
}
_SLOPES_OF_TENSORS: dict[str, Callable[[Tensor], Tensor]] = {"rbf": torch.exp, "matern52": _matern52_slope_of}
