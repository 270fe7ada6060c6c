"""Gaussian conditionals of a log-density whose trend is divided by a parameter: a mixture that fits a funnel.

Given the divisor such a log-density is a quadratic in all other parameters, however narrow it becomes as the divisor
falls. A mixture of one Gaussian for each value of the divisor on a grid, weighted by its integral, is a proposal that
covers the narrow end of a funnel, which a sampler that starts in the wide end hardly ever reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.means import STEEPEST_TILT, Tilted
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.log_density.parameters import SurrogateParameters
from surrogate.samplers.mixture import Mixture

__all__ = ["conditional_mixture"]


_VALUES = 40  # number of values of the divisor, evenly spaced in its logarithm
_BELOW, _ABOVE = 2.5, 1.0  # how far the grid extends beyond the evaluated points, in that logarithm
_SPREAD = 0.7  # sd of the divisor in each component, in units of the spacing: neighbours overlap
_NEGLIGIBLE = 14.0  # components whose log integral is this far below the largest are left out
_STEP = 1e-3  # step of the finite differences that give the curvature of the prior, in unit coordinates

LogPrior = Callable[[Array], Array]


def conditional_mixture(
    gp: CholeskyPosterior, parameters: SurrogateParameters, t: Array, log_prior: LogPrior, temperature: float = 1.0
) -> Mixture | None:
    """The posterior of the trend alone at a temperature: one Gaussian for each value of the divisor on a grid.

    Args:
        gp: The process given the data.
        parameters: The numbers that define the surrogate.
        t: Points in unit coordinates that set the range of the divisor, with shape (n, d); the prior is expanded to
            second order at their centre.
        log_prior: Log prior density per unit of t, at points with shape (m, d).
        temperature: The log posterior is divided by it.

    Returns:
        A mixture in unit coordinates; None where the trend is not divided, or nowhere concave. Some 40 Cholesky
        factorisations of d rows.
    """
    division, mean = parameters.structure.division, gp.process.mean
    warp = parameters.structure.warp
    if division is None or not isinstance(mean, Tilted) or warp.size > len(warp.kinds) or warp.symmetry is not None:
        return None
    j = division.parameter
    row = warp.forward(t)[:, j]
    values = np.linspace(row.min() - _BELOW, row.max() + _ABOVE, _VALUES)
    divided = _Divided.of(gp, mean, parameters, np.median(t, axis=0), log_prior)
    parts = [(value, part) for value in values if (part := divided.given(value)) is not None]
    if not parts:
        return None
    above = np.exp([value for value, _ in parts])  # distance of the divisor from its lower end
    means = np.insert(np.stack([part.mean for _, part in parts]), j, warp.low[j] + above, axis=1)
    height = np.array([part.height for _, part in parts]) + log_prior(means)
    weights = height / temperature + np.array([part.log_width for _, part in parts]) + np.log(above)
    keep = weights > weights.max() - _NEGLIGIBLE  # empty where no weight is finite
    if not keep.any():
        return None
    width = _SPREAD * (values[1] - values[0]) * above
    scale = np.sqrt(temperature)
    factors = np.stack([_with_divisor(scale * part.factor, j, sd) for (_, part), sd in zip(parts, width, strict=True)])
    share = np.exp(weights[keep] - weights.max())
    return Mixture(share / share.sum(), means[keep], factors[keep])


def _with_divisor(factor: Array, j: int, sd: float) -> Array:
    """Lower Cholesky factor with a further, independent row j of the given sd."""
    out = np.insert(np.insert(factor, j, 0.0, axis=0), j, 0.0, axis=1)
    out[j, j] = sd
    return out


@dataclass(frozen=True, eq=False)
class _Conditional:
    """A Gaussian of all parameters but the divisor.

    Attributes:
        mean: With shape (d - 1,).
        factor: Lower Cholesky factor of its covariance.
        height: Trend at the mean.
        log_width: Log of the product of the sds along its axes.
    """

    mean: Array
    factor: Array
    height: float
    log_width: float


@dataclass(frozen=True, eq=False)
class _Divided:
    """P(u) + exp(a.u) Q(u) as a function of the unit coordinates of all parameters but the divisor.

    Attributes:
        plain: c, b and C of P = c + b.u + u.C.u.
        tilted: The same of Q.
        along: a.
        others: Derivatives of u with respect to the other parameters, with shape (d - 1, d).
        divisor: Derivative of u with respect to the warped divisor, with shape (d,).
        origin: u where all warped parameters are 0.
        pull: Derivative of the log prior at the origin of its expansion, with shape (d - 1,).
        stiffness: Minus its second derivatives, at least 0.
    """

    plain: tuple[Array, Array, Array]
    tilted: tuple[Array, Array, Array]
    along: Array
    others: Array
    divisor: Array
    origin: Array
    pull: Array
    stiffness: Array

    @classmethod
    def of(
        cls, gp: CholeskyPosterior, mean: Tilted, parameters: SurrogateParameters, middle: Array, log_prior: LogPrior
    ) -> _Divided:
        """The trend of a surrogate, with the prior expanded about a point with shape (d,)."""
        j, whitening = parameters.structure.division.parameter, parameters.whitening  # type: ignore[union-attr]
        plain, tilted = (_numbers(*parts) for parts in mean.quadratics(gp.coefficients))
        slope, bend = (np.delete(part, j) for part in _derivatives(log_prior, middle))
        stiffness = np.maximum(-bend, 0.0)
        return cls(
            plain=plain,
            tilted=tilted,
            along=np.array(mean.along),
            others=np.delete(whitening.forward, j, axis=0),
            divisor=whitening.forward[j],
            origin=-whitening.centre @ whitening.forward,
            pull=slope + stiffness * np.delete(middle, j),
            stiffness=stiffness,
        )

    def given(self, value: float) -> _Conditional | None:
        """The conditional at a value of the warped divisor; None where it is not a normalisable Gaussian."""
        base = self.origin + value * self.divisor
        tilt = np.exp(np.clip(base @ self.along, -STEEPEST_TILT, STEEPEST_TILT))
        c, b, square = (p + tilt * q for p, q in zip(self.plain, self.tilted, strict=True))
        precision = -2.0 * self.others @ square @ self.others.T + np.diag(self.stiffness)
        try:
            root = np.linalg.cholesky(precision)
        except np.linalg.LinAlgError:
            return None
        inverse = np.linalg.inv(root)
        mean = inverse.T @ (inverse @ (self.others @ (b + 2.0 * square @ base) + self.pull))
        u = base + mean @ self.others
        factor = np.linalg.cholesky(inverse.T @ inverse)
        return _Conditional(mean, factor, float(c + b @ u + u @ square @ u), -float(np.log(np.diag(root)).sum()))


def _derivatives(log_prior: LogPrior, middle: Array) -> tuple[Array, Array]:
    """First and second derivatives of the log prior along each axis, 0 where they are not finite."""
    steps = _STEP * np.eye(len(middle))
    high, low, centre = log_prior(middle + steps), log_prior(middle - steps), log_prior(middle[None])
    with np.errstate(invalid="ignore"):  # beyond an edge it is -inf
        parts = (high - low) / (2.0 * _STEP), (high - 2.0 * centre + low) / _STEP**2
    return tuple(np.where(np.isfinite(part), part, 0.0) for part in parts)  # type: ignore[return-value]


def _numbers(c: Tensor, b: Tensor, quadratic: Tensor) -> tuple[Array, Array, Array]:
    """The parts of a quadratic as arrays."""
    return c.cpu().numpy(), b.cpu().numpy(), quadratic.cpu().numpy()
