"""Comparisons: the log-likelihood as a function of output components, with its moments under their errors.

The K components z are coordinates of the outputs relative to a centre, see ``reduction``. Under independent normal
errors of variance v the log-likelihood l has the moments of its second-order expansion in each component,

    mean = l + sum_k h_k v_k / 2,    variance = sum_k (g_k^2 v_k + h_k^2 v_k^2 / 2),

with slopes g and curvatures h. They are exact if l is a sum of quadratics, as for Gaussian data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from surrogate.arrays import Array
from surrogate.log_density.composite.reduction import Reduction
from surrogate.problem.gaussian_data import GaussianData
from surrogate.problem.observables import BoundObservables

__all__ = ["Comparison", "Expansion", "GaussianComparison", "GeneralComparison", "comparison_of"]


LOWEST = -1e12
"""Log-likelihood used instead of -inf and of failures of a comparison, so that differences exist."""

CAUTION = 10.0
"""The power c of ``Comparison.expected``.

With c = 1 an unknown region attracts all draws, because any of it could fit the data. For c -> infinity the draws stay
at known points, as in an overdamped optimiser.
"""

_SENSITIVE_STEP = 0.03  # step of the difference quotient for the sensitivity, in units of the same spread
_LEAST_STEP = 1e-4  # smallest step of a difference quotient, in units of the spread of a component over the data


@dataclass(frozen=True, eq=False)
class Expansion:
    """Second-order expansion of the log-likelihood in the components at m points.

    Attributes:
        value: At the components themselves, with shape (m,).
        slope: Derivatives with respect to the components, with shape (m, K).
        curvature: Second derivatives, with shape (m, K).
    """

    value: Array
    slope: Array
    curvature: Array

    def mean(self, variance: Array) -> Array:
        """Mean of the log-likelihood under errors of the components with variances (m, K), with shape (m,)."""
        return self.value + 0.5 * (self.curvature * variance).sum(1)

    def variance(self, variance: Array) -> Array:
        """Variance of the log-likelihood under the same errors, with shape (m,)."""
        return (self.slope**2 * variance + 0.5 * (self.curvature * variance) ** 2).sum(1)


class Comparison(Protocol):
    """Interface of a comparison for the surrogate. Points x are parameters, with shape (m, d)."""

    def value(self, z: Array, x: Array) -> Array:
        """Log-likelihood at components (m, K), with shape (m,); -inf where impossible."""
        ...

    def expected(self, z: Array, variance: Array, x: Array) -> Array:
        """The log-likelihood to sample, c log E[L^(1/c)] under errors of the components, with shape (m,).

        With c = 1 this is the log of the mean likelihood, for c -> infinity the mean log-likelihood.
        """
        ...

    def expansion(self, z: Array, variance: Array, x: Array) -> Expansion:
        """The expansion of the log-likelihood about components with these variances."""
        ...


@dataclass(frozen=True, eq=False)
class GaussianComparison:
    """Comparison with Gaussian data: exact, and independent of the number of data at K numbers per point.

    The whitened residual is c + B z + T^T a with orthonormal columns B, templates T and their amplitudes a.

    Attributes:
        centre: c, with shape (M,).
        basis: B, with shape (M, K).
        templates: T, with shape (p, M).
        columns: Positions of the amplitudes among the parameters, p of them.
        constant: Log-likelihood without residual.
    """

    centre: Array
    basis: Array
    templates: Array
    columns: tuple[int, ...]
    constant: float = 0.0

    @cached_property
    def _products(self) -> tuple[float, Array, Array, Array, Array]:
        c, b, t = self.centre, self.basis, self.templates
        along = c - b @ (b.T @ c)
        across = t - (t @ b) @ b.T  # templates without their part in the components
        return float(along @ along), across @ along, across @ across.T, c @ b, t @ b

    def _residual(self, z: Array, x: Array) -> tuple[Array, Array]:
        """Squared residual outside the components, with shape (m,), and residual within them, (m, K)."""
        outside, linear, square, c, t = self._products
        if not self.columns:
            return np.full(len(z), outside), z + c
        a = x[:, list(self.columns)]
        return outside + 2.0 * a @ linear + ((a @ square) * a).sum(1), z + c + a @ t

    def value(self, z: Array, x: Array) -> Array:
        """See ``Comparison``."""
        rest, inside = self._residual(z, x)
        return self.constant - 0.5 * (rest + (inside**2).sum(1))

    def expected(self, z: Array, variance: Array, x: Array) -> Array:
        """See ``Comparison``: exact."""
        rest, inside = self._residual(z, x)
        share = variance / CAUTION
        return self.constant - 0.5 * (rest + (inside**2 / (1.0 + share) + CAUTION * np.log1p(share)).sum(1))

    def expansion(self, z: Array, variance: Array, x: Array) -> Expansion:  # noqa: ARG002 - the same for all variances
        """See ``Comparison``."""
        rest, inside = self._residual(z, x)
        value = self.constant - 0.5 * (rest + (inside**2).sum(1))
        return Expansion(value, -inside, np.full_like(inside, -1.0))


@dataclass(frozen=True, eq=False)
class GeneralComparison:
    """A comparison of unknown form, called at outputs reconstructed from the components z.

    Its derivatives with respect to z are central differences with a step of one sd of each component.

    Attributes:
        target: The target.
        reduction: Reduction by which outputs are reconstructed.
        spread: Root mean square of each component over the data, with shape (K,).
        best: Parameters of the best row, whose components are zero, with shape (d,).
    """

    target: BoundObservables
    reduction: Reduction
    spread: Array
    best: Array

    @cached_property
    def _at_best(self) -> tuple[float, Array, Array]:
        """Log-likelihood of the best row, its negative curvatures, and the components' shares of the sensitivity."""
        z, step = np.zeros((1, len(self.spread))), _SENSITIVE_STEP * self.spread[None]
        expansion = self.expansion(z, step**2, self.best[None])
        curvature = np.maximum(-expansion.curvature[0], 0.0)
        weight = curvature * self.spread**2 + 1e-300
        return float(expansion.value[0]), curvature, weight / weight.sum()

    def value(self, z: Array, x: Array) -> Array:
        """See ``Comparison``; one call per point, or one for all if the comparison is vectorised."""
        out = np.empty(len(z))
        block = max(1, _BLOCK // self.reduction.layout.size)
        for start in range(0, len(z), block):
            part = slice(start, start + block)
            out[part] = self._some(z[part], x[part])
        return out

    def _some(self, z: Array, x: Array) -> Array:
        values = self.reduction.outputs(z)
        try:
            found = self.target.compare(self.reduction.layout, values, x)
        except Exception:  # noqa: BLE001 - outputs that no simulator returns may be refused
            if len(z) == 1:
                return np.full(1, -np.inf)
            return np.concatenate([self._some(z[i : i + 1], x[i : i + 1]) for i in range(len(z))])
        return np.where(np.isnan(found) | (found == np.inf), -np.inf, found)

    def expected(self, z: Array, variance: Array, x: Array) -> Array:
        """See ``Comparison``, with the curvatures of the best row: one call for each point.

        The depth is divided by one plus the mean relative error, in which each component is weighted by its
        sensitivity; this is exact for Gaussian data with equal shares.
        """
        top, curvature, weight = self._at_best
        share = curvature * variance / CAUTION
        depth = top - np.maximum(self.value(z, x), LOWEST)
        return top - depth / (1.0 + share @ weight) - 0.5 * CAUTION * np.log1p(share).sum(1)

    def expansion(self, z: Array, variance: Array, x: Array) -> Expansion:
        """See ``Comparison``: 2 K + 1 calls for each point."""
        base = np.maximum(self.value(z, x), LOWEST)
        slope, curvature = np.empty_like(z), np.empty_like(z)
        step = np.maximum(np.sqrt(variance), _LEAST_STEP * self.spread)
        for k in range(z.shape[1]):
            shift = np.zeros_like(z)
            shift[:, k] = step[:, k]
            above, below = (np.maximum(self.value(moved, x), LOWEST) for moved in (z + shift, z - shift))
            slope[:, k] = 0.5 * (above - below) / step[:, k]
            curvature[:, k] = (above - 2.0 * base + below) / step[:, k] ** 2
        return Expansion(base, slope, curvature)


_BLOCK = 4_000_000  # outputs computed at a time: 32 MB


def comparison_of(target: BoundObservables, reduction: Reduction, best: Array) -> Comparison:
    """The comparison of a target as a function of the components of its outputs.

    Args:
        target: The target.
        reduction: Reduction of outputs to components.
        best: Parameters of the outputs at the centre of the reduction, with shape (d,).
    """
    data = target.target.compare
    if isinstance(data, GaussianData):
        columns = tuple(target.names.index(name) for name in data.templates)
        return GaussianComparison(reduction.centre, reduction.basis, data.template_rows, columns, data.constant)
    spread = np.sqrt((reduction.scores**2).mean(0))
    return GeneralComparison(target, reduction, np.maximum(spread, 1e-300), best)
