"""The initial design: space-filling points of the prior, or points around a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

from surrogate.arrays import Array, Indices
from surrogate.problem.levels import Levels
from surrogate.problem.prior import Prior
from surrogate.rng import generator
from surrogate.samplers.coordinates import Turns

__all__ = ["Reference", "design", "space_filling"]


_WIDER = 1.5  # width of the design relative to a reference, which is often too narrow
_LOG_SCALES = (-1.5, -0.5)  # log10 scales, relative to the prior's width, of points around a reference: 3 % to 30 %
_CENTRAL = (0.1, 0.9)  # probabilities of the prior quantiles that define that width
_CLOSER = 0.8  # factor by which draws outside the prior are moved towards the mean ...
_CLOSEST = 0.1  # ... down to this one; the rest are folded back into the prior
_SURPLUS = 4  # draws per requested point, because most may lie outside


@dataclass(frozen=True, eq=False)
class Reference:
    """The expected location of the posterior, and its width if known.

    Attributes:
        mean: Expected mean, with shape (d,).
        covariance: Expected covariance, with shape (d, d), or None if only a point is known.
    """

    mean: Array
    covariance: Array | None = None

    @classmethod
    def of(cls, spec: object, d: int) -> Reference:
        """The reference from a point (d,), a pair (mean, covariance), or draws (n, d) with n > d.

        Raises:
            ValueError: If the shapes fit none of the three, or values are not finite.
        """
        if isinstance(spec, Reference):
            return spec
        out = _reference(spec, d)
        _check_reference(out, spec, d)
        return out

    def part(self, columns: Indices) -> Reference:
        """The reference of some of the parameters, with the others integrated out."""
        covariance = None if self.covariance is None else self.covariance[np.ix_(columns, columns)]
        return Reference(self.mean[columns], covariance)

    def check_inside(self, prior: Prior) -> None:
        """Raises ValueError if the mean lies outside the prior.

        Raises:
            ValueError: The message names the parameters.
        """
        low, high = prior.bounds.T
        outside = [n for n, bad in zip(prior.names, (self.mean < low) | (self.mean > high), strict=True) if bad]
        if outside:
            msg = f"reference must lie inside the prior; outside: {', '.join(outside)}"
            raise ValueError(msg)


def _reference(spec: Any, d: int) -> Reference:
    """What a specification means, before it is checked."""
    if isinstance(spec, tuple) and len(spec) == 2 and np.ndim(spec[1]) in (1, 2) and np.ndim(spec[0]) == 1:
        mean, spread = np.asarray(spec[0], float), np.asarray(spec[1], float)
        return Reference(mean, np.diag(spread**2) if spread.ndim == 1 else spread)
    points = np.asarray(spec, float)
    if points.ndim == 2 and len(points) > d:
        return Reference(points.mean(0), np.atleast_2d(np.cov(points.T)))
    return Reference(points.reshape(-1) if points.ndim <= 1 else points)


def _check_reference(reference: Reference, spec: Any, d: int) -> None:
    """Refuses what is no place and width in d dimensions."""
    parts = [reference.mean] if reference.covariance is None else [reference.mean, reference.covariance]
    expected = f"reference must be a point with shape ({d},), a pair (mean, covariance) or draws with shape (n, {d})"
    if any(part.shape != (d,) * (i + 1) for i, part in enumerate(parts)):
        msg = f"{expected}; got shapes {[np.shape(part) for part in (spec if isinstance(spec, tuple) else (spec,))]}"
        raise ValueError(msg)
    if not all(np.isfinite(part).all() for part in parts):
        msg = f"{expected}; got values that are not finite"
        raise ValueError(msg)
    if any(np.linalg.eigvalsh(0.5 * (covariance + covariance.T))[0] <= 0 for covariance in parts[1:]):
        msg = "the covariance of reference must be positive definite"
        raise ValueError(msg)


def space_filling(prior: Prior, first: int, n: int, seed: int, *, inner: float = 0.8) -> Array:
    """Points ``first`` to ``first + n`` of a scrambled Sobol sequence over the inner part of the prior.

    For a Gaussian posterior any points determine the quadratic equally well; for others, space-filling points find
    further modes. The faces of a box are left out, because a trend extrapolates better than it interpolates between
    corners.

    Args:
        prior: Prior, mapped through its quantiles.
        first: Number of points of the sequence already used.
        n: Number of points.
        seed: Seed of the scrambling.
        inner: Central probability that is covered for each parameter; periodic parameters, without faces, are covered
            completely.

    Returns:
        Points with shape (n, d).
    """
    sequence = qmc.Sobol(prior.d, scramble=True, rng=generator(seed, "design"))
    total = 1 << int(np.ceil(np.log2(max(first + n, 2))))
    u = sequence.random(total)[first : first + n]
    x = prior.quantile(0.5 + np.where(prior.periodic | prior.discrete, 1.0, inner) * (u - 0.5))
    return x if prior.levels is None else _over_levels(prior.levels, x, first, seed)


def _over_levels(levels: Levels, x: Array, first: int, seed: int) -> Array:
    """The points with levels assigned in turn, in random order, so that no level is missed by chance."""
    order = generator(seed, "design", "levels").permutation(len(levels))
    return levels.points(x[:, levels.continuous], order[(first + np.arange(len(x))) % len(levels)])


def _about(prior: Prior, mean: Array, factor: Array, n: int, rng: np.random.Generator) -> Array:
    """Gaussian draws inside the support of the prior, with shape (n, d).

    Draws are moved towards the mean until enough are inside. If that fails, as at a corner of a box, they are folded
    back into it. Periodic parameters wrap around.
    """
    out: list[Array] = []
    shrink = 1.0
    turns = Turns.of(prior.bounds, prior.periodic)
    while sum(map(len, out)) < n and shrink > _CLOSEST:
        x = mean + shrink * rng.standard_normal((_SURPLUS * n, len(mean))) @ factor.T
        x = x if turns is None else turns.wrapped(x)
        x = x if prior.levels is None else prior.levels.nearest(x)
        out.append(x[np.isfinite(prior.log_density(x))])
        shrink *= _CLOSER
    low, high = prior.bounds.T
    x = mean + shrink * rng.standard_normal((_SURPLUS * n, len(mean))) @ factor.T
    folded = np.where(x < low, 2.0 * low - x, np.where(x > high, 2.0 * high - x, x))
    folded = folded if prior.levels is None else prior.levels.nearest(folded)
    out.append(folded[np.isfinite(prior.log_density(folded))])
    out.append(prior.sample(n, rng))
    return np.concatenate(out)[:n]


def design(
    prior: Prior, first: int, n: int, seed: int, *, reference: Reference | None = None, best: Array | None = None
) -> Array:
    """The next n points of the initial design.

    With a reference covariance, these are Gaussian draws of 1.5 times its width. With a reference point, they are the
    point itself and points around it at scales from 3 % to 30 % of the prior. Without a reference, they are a Sobol
    sequence. If some points are finite but too few, half of each batch lies around the best one.

    Args:
        prior: Prior.
        first: Number of design points already used.
        n: Number of points.
        seed: Seed of the run.
        reference: Expected location of the posterior.
        best: Best point so far, with shape (d,), if too few points are finite.

    Returns:
        Points with shape (n, d).
    """
    rng = generator(seed, first, "design")
    if reference is not None and reference.covariance is not None:
        factor = np.asarray(_WIDER * np.linalg.cholesky(reference.covariance), dtype=np.float64)
        return _about(prior, reference.mean, factor, n, rng)
    centre = reference.mean if best is None and reference is not None else best
    if centre is None:
        return space_filling(prior, first, n, seed)
    width = (
        prior.quantile(np.full((1, prior.d), _CENTRAL[1]))[0] - prior.quantile(np.full((1, prior.d), _CENTRAL[0]))[0]
    )
    near = n if best is None else n // 2
    scales = 10.0 ** rng.uniform(*_LOG_SCALES, near)
    points = [_about(prior, centre, np.diag(s * width), 1, rng) for s in scales]
    if reference is not None and best is None and first == 0:
        points[0] = centre[None]
    if near < n:
        points.append(space_filling(prior, first, n - near, seed))
    return np.concatenate(points)
