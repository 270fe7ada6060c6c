"""Log-likelihoods in which a parameter is the scale of the noise, and the misfit that is left without it.

If the sd or variance s of Gaussian noise is a parameter, the log-likelihood is offset - count log s - misfit s^power,
where only the misfit depends on the other parameters, the model's. Four evaluations that differ in s alone tell whether
this holds, because it has three unknown numbers there, and further ones tell whether offset and count are the same
everywhere. Every evaluation then gives the misfit of its model exactly, whatever its s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from surrogate.arrays import Array, Indices

__all__ = ["POWERS", "NoiseScale", "models", "of_line", "suspected_scale", "longest_line"]

POWERS = (-2, -1)
"""Powers of the scale that multiply the misfit: of a standard deviation, and of a variance."""

_LINE = 4  # evaluations that differ in the scale alone from which the form is judged
_DECIMALS = 10  # of unit coordinates that are equal for the same model
_TOLERANCE = 1e-7  # error relative to the range of the values up to which the form holds
_LENGTHSCALES = (0.7, 1.5, 3.0, 6.0)  # of the processes that are compared, in sds of the points times sqrt(d)
_NUGGET, _MEAN = 1e-3, 4.0  # variances of noise and of the mean of these processes, relative to that of the residual
_FLOOR = 20.0  # nats added to depths, so that their logarithm does not resolve the vicinity of the best point
_CLIPPED = 5.0  # log depth above the median at which deeper points are clipped


@dataclass(frozen=True)
class NoiseScale:
    """A log-likelihood offset - count log s - misfit s^power with s one of the parameters.

    Attributes:
        parameter: Number of the parameter s.
        power: -2 if it is a standard deviation, -1 if it is a variance.
        offset: Value where log s and the misfit are zero.
        count: Number of data, or half of it for a variance.
    """

    parameter: int
    power: int
    offset: float
    count: float

    def misfit(self, x: Array, y: Array) -> Array:
        """Misfits of the models of evaluated points, with shape (n,); not positive if the form does not hold."""
        s = x[:, self.parameter]
        return (self.offset - self.count * np.log(s) - y) * s**-self.power

    def holds(self, x: Array, y: Array, model: Indices) -> bool:
        """Whether all misfits of points with values y are positive, and those of the same model are equal.

        Args:
            x: Points, with shape (n, d).
            y: Their finite values.
            model: Numbers of their models, see ``models``.
        """
        with np.errstate(over="ignore"):
            misfit = self.misfit(x, y)
        if not (misfit > 0.0).all():
            return False
        spread = np.abs(misfit - np.bincount(model, misfit)[model] / np.bincount(model)[model])
        size = np.maximum(np.abs(y), self.count) * x[:, self.parameter] ** -self.power
        return bool((spread < _TOLERANCE * size).all())

    def best_scale(self, misfit: Array, relative: Array | float = 1.0) -> Array:
        """The scale s at which models with given misfits are most likely.

        Args:
            misfit: Misfits, with shape (m,).
            relative: Value of misfit s^power in units of that at the maximum.
        """
        return np.asarray((self.term * relative / misfit) ** (1.0 / self.power))

    @property
    def term(self) -> float:
        """misfit s^power at the most likely scale s, whatever the misfit."""
        return self.count / -self.power


def models(t: Array, parameter: int) -> Indices:
    """Numbers of the models of points, which differ in the parameters other than the scale, with shape (n,).

    Args:
        t: Unit coordinates, with shape (n, d), equal up to rounding for the same model.
        parameter: Number of the scale.
    """
    rounded = np.round(np.delete(t, parameter, axis=1), _DECIMALS)
    return np.unique(rounded, axis=0, return_inverse=True)[1].reshape(-1)


def longest_line(model: Indices) -> Indices | None:
    """Rows of a model with at least four points; None if there is none."""
    counts = np.bincount(model)
    return np.flatnonzero(model == counts.argmax()) if counts.max(initial=0) >= _LINE else None


def of_line(s: Array, y: Array, parameter: int) -> NoiseScale | None:
    """The form that values y at scales s, at least four, have within rounding; None if they have none."""
    for power in POWERS:
        terms = np.stack([np.ones(len(s)), -np.log(s), -(s**power)], 1)
        size = np.linalg.norm(terms, axis=0)
        found = np.linalg.lstsq(terms / size, y, rcond=None)[0]
        error = np.abs(terms / size @ found - y).max()
        offset, count, misfit = map(float, found / size)
        if error < _TOLERANCE * np.ptp(y) and count > 0.0 and misfit > 0.0:
            return NoiseScale(parameter, power, offset, count)
    return None


def suspected_scale(t: Array, s: Array, y: Array, candidates: Sequence[int]) -> tuple[float, int] | None:
    """The parameter that looks most like a scale of noise, and the log Bayes factor against there being none.

    A process of the logarithm of the depth is compared with those of log depth - power log s in all other coordinates:
    far below the maximum both terms of the misfit's logarithm simply add up.

    Args:
        t: Unit coordinates of evaluated points, with shape (n, d).
        s: The parameters themselves, with shape (n, d).
        y: Their finite values.
        candidates: Numbers of the parameters to compare.

    Returns:
        None without candidates, or if the points cannot be compared. A few factorisations for each candidate.
    """
    spread = t.std(0)
    if not len(candidates) or len(y) < 3 or not (spread > 0.0).all():
        return None
    u = (t - t.mean(0)) / spread
    depth = np.log(_FLOOR + y.max() - y)
    depth = np.minimum(depth, np.median(depth) + _CLIPPED)
    plain = _log_evidence(u, depth)
    found = [
        (_log_evidence(np.delete(u, j, axis=1), depth - power * np.log(s[:, j])), j)
        for j, power in product(candidates, POWERS)
    ]
    value, parameter = max(found)
    return value - plain, parameter


def _log_evidence(u: Array, z: Array) -> float:
    """The highest log evidence of values z at u with shape (n, d) over lengthscales, with the variance profiled."""
    n, d = u.shape
    squares = ((u[:, None] - u[None]) ** 2).sum(-1)
    out = -np.inf
    for lengthscale in _LENGTHSCALES:
        covariance = np.exp(-0.5 * squares / (d * lengthscale**2)) + _NUGGET * np.eye(n) + _MEAN
        root = np.linalg.cholesky(covariance)
        white = np.linalg.solve(root, z - z.mean())
        out = max(out, -0.5 * n * np.log(white @ white / n) - np.log(np.diag(root)).sum())
    return float(out)
