"""Quadratic approximations of slow comparisons in the components, from some hundred calls.

A chi-squared of outputs is a quadratic in the components for given fast parameters, and most other comparisons nearly
are where the posterior is. Each fast parameter has five nodes with a quadratic at each, interpolated by polynomials:

    l(z, a) = q(z) + sum_j (I_j(z, a_j) - I_j(z, a*_j)) + sum_(j<k) m_jk (a_j - a*_j) (a_k - a*_k)

with the quadratic q at the fast parameters a* of the best evaluation, and interpolants I_j along one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.log_density.composite.comparison import CAUTION, Comparison, Expansion, GeneralComparison

__all__ = ["QuadraticComparison", "quadratics_of"]


_NODES = 5  # nodes of a fast parameter: a calibration of 1e6 nats is followed to 1e-3 nats over a change of 2 %
_DROP = 2.0  # nats by which a step of a difference quotient lowers the log-likelihood
_REFINED = 3  # adjustments of each step
_WIDER = 0.5  # of the range of a fast parameter on each side; beyond, polynomials are held constant
_WRONG = 0.3  # nats by which an expansion may miss an evaluation near the best ...
_WRONG_OF_DEPTH = 0.1  # ... plus this for each nat of its depth
_CHECKED = 10.0  # depth in nats of the evaluations that are checked


@dataclass(frozen=True, eq=False)
class QuadraticComparison:
    """Quadratics in the components at nodes of the fast parameters.

    Attributes:
        constant: Values at the best components, with shape (N,) for N nodes.
        slope: With shape (N, K).
        hessian: Without positive eigenvalues, with shape (N, K, K).
        columns: Positions of the p fast parameters among all.
        nodes: Values of each fast parameter at its nodes, with shape (p, 5).
        anchor: Fast parameters a* of the first node, with shape (p,).
        mixed: m_jk, an upper triangle with shape (p, p).
        low: Lowest values that the fast parameters are followed to, with shape (p,).
        high: Highest ones.
    """

    constant: Array
    slope: Array
    hessian: Array
    columns: Indices
    nodes: Array
    anchor: Array
    mixed: Array
    low: Array
    high: Array

    def _weights(self, x: Array) -> tuple[Array, Array]:
        """Weight of each node, with shape (m, N), and the mixed terms, with shape (m,)."""
        fast = np.clip(x[:, self.columns], self.low, self.high)
        parts = [np.ones((len(x), 1))]
        parts += [
            _lagrange(n, a) - _lagrange(n, b[None]) for n, a, b in zip(self.nodes, fast.T, self.anchor, strict=True)
        ]
        offset = fast - self.anchor
        return np.concatenate(parts, axis=1), ((offset @ self.mixed) * offset).sum(1)

    def _parts(self, z: Array, x: Array) -> tuple[Array, Array, Array]:
        """Value (m,), slope (m, K), and the weight of each node (m, N)."""
        weights, value = self._weights(x)
        slope = np.zeros_like(z)
        for k, share in enumerate(weights.T):
            bent = z @ self.hessian[k]
            value = value + share * (self.constant[k] + z @ self.slope[k] + 0.5 * (bent * z).sum(1))
            slope += share[:, None] * (self.slope[k] + bent)
        return value, slope, weights

    def value(self, z: Array, x: Array) -> Array:
        """See ``Comparison``."""
        return self._parts(z, x)[0]

    def expected(self, z: Array, variance: Array, x: Array) -> Array:
        """See ``Comparison``: exact, O(m K^3)."""
        value, slope, weights = self._parts(z, x)
        root = np.sqrt(variance / CAUTION)
        bent = -np.einsum("mn,nij->mij", weights, self.hessian)
        values, vectors = np.linalg.eigh(root[:, :, None] * bent * root[:, None, :])
        values = 1.0 + np.maximum(values, 0.0)  # interpolated Hessians may have small positive eigenvalues
        along = np.einsum("mij,mi->mj", vectors, root * slope)
        return value + 0.5 * (along**2 / values).sum(1) - 0.5 * CAUTION * np.log(values).sum(1)

    def expansion(self, z: Array, variance: Array, x: Array) -> Expansion:  # noqa: ARG002 - the same for all variances
        """See ``Comparison``."""
        value, slope, weights = self._parts(z, x)
        return Expansion(value, slope, weights @ np.diagonal(self.hessian, axis1=1, axis2=2))


def quadratics_of(general: GeneralComparison, x: Array, z: Array, y: Array) -> Comparison:
    """The quadratic approximation of a comparison, or the comparison itself if it does not reproduce the evaluations.

    It takes (1 + 5 p) (K^2 + K + 1) calls for K components and p fast parameters.

    Args:
        general: The comparison.
        x: Parameters of the evaluations, with shape (n, d).
        z: Their components, with shape (n, K).
        y: Their log-likelihoods, with shape (n,); -inf allowed.
    """
    best = int(np.argmax(y))
    depth = y[best] - y
    near = depth < _CHECKED
    fast = np.setdiff1d(np.arange(x.shape[1]), general.target.columns)
    anchor = x[best]
    base = _Calls(general, anchor)
    steps = _steps(base, general.spread)
    if steps is None:
        return general
    over = x[near] if near.sum() > _NODES else x[np.isfinite(y)]
    low, high = over[:, fast].min(0), over[:, fast].max(0)
    margin = _WIDER * (high - low) + 1e-9 * np.maximum(1.0, np.abs(high))
    low, high = low - margin, high + margin
    nodes = low[:, None] + (high - low)[:, None] * _CHEBYSHEV
    points = [anchor]
    for j, values in zip(fast, nodes, strict=True):
        points += [_with(anchor, j, value) for value in values]
    found = [_quadratic(_Calls(general, point), steps) for point in points]
    if any(part is None for part in found):
        return general
    constant, slope, hessian = (np.array(part) for part in zip(*found, strict=True))
    mixed = _mixed_derivatives(base, fast, 0.25 * (high - low))
    quadratics = QuadraticComparison(constant, slope, hessian, fast, nodes, anchor[fast], mixed, low, high)
    error = np.abs(quadratics.value(z[near], x[near]) - y[near])
    if not (error <= _WRONG + _WRONG_OF_DEPTH * depth[near]).all():
        return general
    return quadratics


@dataclass(frozen=True, eq=False)
class _Calls:
    """Calls of a comparison at fixed parameters x, with shape (d,)."""

    general: GeneralComparison
    x: Array

    def __call__(self, z: Array) -> Array:
        return self.general.value(z, np.tile(self.x, (len(z), 1)))


def _with(x: Array, j: int, value: float) -> Array:
    out = x.copy()
    out[j] = value
    return out


_CHEBYSHEV = 0.5 - 0.5 * np.cos((np.arange(_NODES) + 0.5) * np.pi / _NODES)
"""Nodes of an interval from 0 to 1."""


def _lagrange(nodes: Array, at: Array) -> Array:
    """Values of the Lagrange polynomials of some nodes, with shape (m, nodes)."""
    out = np.ones((len(at), len(nodes)))
    for i, node in enumerate(nodes):
        for other in np.delete(nodes, i):
            out[:, i] *= (at - other) / (node - other)
    return out


def _steps(calls: _Calls, spread: Array) -> Array | None:
    """Steps of the components that lower the log-likelihood by some nats, (K,); None if the likelihood is zero."""
    size = len(spread)
    steps = spread.copy()
    centre = calls(np.zeros((1, size)))[0]
    for _ in range(_REFINED):
        ends = calls(np.concatenate([np.diag(steps), -np.diag(steps)]))
        bend = np.abs(ends[:size] + ends[size:] - 2.0 * centre) / steps**2
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.sqrt(2.0 * _DROP / bend)
        steps = np.where(np.isfinite(bend), np.clip(wanted, 1e-4 * spread, spread), 0.25 * steps)
    return steps if np.isfinite(calls(np.concatenate([np.diag(steps), -np.diag(steps)]))).all() else None


def _quadratic(calls: _Calls, steps: Array) -> tuple[float, Array, Array] | None:
    """Value, slope and Hessian at the best components by central differences; None if the likelihood is zero."""
    size = len(steps)
    first, second = np.triu_indices(size, 1)
    alone = np.diag(steps)
    both = alone[first] + alone[second]
    found = calls(np.concatenate([np.zeros((1, size)), alone, -alone, both, -both]))
    if not np.isfinite(found).all():
        return None
    centre, above, below = found[0], found[1 : size + 1], found[size + 1 : 2 * size + 1]
    pairs = found[2 * size + 1 :].reshape(2, -1).sum(0)
    ends = above + below
    hessian = np.diag((ends - 2.0 * centre) / steps**2)
    off = (pairs - ends[first] - ends[second] + 2.0 * centre) / (2.0 * steps[first] * steps[second])
    hessian[first, second] = hessian[second, first] = off
    values, vectors = np.linalg.eigh(hessian)
    return float(centre), 0.5 * (above - below) / steps, (vectors * np.minimum(values, 0.0)) @ vectors.T


def _mixed_derivatives(base: _Calls, fast: Indices, widths: Array) -> Array:
    """Mixed second derivatives with respect to the fast parameters, an upper triangle with shape (p, p)."""
    out = np.zeros((len(fast), len(fast)))
    zero = np.zeros((1, len(base.general.spread)))
    for i in range(len(fast)):
        for j in range(i + 1, len(fast)):
            corners = 0.0
            for a, b in ((1, 1), (-1, -1), (1, -1), (-1, 1)):
                x = base.x.copy()
                x[fast[i]] += a * widths[i]
                x[fast[j]] += b * widths[j]
                corners += a * b * float(base.general.value(zero, x[None])[0])
            out[i, j] = corners / (4.0 * widths[i] * widths[j])
    return np.where(np.isfinite(out), out, 0.0)
