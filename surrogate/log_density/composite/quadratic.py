"""Quadratic approximations of slow comparisons, and the components of outputs in which they are simple.

A chi-squared of outputs is a quadratic in the outputs for given fast parameters, and most other comparisons nearly are
where the posterior is. The components z of the outputs are chosen such that the quadratic is -|z|^2 / 2 plus linear
terms at the best evaluation: outputs are measured by what they change, as those of Gaussian data are. Each fast
parameter has five nodes with a quadratic at each, interpolated by polynomials:

    l(z, a) = q(z) + sum_j (I_j(z, a_j) - I_j(z, a*_j)) + sum_(j<k) m_jk (a_j - a*_j) (a_k - a*_k)

with the quadratic q at the fast parameters a* of the best evaluation, and interpolants I_j along one of them. Where
this misses evaluations near the best, q is corrected along a few directions: see ``correction``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.log_density.composite.comparison import CAUTION, Expansion
from surrogate.log_density.composite.correction import Correction, corrected
from surrogate.log_density.composite.directions import Directions
from surrogate.log_density.composite.reduction import Reduction, Rows, principal_components
from surrogate.problem.outputs import Layout

__all__ = ["QuadraticComparison", "quadratic_of"]


_NODES = 5  # nodes of a fast parameter: a calibration of 1e6 nats is followed to 1e-3 nats over a change of 2 %
_WIDER = 0.5  # of the range of a fast parameter on each side; beyond, polynomials are held constant
_WRONG = 0.3  # nats by which an expansion may miss an evaluation near the best ...
_WRONG_OF_DEPTH = 0.1  # ... plus this for each nat of its depth
_EXACT, _EXACT_OF_DEPTH = 0.03, 0.01  # the same for a quadratic that needs no correction
_JUDGED = 5  # evaluations that decide on logarithms, at least ...
_TRIED = 5.0  # ... and the nats below the centre where they do
_KEPT = 6  # last answers that are kept: a surrogate is built several times
_CHECKED = 10.0  # depth in nats of the evaluations that are checked
_SHARED = 1e-6  # share of the longest coordinate below which a direction is left out
_FELT = 1e-8  # nats that a direction must change to be a component
_RISE = 3.0  # nats above the last centre of the evaluation that becomes the next one


@dataclass(frozen=True, eq=False)
class QuadraticComparison:
    """Quadratics in the components at nodes of the fast parameters.

    Attributes:
        constant: Values at the centre of the components, with shape (N,) for N nodes.
        slope: With shape (N, K).
        hessian: With shape (N, K, K): without positive eigenvalues, and minus the identity at the first node.
        columns: Positions of the p fast parameters among all.
        nodes: Values of each fast parameter at its nodes, with shape (p, 5).
        anchor: Fast parameters a* of the first node, with shape (p,).
        mixed: m_jk, an upper triangle with shape (p, p).
        low: Lowest values that the fast parameters are followed to, with shape (p,).
        high: Highest ones.
        correction: Of what is no quadratic; None if there is none.
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
    correction: Correction | None = None

    def _weights(self, x: Array) -> tuple[Array, Array]:
        """Weight of each node, with shape (m, N), and the mixed terms, with shape (m,)."""
        fast = np.clip(x[:, self.columns], self.low, self.high)
        parts = [np.ones((len(x), 1))]
        parts += [
            _lagrange(n, a) - _lagrange(n, b[None]) for n, a, b in zip(self.nodes, fast.T, self.anchor, strict=True)
        ]
        offset = fast - self.anchor
        return np.concatenate(parts, axis=1), ((offset @ self.mixed) * offset).sum(1)

    def value(self, z: Array, x: Array) -> Array:
        """See ``Comparison``."""
        weights, value = self._weights(x)
        for k, share in enumerate(weights.T):
            value = value + share * (self.constant[k] + ((self.slope[k] + 0.5 * z @ self.hessian[k]) * z).sum(1))
        return value if self.correction is None else value + self.correction(z)

    def expected(self, z: Array, variance: Array, x: Array) -> Array:
        """See ``Comparison``: exact without correction where the Hessian is diagonal, as at the first node.

        The correction is that of the place where likelihood and errors together have their maximum. To expand it there
        would be wrong where errors are large: slope and curvature of a quadratic alone belong together far away.
        """
        at, share = self._quadratic(z, x), variance / CAUTION
        bent = 1.0 + share * np.maximum(-at.curvature, 0.0)  # those between nodes may be positive
        value = at.value + 0.5 * (share * at.slope**2 / bent).sum(1) - 0.5 * CAUTION * np.log(bent).sum(1)
        return value if self.correction is None else value + self.correction(z + share * at.slope / bent)

    def expansion(self, z: Array, variance: Array, x: Array) -> Expansion:  # noqa: ARG002 - the same for all variances
        """See ``Comparison``."""
        at = self._quadratic(z, x)
        if self.correction is None:
            return at
        more, first, second = self.correction.derivatives(z)
        return Expansion(at.value + more, at.slope + first, at.curvature + second)

    def _quadratic(self, z: Array, x: Array) -> Expansion:
        """The expansion without the correction."""
        weights, value = self._weights(x)
        slope = np.zeros_like(z)
        for k, share in enumerate(weights.T):
            bent = z @ self.hessian[k]
            value = value + share * (self.constant[k] + ((self.slope[k] + 0.5 * bent) * z).sum(1))
            slope += share[:, None] * (self.slope[k] + bent)
        return Expansion(value, slope, weights @ np.diagonal(self.hessian, axis1=1, axis2=2))


def centre_of(y: Array) -> int:
    """The evaluation about which a comparison is expanded: within 3 nats of the best, and rarely another one.

    Args:
        y: Log-likelihoods of the evaluations in their order, with shape (n,), at least one of them finite.
    """
    centre = int(np.argmax(np.isfinite(y)))
    for i in range(centre + 1, len(y)):
        if y[i] > y[centre] + _RISE:
            centre = i
    return centre


def quadratic_of(
    source: Rows, x: Array, outputs: Array, layout: Layout, y: Array, *, allowed: Array, size: int | None
) -> tuple[Reduction, QuadraticComparison] | None:
    """Components of the outputs, and the comparison as a quadratic in them; None if that misses evaluations.

    Outputs or logarithms of the positive ones, and components found with units or without, are tried in turn until one
    quadratic is nearly exact, or else the one that misses evaluations least is taken.

    It takes (n^2 / 2) (2 + 5 p) calls for n evaluations and p fast parameters, twice that where outputs and logarithms
    are tried, less those that were made before, and some hundreds for each correction.

    Args:
        source: The target, and directions of earlier evaluations.
        x: Parameters of the evaluations, with shape (n, d).
        outputs: Their outputs, with shape (n, M).
        layout: Names and shapes of the outputs.
        y: Their log-likelihoods, with shape (n,); -inf allowed.
        allowed: Allowed root sum of squared residuals of each evaluation, see ``reduce``.
        size: Number of components, if other than what ``allowed`` gives.
    """
    logs, centre = _logs_help(source, x, outputs, layout, y), centre_of(y)
    kinds = [source.directions(centre, x, outputs, layout, logs=kind) for kind in (logs, not logs)]
    key = (len(x), x.tobytes(), y.tobytes(), allowed.tobytes())
    for directions in kinds:
        known = directions.answers.get(key)
        if known is not None and size in (None, known[0].scores.shape[1]):
            return known
    found = _best_of(kinds, x, outputs, y, allowed=allowed, size=None)
    if size is not None and (found is None or found[1].scores.shape[1] != size):  # of another version
        found = _best_of(kinds, x, outputs, y, allowed=allowed, size=size)
    if found is None:
        return None
    directions, *answer = found
    directions.answers = {**dict(list(directions.answers.items())[1 - _KEPT :]), key: tuple(answer)}
    return found[1], found[2]


def _best_of(
    kinds: Sequence[Directions], x: Array, outputs: Array, y: Array, *, allowed: Array, size: int | None
) -> tuple[Directions, Reduction, QuadraticComparison] | None:
    """The directions, components and quadratic that are exact or miss least; None if all miss. See ``quadratic_of``."""
    near = y.max() - y < _CHECKED
    best, least = None, 1.0
    for in_units, directions in product((True, False), kinds):  # supernovae need units, Planck's likelihood does not
        found = _quadratic_along(directions, x, outputs, y, allowed=allowed, size=size, in_units=in_units)
        if found is None:
            continue
        scores = found[0].scores[near]
        miss = _miss(found[1], scores, x[near], y[near], _WRONG, _WRONG_OF_DEPTH)
        if miss <= least:
            best, least = (directions, *found), miss
        if _miss(found[1], scores, x[near], y[near], _EXACT, _EXACT_OF_DEPTH) <= 1.0:
            break
    return best


def _logs_help(source: Rows, x: Array, outputs: Array, layout: Layout, y: Array) -> bool:
    """Whether the comparison is more of a quadratic in the logarithms of positive outputs.

    This is judged by the first five evaluations near the centre, so that later ones do not change the answer; while
    there are fewer, by those up to the centre.
    """
    centre = centre_of(y)
    near = np.flatnonzero(np.abs(y - y[centre]) < _CHECKED)
    first = max(_JUDGED, centre + 1)
    judges = np.arange(first)
    if len(near) >= _JUDGED:
        first = max(int(near[_JUDGED - 1]), centre) + 1
        judges = near[near < first]
    if len(y) < first:
        return False
    errors = []
    for logs in (False, True):
        directions = source.directions(centre, x, outputs, layout, logs=logs)
        key = ("error", judges.tobytes())
        if key not in directions.answers:
            directions.answers[key] = _error(directions, outputs[:first], y[:first] - y[centre], judges)
        errors.append(directions.answers[key])
        if errors[0] <= 1.0:
            return False
    return errors[1] < errors[0]


def _error(directions: Directions, outputs: Array, height: Array, judges: Indices) -> float:
    """Largest error of the plain quadratic towards some evaluations, in units of the tolerance of an exact one.

    Evaluations more than 10 nats from the centre are replaced by outputs between theirs and those of the centre, since
    there may be none near it.

    Args:
        directions: Directions about the centre.
        outputs: Outputs of the evaluations, with shape (n, M).
        height: Their log-likelihoods relative to the centre, with shape (n,); -inf allowed.
        judges: Numbers of the evaluations that count.
    """
    rows, coordinates = directions.of(outputs)
    found = directions.quadratic(directions.x, len(rows), both_sides=True)
    if found is None:
        return np.inf
    constant, slope, hessian = found
    judges = judges[np.isfinite(height[judges])]
    far = np.abs(height[judges]) >= _CHECKED
    share = np.where(far, np.sqrt(_TRIED / np.maximum(np.abs(height[judges]), _TRIED)), 1.0)
    points = coordinates[judges] * share[:, None]
    values = np.array([directions.compare(directions.x, z @ rows) for z in points])
    error = np.abs(constant + ((slope + 0.5 * points @ hessian) * points).sum(1) - values)
    return float((error / (_EXACT + _EXACT_OF_DEPTH * np.abs(values - constant))).max())


def _quadratic_along(
    directions: Directions, x: Array, outputs: Array, y: Array, *, allowed: Array, size: int | None, in_units: bool
) -> tuple[Reduction, QuadraticComparison] | None:
    """Components along some directions, and the quadratic, corrected where needed; None where the likelihood is zero.

    See ``quadratic_of``, and ``_components`` for ``in_units``.
    """
    rows, coordinates = directions.of(outputs)
    near = y.max() - y < _CHECKED
    nodes = _nodes_of(directions, x[near] if near.sum() > _NODES else x[np.isfinite(y)], len(rows))
    if nodes is None:
        return None
    scores, back = _components(nodes.hessian[0], coordinates, allowed=allowed, size=size, in_units=in_units)
    found = _along(nodes, back)
    left, depth = y[near] - found.value(scores[near], x[near]), y.max() - y[near]
    tolerance = _EXACT + _EXACT_OF_DEPTH * depth
    if (np.abs(left) > tolerance).any():
        correction = corrected(_remainder(directions, rows.T @ back, found), scores[near], depth, left, tolerance)
        found = replace(found, correction=correction)
    layout, centre, unit = directions.layout, directions.centre, directions.unit
    return Reduction(layout, centre, rows.T @ back, scores, directions.logs, unit), found


def _miss(found: QuadraticComparison, z: Array, x: Array, y: Array, tolerance: float, per_depth: float) -> float:
    """Largest error at evaluations with components z, in units of a tolerance that grows with their depth."""
    return float((np.abs(found.value(z, x) - y) / (tolerance + per_depth * (y.max() - y))).max())


def _remainder(directions: Directions, basis: Array, quadratics: QuadraticComparison) -> Callable[[Array], float]:
    """The comparison minus its quadratic, as a function of components, at the fast parameters of the centre."""
    constant, slope, hessian = quadratics.constant[0], quadratics.slope[0], quadratics.hessian[0]

    def remainder(z: Array) -> float:
        return directions.compare(directions.x, basis @ z) - float(constant + (slope + 0.5 * hessian @ z) @ z)

    return remainder


def _nodes_of(directions: Directions, over: Array, size: int) -> QuadraticComparison | None:
    """Quadratics in the coordinates along directions, for a range of fast parameters that holds the points ``over``.

    Their Hessians may have positive eigenvalues. None where the likelihood is zero at a node.
    """
    anchor = directions.x
    fast = np.setdiff1d(np.arange(len(anchor)), directions.target.columns)
    half = _half_range(np.abs(over[:, fast] - anchor[fast]).max(0, initial=0.0), anchor[fast])
    nodes = anchor[fast, None] + half[:, None] * _CHEBYSHEV
    found = [directions.quadratic(anchor, size, both_sides=True)]
    for j, values in zip(fast, nodes, strict=True):
        found += [directions.quadratic(_with(anchor, j, value), size, both_sides=False) for value in values]
    known = [part for part in found if part is not None]
    if len(known) < len(found):
        return None
    constant, slope, hessian = (np.array(part) for part in zip(*known, strict=True))
    mixed = _mixed_derivatives(directions, fast, 0.5 * half)
    low, high = anchor[fast] - half, anchor[fast] + half
    return QuadraticComparison(constant, slope, hessian, fast, nodes, anchor[fast], mixed, low, high)


def _along(nodes: QuadraticComparison, back: Array) -> QuadraticComparison:
    """The quadratics in components z, of which ``back`` z are the coordinates, without positive eigenvalues."""
    values, vectors = np.linalg.eigh(back.T @ nodes.hessian @ back)
    hessian = (vectors * np.minimum(values, 0.0)[:, None]) @ np.swapaxes(vectors, 1, 2)
    return replace(nodes, slope=nodes.slope @ back, hessian=hessian)


def _half_range(reach: Array, about: Array) -> Array:
    """Half the ranges of fast parameters, powers of two so that they rarely change, with shape (p,)."""
    wanted = (1.0 + _WIDER) * reach + 1e-9 * np.maximum(1.0, np.abs(about))
    return np.asarray(2.0 ** np.ceil(np.log2(wanted)))


def _components(
    hessian: Array, coordinates: Array, *, allowed: Array, size: int | None, in_units: bool
) -> tuple[Array, Array]:
    """Components in which a Hessian is minus the identity.

    Args:
        hessian: In coordinates along directions, with shape (m, m).
        coordinates: Coordinates of the evaluations, with shape (n, m).
        allowed: See ``quadratic_of``.
        size: See ``quadratic_of``.
        in_units: Whether coordinates are first taken in units of their largest values, which decides how alike
            eigenvalues mix.

    Returns:
        The components of the evaluations, with shape (n, K), and the map from components to coordinates, (m, K).
    """
    # Along directions that evaluations hardly share, second differences are rounding errors divided by tiny steps,
    # large numbers that would hide what is felt along others. Units make them small; otherwise they are left out.
    reach = np.abs(coordinates).max(0)
    in_units = in_units and bool((reach > 0.0).all())
    shared = np.ones(len(reach), dtype=bool) if in_units else reach >= _SHARED * reach.max()
    unit = reach[shared] if in_units else np.ones(int(shared.sum()))
    values, vectors = np.linalg.eigh(-hessian[np.ix_(shared, shared)] * unit * unit[:, None])
    along = (coordinates[:, shared] / unit) @ vectors
    felt = values * (along**2).max(0) > _FELT
    root = np.sqrt(values[felt])
    turn, scores = principal_components(along[:, felt] * root, allowed=allowed, size=size)
    back = np.zeros((len(reach), turn.shape[1]))
    back[shared] = unit[:, None] * (vectors[:, felt] / root) @ turn
    return scores, back


def _with(x: Array, j: int, value: float) -> Array:
    out = x.copy()
    out[j] = value
    return out


_CHEBYSHEV = -np.cos((np.arange(_NODES) + 0.5) * np.pi / _NODES)
"""Nodes of an interval from -1 to 1."""


def _lagrange(nodes: Array, at: Array) -> Array:
    """Values of the Lagrange polynomials of some nodes, with shape (m, nodes)."""
    out = np.ones((len(at), len(nodes)))
    for i, node in enumerate(nodes):
        for other in np.delete(nodes, i):
            out[:, i] *= (at - other) / (node - other)
    return out


def _mixed_derivatives(directions: Directions, fast: Indices, widths: Array) -> Array:
    """Mixed second derivatives with respect to the fast parameters, an upper triangle with shape (p, p)."""
    out = np.zeros((len(fast), len(fast)))
    for i in range(len(fast)):
        for j in range(i + 1, len(fast)):
            corners = 0.0
            for a, b in ((1, 1), (-1, -1), (1, -1), (-1, 1)):
                x = directions.x.copy()
                x[fast[i]] += a * widths[i]
                x[fast[j]] += b * widths[j]
                corners += a * b * directions.call(x)
            out[i, j] = corners / (4.0 * widths[i] * widths[j])
    return np.where(np.isfinite(out), out, 0.0)
