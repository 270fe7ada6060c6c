"""Random posteriors with exact draws and evidence, as a folder of problems for `scripts/bench_posterior.py`.

`get("several-17")` is always the same problem: the kind and the number are the seed. Kinds:

    one            a Gaussian
    warped         a Gaussian bent along one axis (banana) or skewed along one (log-normal)
    cut            a Gaussian that the box cuts, through or near its peak
    several        two to four Gaussians with unequal weights (at least 3 %), widths and orientations
    warped-several the same, bent
    forbidden      a Gaussian or several, -inf beyond one or two random half-spaces
    exchangeable   two or three components with one or two parameters each, which may be exchanged

Dimensions are 1 to 5, boxes have random origins and widths over four decades, and the log-likelihood has a random
offset. A posterior is an unrestricted density with a known normalisation, restricted to its support; draws are taken by
rejection, and the evidence is the accepted share of two million draws (relative error below 0.003).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
from scipy.special import logsumexp

__all__ = ["KINDS", "PUBLIC", "Problem", "get", "makes"]

Array = np.ndarray

KINDS = ("one", "warped", "cut", "several", "warped-several", "forbidden", "exchangeable")
N_PER_KIND = 30
PUBLIC = tuple(f"{kind}-{number}" for number in range(N_PER_KIND) for kind in KINDS)
"""210 problems, kind after kind, so that the first n hold all kinds equally often."""

SMALLEST_WEIGHT = 0.03
"""A mode with less of the mass is not required: leaving it out shifts the evidence by less than the limit of 0.2."""
LEAST_ACCEPTED = 0.05
"""Share of the unrestricted density that the support must hold; problems with less are drawn again."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians in the unit cube.

    Attributes:
        weights: With shape (k,).
        means: With shape (k, d).
        factors: Lower Cholesky factors, with shape (k, d, d).
    """

    weights: Array
    means: Array
    factors: Array

    def log_density(self, t: Array) -> Array:
        """Natural log, with shape (m,), at t with shape (m, d)."""
        d = t.shape[1]
        parts = []
        for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True):
            z = np.linalg.solve(factor, (t - mean).T)
            log_norm = np.log(np.diag(factor)).sum() + 0.5 * d * np.log(2.0 * np.pi)
            parts.append(np.log(weight) - 0.5 * (z**2).sum(0) - log_norm)
        return logsumexp(parts, axis=0)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Exact draws, with shape (n, d)."""
        which = rng.choice(len(self.weights), n, p=self.weights)
        z = rng.standard_normal((n, self.means.shape[1]))
        return self.means[which] + np.einsum("nij,nj->ni", self.factors[which], z)


@dataclass(frozen=True, eq=False)
class Warp:
    """A map from base coordinates s to unit coordinates t, with its inverse and the log Jacobian of the inverse."""

    forward: Callable[[Array], Array]
    inverse: Callable[[Array], tuple[Array, Array]]


def _identity() -> Warp:
    return Warp(lambda s: s, lambda t: (t, np.zeros(len(t))))


def _bend(i: int, j: int, strength: float) -> Warp:
    """t_j = s_j + strength (s_i - 1/2)^2; it keeps volumes."""

    def shifted(points: Array, sign: float) -> Array:
        out = points.copy()
        out[:, j] += sign * strength * (points[:, i] - 0.5) ** 2
        return out

    return Warp(lambda s: shifted(s, 1.0), lambda t: (shifted(t, -1.0), np.zeros(len(t))))


def _skew(j: int, strength: float) -> Warp:
    """t_j = (exp(strength s_j) - 1) / (exp(strength) - 1): log-normal marginals, positive ones as t_j falls below 0."""
    scale = np.expm1(strength)
    floor = -1.0 / scale  # the end of the support

    def forward(s: Array) -> Array:
        out = s.copy()
        out[:, j] = np.expm1(strength * s[:, j]) / scale
        return out

    def inverse(t: Array) -> tuple[Array, Array]:
        out = t.copy()
        inside = t[:, j] > floor
        positive = np.where(inside, 1.0 + scale * t[:, j], 1.0)
        out[:, j] = np.log(positive) / strength
        jacobian = np.log(scale / strength) - np.log(positive)
        return out, np.where(inside, jacobian, -np.inf)

    return Warp(forward, inverse)


@dataclass(frozen=True, eq=False)
class Problem:
    """A posterior on a box.

    Attributes:
        name: Kind and number.
        mixture: The density in base coordinates.
        warp: From base to unit coordinates.
        origin: Lower corner of the box, with shape (d,).
        width: Of the box, with shape (d,).
        planes: (a, b) of the half-spaces a.t <= b of unit coordinates where the likelihood is finite, with shape
            (k, d + 1).
        offset: Added to the log-likelihood.
    """

    name: str
    mixture: Mixture
    warp: Warp
    origin: Array
    width: Array
    planes: Array
    offset: float

    periodic = ()
    noise = None

    @property
    def d(self) -> int:
        """Number of parameters."""
        return len(self.origin)

    @property
    def bounds(self) -> Array:
        """Of the uniform prior, with shape (d, 2)."""
        return np.stack([self.origin, self.origin + self.width], 1)

    @property
    def logvol(self) -> float:
        """Log volume of the box."""
        return float(np.log(self.width).sum())

    @property
    def loglike(self) -> Values:
        """The log-likelihood, of one point or of many."""
        return Values(self)

    @cached_property
    def accepted(self) -> float:
        """Share of the unrestricted density that lies in the support."""
        rng = _rng(self.name, "accepted")
        return float(np.mean([self.supports(self._proposals(200_000, rng)).mean() for _ in range(10)]))

    @property
    def logz(self) -> float:
        """Log of the mean of the likelihood over the box."""
        return float(np.log(self.accepted)) + self.offset

    def supports(self, t: Array) -> Array:
        """Whether unit coordinates lie in the box and in all half-spaces, with shape (m,)."""
        inside = ((t >= 0.0) & (t <= 1.0)).all(1)
        return inside & self.feasible(t)

    def feasible(self, t: Array) -> Array:
        """Whether the likelihood is finite, with shape (m,)."""
        return (t @ self.planes[:, :-1].T <= self.planes[:, -1]).all(1)

    def reference(self, n: int, seed: int) -> Array:
        """Exact posterior draws, with shape (n, d)."""
        rng = _rng(self.name, f"reference {seed}")
        kept: list[Array] = []
        while sum(map(len, kept)) < n:
            t = self._proposals(n, rng)
            kept.append(t[self.supports(t)])
        return self.origin + self.width * np.concatenate(kept)[:n]

    def _proposals(self, n: int, rng: np.random.Generator) -> Array:
        return self.warp.forward(self.mixture.draw(n, rng))


@dataclass(frozen=True, eq=False)
class Values:
    """Log-likelihood relative to the volume of the unit cube: its mean over the box is the share accepted, e^logz."""

    problem: Problem
    vec = True

    def __call__(self, x: Array) -> Array | float:
        """Values with shape (m,) for points with shape (m, d), or one of them."""
        problem = self.problem
        points = np.atleast_2d(np.asarray(x, dtype=float))
        t = (points - problem.origin) / problem.width
        base, jacobian = problem.warp.inverse(t)
        with np.errstate(invalid="ignore"):
            value = problem.mixture.log_density(base) + jacobian + problem.offset
        value = np.where(problem.feasible(t) & np.isfinite(jacobian), value, -np.inf)
        return value if np.ndim(x) == 2 else float(value[0])


def _rng(*words: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def _factor(d: int, rng: np.random.Generator, narrow: float = 0.02, wide: float = 0.1) -> Array:
    """Cholesky factor of a random covariance: log-uniform widths along random directions."""
    directions = np.linalg.qr(rng.standard_normal((d, d)))[0]
    widths = np.exp(rng.uniform(np.log(narrow), np.log(wide), d))
    covariance = (directions * widths**2) @ directions.T
    return np.linalg.cholesky(0.5 * (covariance + covariance.T))


def _mixture(k: int, d: int, rng: np.random.Generator, *, margin: float = 0.2) -> Mixture:
    weights = SMALLEST_WEIGHT + (1.0 - k * SMALLEST_WEIGHT) * rng.dirichlet(np.ones(k))
    means = rng.uniform(margin, 1.0 - margin, (k, d))
    return Mixture(weights, means, np.stack([_factor(d, rng) for _ in range(k)]))


def _warp(d: int, rng: np.random.Generator) -> Warp:
    if d > 1 and rng.random() < 0.6:
        i, j = rng.permutation(d)[:2]
        return _bend(int(i), int(j), float(rng.uniform(2.0, 8.0) * rng.choice([-1.0, 1.0])))
    return _skew(int(rng.integers(d)), float(rng.uniform(1.5, 4.0)))


def _planes(mixture: Mixture, rng: np.random.Generator) -> Array:
    """One or two half-spaces whose borders pass within two widths of a mode."""
    rows = []
    for _ in range(rng.integers(1, 3)):
        k = rng.integers(len(mixture.weights))
        normal = rng.standard_normal(mixture.means.shape[1])
        normal /= np.linalg.norm(normal)
        width = np.linalg.norm(mixture.factors[k].T @ normal)
        rows.append(np.append(normal, normal @ mixture.means[k] + rng.uniform(-0.5, 2.0) * width))
    return np.array(rows)


def _exchangeable(rng: np.random.Generator) -> Mixture:
    """All orders of two or three components with one or two parameters each."""
    components, size = [(2, 1), (3, 1), (2, 2)][rng.integers(3)]
    d = components * size
    mean = rng.uniform(0.15, 0.85, (components, size))
    factor = _factor(d, rng, 0.015, 0.05)
    orders = list(permutations(range(components)))
    columns = [np.concatenate([np.arange(size) + size * c for c in order]) for order in orders]
    covariance = factor @ factor.T
    factors = [np.linalg.cholesky(covariance[np.ix_(index, index)]) for index in columns]
    means = np.stack([mean.ravel()[index] for index in columns])
    return Mixture(np.full(len(orders), 1.0 / len(orders)), means, np.stack(factors))


def _made(name: str, kind: str, rng: np.random.Generator) -> Problem:
    d = int(rng.integers(1, 6))
    several = kind in ("several", "warped-several") or (kind == "forbidden" and rng.random() < 0.5)
    if kind == "exchangeable":
        mixture = _exchangeable(rng)
        d = mixture.means.shape[1]
    else:
        mixture = _mixture(int(rng.integers(2, 5)) if several else 1, d, rng, margin=0.0 if kind == "cut" else 0.2)
    warp = _warp(d, rng) if kind.startswith("warped") else _identity()
    planes = _planes(mixture, rng) if kind == "forbidden" else np.empty((0, d + 1))
    if kind == "exchangeable":  # components have the same prior
        origin, width = np.full(d, rng.uniform(-5.0, 5.0)), np.full(d, 10.0 ** rng.uniform(-2.0, 2.0))
    else:
        origin, width = rng.uniform(-5.0, 5.0, d), 10.0 ** rng.uniform(-2.0, 2.0, d)
    return Problem(name, mixture, warp, origin, width, planes, float(rng.uniform(-1e3, 1e3)))


def makes(name: str) -> bool:
    """Whether there is a problem of that name: a kind, a dash and any number."""
    kind, _, number = name.rpartition("-")
    return kind in KINDS and number.isdigit()


def get(name: str) -> Problem:
    """The problem of that name.

    Raises:
        ValueError: If the name is not a kind, a dash and a number.
    """
    kind = name.rpartition("-")[0]
    if not makes(name):
        msg = f"name must be a kind ({', '.join(KINDS)}), a dash and a number, got {name!r}"
        raise ValueError(msg)
    for attempt in range(100):
        problem = _made(name, kind, _rng(name, attempt))
        t = problem.warp.forward(problem.mixture.draw(20_000, _rng(name, attempt, "accepted")))
        if problem.supports(t).mean() >= LEAST_ACCEPTED:
            return problem
    msg = f"no support holds {LEAST_ACCEPTED:g} of the density of {name}"
    raise ValueError(msg)
