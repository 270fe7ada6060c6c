"""The predictor as a differentiable torch module, for batches on any device and for ``torch.export``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.means import STEEPEST_TILT
from surrogate.linalg.stationary import CORRELATIONS
from surrogate.log_density.coordinates.couplings import STEEPEST, Couplings
from surrogate.log_density.coordinates.decades import LEAST
from surrogate.log_density.coordinates.symmetry import Symmetry
from surrogate.log_density.coordinates.warps import CIRCLE, EXPANDED_TO, FOLDS
from surrogate.log_density.feasibility.process import PRIOR_VARIANCE, SURE
from surrogate.log_density.trust_region import BEND_QUARTIC, BEND_WIDTH

if TYPE_CHECKING:
    from surrogate.log_density.predictor.numbers import Predictor, PredictorCoordinates

__all__ = ["PredictorModule"]


class _Whitened(torch.nn.Module):
    """Module from points with shape (m, d) to whitened coordinates with shape (m, e)."""

    origin: Tensor
    location: Tensor
    scale: Tensor
    support: Tensor
    centre: Tensor
    forward_map: Tensor
    bends: Tensor
    scales: Tensor
    linears: Tensor
    frame: Tensor
    coupling_offset: Tensor
    coupling_centre: Tensor
    directions: Tensor
    orders: Tensor

    def __init__(self, c: PredictorCoordinates) -> None:
        super().__init__()
        self._kinds = [int(kind) for kind in c.warp]
        self._coupled = len(c.couplings) > 0
        self._decades = [int(j) for j in np.flatnonzero(np.isfinite(c.origin))]
        buffers: dict[str, Array | Tensor] = {
            name: getattr(c, name) for name in ("origin", "location", "scale", "support", "centre")
        }
        buffers["forward_map"] = c.forward
        if self._coupled:
            of = Couplings.of_array(c.couplings)
            buffers |= {"bends": of.bend, "scales": of.scale, "linears": of.linear, "frame": of.frame}
            buffers |= {"coupling_offset": of.offset, "coupling_centre": of.centre}
        self._symmetric = len(c.symmetry) > 0
        if self._symmetric:
            symmetry = Symmetry.of_array(c.symmetry)
            buffers["directions"] = symmetry.directions
            self.register_buffer("orders", torch.as_tensor(symmetry.orders))
        _register(self, buffers)

    def forward(self, x: Tensor) -> Tensor:
        """Whitened coordinates of x."""
        if self._decades:
            columns = [
                (column - self.origin[j]).clamp(min=LEAST).log() if j in self._decades else column
                for j, column in enumerate(x.unbind(1))
            ]
            x = torch.stack(columns, 1)
        return (self._warped((x - self.location) / self.scale) - self.centre) @ self.forward_map

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
        if self._symmetric:
            t = t.gather(1, self.orders[(t @ self.directions.T).argmax(1)])
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


class PredictorModule(torch.nn.Module):
    """Module from points with shape (m, d) to log-likelihoods with shape (m,), in float64."""

    lengthscale: Tensor
    points: Tensor
    weights: Tensor
    slope_points: Tensor
    slope_weights: Tensor
    slope_offsets: Tensor
    linear: Tensor
    quadratic: Tensor
    constant: Tensor
    tilt: Tensor
    tilted_linear: Tensor
    tilted_quadratic: Tensor
    tilted_constant: Tensor
    gates_constant: Tensor
    gates_linear: Tensor
    gates_quadratic: Tensor
    peaks_constant: Tensor
    peaks_linear: Tensor
    peaks_quadratic: Tensor
    box: Tensor
    feasible_points: Tensor
    feasible_weights: Tensor
    feasible_root: Tensor

    def __init__(self, p: Predictor) -> None:
        super().__init__()
        self._whitened = _Whitened(p.coordinates)
        self._kernel = p.residual.kernel
        self._y_max, self._temperature, self._output = map(float, p.constants)
        self._feasibility, self._sloped = p.feasibility, len(p.residual.slope_points) > 0
        self._feasible_shape = tuple(map(float, p.classifier.shape))
        e = len(p.coordinates.centre)
        buffers: dict[str, Array | Tensor] = {
            "lengthscale": p.residual.lengthscale,
            "points": _columns(torch.from_numpy(p.residual.points / p.residual.lengthscale)),
            "weights": p.residual.weights,
            "linear": p.trend[1 : e + 1],
            "quadratic": p.trend[e + 1 :].reshape(e, e),
            "constant": p.trend[:1],
            "box": p.box,
        }
        self._tilted = len(p.tilted) > 0
        if self._tilted:
            buffers |= {"tilt": p.tilted[:e], "tilted_linear": p.tilted[e + 1 : 2 * e + 1]}
            buffers |= {"tilted_quadratic": p.tilted[2 * e + 1 :].reshape(e, e), "tilted_constant": p.tilted[e : e + 1]}
        self._peaked = len(p.gates) > 0
        for name in ("gates", "peaks") if self._peaked else ():
            rows = getattr(p, name)
            buffers |= {f"{name}_constant": rows[:, 0], f"{name}_linear": rows[:, 1 : e + 1].T}
            buffers[f"{name}_quadratic"] = rows[:, e + 1 :].reshape(-1, e, e)
        if self._sloped:
            scaled = p.residual.slope_weights / p.residual.lengthscale
            buffers["slope_points"] = _columns(torch.from_numpy(p.residual.slope_points / p.residual.lengthscale))
            buffers["slope_weights"] = scaled
            buffers["slope_offsets"] = (p.residual.slope_points / p.residual.lengthscale * scaled).sum(1)
        if self._feasibility != "everywhere":
            names = ("points", "weights", "root")
            buffers |= {f"feasible_{name}": getattr(p.classifier, name) for name in names}
        _register(self, buffers)

    def forward(self, x: Tensor) -> Tensor:
        """Log-likelihoods at x."""
        u = self._whitened(x)
        z = u / self.lengthscale
        kernel = CORRELATIONS[self._kernel]
        k = kernel.correlation(_squared_distance(z, self.points))
        value = self.constant + u @ self.linear + ((u @ self.quadratic) * u).sum(1) + k @ self.weights
        if self._tilted:
            inner = self.tilted_constant + u @ self.tilted_linear + ((u @ self.tilted_quadratic) * u).sum(1)
            value = value + (u @ self.tilt).clamp(-STEEPEST_TILT, STEEPEST_TILT).exp() * inner
        if self._peaked:
            gate, peak = (self._quadratics(name, u) for name in ("gates", "peaks"))
            value = value + gate.logsumexp(1) + (gate.softmax(1) * peak).sum(1)
        if self._sloped:
            _, h = kernel.evaluate(_squared_distance(z, self.slope_points))
            value = value + (h * (z @ self.slope_weights.T - self.slope_offsets)).sum(1)
        value = self._unwarped(value) - self._bend(u)
        if self._feasibility == "process":
            value = value + torch.log(self._by_process(u))
        elif self._feasibility == "svm":
            value = value + torch.log(self._by_machine(u))
        return self._y_max + self._temperature * value

    def _quadratics(self, name: str, u: Tensor) -> Tensor:
        """Quadratics of u for each of the peaks or their gates, with shape (m, k)."""
        constant, linear, quadratic = (getattr(self, f"{name}_{part}") for part in ("constant", "linear", "quadratic"))
        return constant + u @ linear + torch.einsum("mi,kij,mj->mk", u, quadratic, u)

    def _by_process(self, u: Tensor) -> Tensor:
        """Probability of being feasible, as ``FeasibilityProcess.probability``."""
        bend, length, smooth = self._feasible_shape
        d, square, inner = u.shape[1], (u * u).sum(1), u @ self.feasible_points.T
        k = 1.0 + inner / d
        if bend:
            r2 = _squared_distance(u, _columns(self.feasible_points)) / (length**2 * d)
            k = k + bend * CORRELATIONS["rbf" if smooth else "matern52"].correlation(r2)
        k = PRIOR_VARIANCE * k
        variance = PRIOR_VARIANCE * (1.0 + square / d + bend) - (k @ self.feasible_root.T).square().sum(1)
        margin = k @ self.feasible_weights / (1.0 + variance.clamp(min=0.0)).sqrt()
        return ((torch.special.ndtr(margin) - SURE) / (1.0 - 2.0 * SURE)).clamp(0.0, 1.0)

    def _by_machine(self, u: Tensor) -> Tensor:
        """Probability of being feasible, as ``FeasibilityMachine.probability``."""
        intercept, gamma, _ = self._feasible_shape
        k = CORRELATIONS["rbf"].correlation(2.0 * gamma * _squared_distance(u, _columns(self.feasible_points)))
        return (0.5 * (1.0 + k @ self.feasible_weights + intercept)).clamp(0.0, 1.0)

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
        bend = (excess / (BEND_WIDTH * (high - low))).square().sum(1)
        return 0.5 * (bend + (BEND_QUARTIC * bend).square())


def _register(module: torch.nn.Module, arrays: Mapping[str, Array | Tensor]) -> None:
    """Registers arrays as buffers of a module, in float64."""
    for name, array in arrays.items():
        module.register_buffer(name, torch.tensor(np.ascontiguousarray(array), dtype=torch.float64))


def _warp_column(t: Tensor, kind: int, low: Tensor, high: Tensor) -> Tensor:
    if kind == 0:
        return t
    width = torch.where(torch.isfinite(high - low), high - low, torch.ones_like(low))
    if kind in FOLDS:
        middle = torch.where(torch.isfinite(low) & torch.isfinite(high), 0.5 * (low + high), 0.5 * torch.ones_like(low))
        distance = (t - middle).abs()
        return distance if kind == FOLDS[0] else torch.log(torch.maximum(distance, 1e-7 * width))
    above, below = torch.maximum(t - low, 1e-7 * width), torch.maximum(high - t, 1e-7 * width)
    return {1: lambda: torch.log(above), 2: lambda: -torch.log(below), 3: lambda: torch.log(above / below)}[kind]()


def _columns(b: Tensor) -> Tensor:
    """(B, |b|^2, 1), transposed; its product with (-2 a, 1, |a|^2) is the squared distances."""
    return torch.cat([b, (b * b).sum(1, keepdim=True), torch.ones_like(b[:, :1])], 1).T


def _squared_distance(a: Tensor, columns: Tensor) -> Tensor:
    """Squared distances, with shape (m, n), by one product with `_columns`; it can be differentiated and exported."""
    left = torch.cat([-2.0 * a, torch.ones_like(a[:, :1]), (a * a).sum(1, keepdim=True)], 1)
    return (left @ columns).clamp_(min=0.0)
