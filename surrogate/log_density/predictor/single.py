"""The predictor for a single point as a numpy closure, in which all affine maps are one product."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array
from surrogate.gp.means import STEEPEST_TILT
from surrogate.linalg.stationary import CORRELATIONS
from surrogate.log_density.coordinates.warps import EXPANDED_TO
from surrogate.log_density.feasibility.process import PRIOR_VARIANCE, SURE
from surrogate.log_density.predictor.closures import (
    affine,
    augmented_trend,
    peaks_function,
    slope_function,
    tilted_trend,
)
from surrogate.log_density.trust_region import BEND_QUARTIC, BEND_WIDTH

if TYPE_CHECKING:
    from surrogate.log_density.predictor.numbers import Predictor

__all__ = ["single_closure"]


def single_closure(p: Predictor) -> Callable[[ArrayLike], float]:
    """The function of one point with shape (d,), which is not checked."""
    to_z, offset = affine(p)
    decades, warped = p.coordinates.decades, _scalar_warp(p)
    correlate = CORRELATIONS[p.residual.kernel].of_exponent
    scaled = p.residual.points / p.residual.lengthscale
    points = np.column_stack([scaled, -0.5 * (scaled**2).sum(1)])
    weights, trend = p.residual.weights, augmented_trend(p)
    low, high = p.box / p.residual.lengthscale
    box = tuple(zip(low.tolist(), high.tolist(), (1.0 / (BEND_WIDTH * (high - low))).tolist(), strict=True))
    slopes = _scalar_slopes(p) if len(p.residual.slope_points) else None
    feasible = _FEASIBLE[p.feasibility](p) if p.feasibility in _FEASIBLE else None
    tilted, peaked = tilted_trend(p), peaks_function(p)
    y_max, temperature, output = map(float, p.constants[:3])
    inverse = _scalar_inverse(output) if output else None

    def single(x: ArrayLike) -> float:
        """The log-likelihood at a point with shape (d,), which is not checked."""
        if decades is not None:
            x = decades.forward(np.asarray(x, dtype=np.float64))
        z = to_z.dot(x if warped is None else warped(x))
        z += offset
        e = points.dot(z)
        e -= 0.5 * (z.dot(z) - 1.0)  # which is now minus half the squared distances
        value = float(z.dot(trend.dot(z))) + float(weights.dot(correlate(e)))
        if tilted is not None:
            value += math.exp(min(max(float(tilted[0].dot(z)), -STEEPEST_TILT), STEEPEST_TILT)) * float(
                z.dot(tilted[1].dot(z))
            )
        if peaked is not None:
            value += float(peaked(z[None])[0])
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
            value -= 0.5 * (bend + (BEND_QUARTIC * bend) ** 2)
        if feasible is not None:
            value += feasible(z)
        return y_max + temperature * value

    return single


def _scalar_warp(p: Predictor) -> Callable[[ArrayLike], Array] | None:
    if not p.coordinates.is_warped:
        return None
    warp = p.coordinates.input_warp
    return lambda x: warp.forward(
        ((np.asarray(x, dtype=np.float64) - p.coordinates.location) / p.coordinates.scale)[None]
    )[0]


def _scalar_slopes(p: Predictor) -> Callable[[Array], float]:
    """Contribution of evaluations with derivatives: sum_i h_i (z - z_i).b_i."""
    slope = slope_function(p)
    points, b = p.residual.slope_points / p.residual.lengthscale, p.residual.slope_weights / p.residual.lengthscale
    along = np.column_stack([b, -(points * b).sum(1)])
    points = np.column_stack([points, -0.5 * (points**2).sum(1)])

    def slopes(z: Array) -> float:
        e = points.dot(z)
        e -= 0.5 * (z.dot(z) - 1.0)
        return float(slope(e).dot(along.dot(z)))

    return slopes


def _process(p: Predictor) -> Callable[[Array], float]:
    """Natural log of the probability of being feasible, as ``FeasibilityProcess.log_probability``."""
    points, weights, root, lengthscale = (
        p.classifier.points,
        p.classifier.weights,
        p.classifier.root,
        p.residual.lengthscale,
    )
    bend, length, smooth = map(float, p.classifier.shape)
    correlate = CORRELATIONS["rbf" if smooth else "matern52"].of_exponent
    d = len(lengthscale)
    norms, unit = (points**2).sum(1), -0.5 / (length**2 * d)

    def feasible(z: Array) -> float:
        u = z[:-1] * lengthscale
        square = float(u.dot(u))
        inner = points.dot(u)
        k = 1.0 + inner / d
        if bend:
            k += bend * correlate(np.minimum((norms + square - 2.0 * inner) * unit, 0.0))
        k *= PRIOR_VARIANCE
        half = root.dot(k)
        variance = PRIOR_VARIANCE * (1.0 + square / d + bend) - float(half.dot(half))
        margin = float(weights.dot(k)) / math.sqrt(1.0 + max(variance, 0.0))
        return _log((0.5 * math.erfc(-margin / math.sqrt(2.0)) - SURE) / (1.0 - 2.0 * SURE))

    return feasible


def _machine(p: Predictor) -> Callable[[Array], float]:
    """Natural log of the probability of being feasible, as ``FeasibilityMachine.log_probability``."""
    points, weights, lengthscale = p.classifier.points, p.classifier.weights, p.residual.lengthscale
    intercept, gamma, _ = map(float, p.classifier.shape)
    norms, correlate = (points**2).sum(1), CORRELATIONS["rbf"].of_exponent

    def feasible(z: Array) -> float:
        u = z[:-1] * lengthscale
        e = np.minimum((norms + (float(u.dot(u)) - 2.0 * points.dot(u))) * -gamma, 0.0)
        return _log(0.5 * (1.0 + float(weights.dot(correlate(e))) + intercept))

    return feasible


_FEASIBLE = {"process": _process, "svm": _machine}


def _log(probability: float) -> float:
    """Natural log of a probability, clipped to [0, 1], which rounding or a linear rise may exceed."""
    return math.log(min(probability, 1.0)) if probability > 0.0 else -math.inf


def _scalar_inverse(scale: float) -> Callable[[float], float]:
    """The inverse output warp, see ``OutputWarp.inverse``."""
    o = abs(scale)
    if scale > 0:
        return lambda z: -o * math.expm1(min(-z / o, 600.0))
    end, steep = EXPANDED_TO * o, 1.0 / (1.0 - EXPANDED_TO)
    return lambda z: -o * math.log1p(-min(z, end) / o) + steep * max(z - end, 0.0)
