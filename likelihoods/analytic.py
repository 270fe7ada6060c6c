"""Analytic targets: log-likelihoods whose posterior, moments and evidence are known.

Each constructor returns a `Target` with independent posterior draws. Moments and evidence are in closed form, or by
quadrature in one or two dimensions; where a density in closed form is cut by its box, the box is so wide that the mass
outside is below 1e-6 and is neglected. `TARGETS` names one or more instances of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import quad_vec
from scipy.linalg import solve_triangular
from scipy.special import gammaln, iv, logsumexp, ndtr, ndtri

from likelihoods.grid import Grid
from likelihoods.target import Array, RowWise, Target

__all__ = [
    "TARGETS",
    "angle",
    "angles",
    "banana",
    "cliff",
    "forbidden",
    "funnel",
    "gaussian",
    "himmelblau",
    "lognormal",
    "needle",
    "noisy_gaussian",
    "ring",
    "rosenbrock",
    "shell",
    "student",
    "truncated_gaussian",
    "twisted",
    "two_modes",
]

LOG_2PI = float(np.log(2 * np.pi))


class _Model(Protocol):
    """A density of rows and its draws, neither of which need know of the box."""

    def log_density(self, x: Array) -> Array:
        """Natural logarithm of the density, unnormalised, of points (m, d), with shape (m,)."""

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Independent draws, with shape (n, d)."""


@dataclass(frozen=True, eq=False)
class _Restricted:
    """Draws of a model that lie in the box and where its density is positive, by rejection."""

    model: _Model
    bounds: Array

    def __call__(self, n: int, rng: np.random.Generator) -> Array:
        """Independent draws, with shape (n, d)."""
        kept = [np.empty((0, len(self.bounds)))]
        while sum(map(len, kept)) < n:
            x = self.model.draw(n, rng)
            inside = np.all((x >= self.bounds[:, 0]) & (x <= self.bounds[:, 1]), axis=1)
            kept.append(x[inside & np.isfinite(self.model.log_density(x))])
        return np.concatenate(kept)[:n]


def _target(
    name: str,
    model: _Model,
    bounds: Array,
    *,
    log_integral: float,
    mean: Array,
    covariance: Array,
    periodic: tuple[bool, ...] = (),
    noise: float = 0.0,
) -> Target:
    """Target of a model with parameters x0, x1, ... whose integral over the box is known."""
    d = len(bounds)
    return Target(
        name=name,
        names=tuple(f"x{i}" for i in range(d)),
        labels=tuple(f"x_{{{i}}}" for i in range(d)),
        bounds=bounds,
        log_likelihood=RowWise(model.log_density, d),
        draw=_Restricted(model, bounds),
        log_evidence=float(log_integral - np.log(np.diff(bounds, axis=1)).sum()),
        mean=mean,
        covariance=covariance,
        periodic=periodic,
        noise=noise,
    )


def _grid_target(name: str, density: Callable[[Array], Array], bounds: Array, *, n: int) -> Target:
    """Target in two dimensions of which a grid of n x n cells tells everything."""
    grid = Grid.of(density, bounds, n)
    mean, covariance = grid.moments()
    return Target(
        name=name,
        names=("x0", "x1"),
        labels=("x_{0}", "x_{1}"),
        bounds=bounds,
        log_likelihood=RowWise(density, 2),
        draw=grid.draw,
        log_evidence=grid.log_integral - float(np.log(np.diff(bounds, axis=1)).sum()),
        mean=mean,
        covariance=covariance,
    )


def _box(d: int, low: float, high: float) -> Array:
    return np.tile([float(low), float(high)], (d, 1))


def _around(mean: Array, covariance: Array, n_sd: float) -> Array:
    """Box of n_sd marginal standard deviations to each side of the mean."""
    reach = n_sd * np.sqrt(np.diag(covariance))
    return np.column_stack([mean - reach, mean + reach])


def _random_covariance(d: int, rng: np.random.Generator, *, spread: float) -> Array:
    """Covariance with the correlations of a Wishart draw of 2 d + 1 degrees and log-uniform scales exp(+-spread)."""
    a = rng.standard_normal((d, 2 * d + 1))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    scale = np.exp(rng.uniform(-spread, spread, d))
    return (a @ a.T) * np.outer(scale, scale)


def _log_normal(residual: Array, sd: float | Array) -> Array:
    """Log-density of normals about 0, elementwise."""
    return -0.5 * (residual / sd) ** 2 - np.log(sd) - 0.5 * LOG_2PI


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        msg = f"{name} must be at least {least}, got {value}"
        raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """Normal density with the given mean (d,) and lower Cholesky factor (d, d), times exp(offset)."""

    mean: Array
    factor: Array
    offset: float = 0.0

    @classmethod
    def of(cls, mean: Array, covariance: Array, *, offset: float = 0.0) -> _Gaussian:
        return cls(mean, np.linalg.cholesky(covariance), offset)

    def whiten(self, x: Array) -> Array:
        return solve_triangular(self.factor, (x - self.mean).T, lower=True).T

    def log_density(self, x: Array) -> Array:
        constant = self.offset - 0.5 * len(self.mean) * LOG_2PI - np.log(np.diag(self.factor)).sum()
        return constant - 0.5 * (self.whiten(x) ** 2).sum(1)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        return self.mean + rng.standard_normal((n, len(self.mean))) @ self.factor.T


def gaussian(d: int = 4, *, seed: int = 0, width: float = 20.0, offset: float = 0.0) -> Target:
    """Correlated Gaussian, off the centre of its box.

    Args:
        d: Number of parameters.
        seed: Of the covariance and of the place of the mean, each within 15 % of a side from the centre.
        width: Sides of the box in marginal standard deviations, at least 14 so that the mass outside is negligible.
        offset: Added to the normalised log-density, like the constant of real data.

    Raises:
        ValueError: If ``width`` is below 14.
    """
    _at_least("width", width, 14.0)
    mean, covariance, bounds = _correlated(d, seed=seed, width=width)
    model = _Gaussian.of(mean, covariance, offset=offset)
    return _target(f"gaussian{d}", model, bounds, log_integral=offset, mean=mean, covariance=covariance)


def _correlated(d: int, *, seed: int, width: float) -> tuple[Array, Array, Array]:
    """Mean, covariance and bounds of `gaussian`."""
    rng = np.random.default_rng([seed, d])
    covariance = _random_covariance(d, rng, spread=1.2)
    mean = rng.uniform(-3.0, 3.0, d)
    shift = rng.uniform(-0.15, 0.15, d) * width * np.sqrt(np.diag(covariance))
    return mean, covariance, _around(mean + shift, covariance, width / 2)


def needle(d: int = 3, *, sd: float = 1e-3) -> Target:
    """Gaussian of standard deviation ``sd`` on each axis in the unit box: a volume of about (4 sd)^d of it."""
    mean = 0.3 + 0.41 * ((np.arange(d) * 0.618) % 1.0)
    covariance = sd**2 * (0.6 * np.eye(d) + 0.4)
    model = _Gaussian.of(mean, covariance)
    return _target(f"needle{d}", model, _box(d, 0, 1), log_integral=0.0, mean=mean, covariance=covariance)


def _banana_density(x: Array) -> Array:
    a, b = x.T
    return -0.5 * ((a - 0.3) / 0.45) ** 2 - 0.5 * ((b + 0.2 - a**2) / 0.12) ** 2


def banana() -> Target:
    """Parabola in two dimensions, whose ends leave the box."""
    return _grid_target("banana", _banana_density, np.array([[-1.4, 2.0], [-1.0, 2.0]]), n=1000)


def _himmelblau_density(x: Array) -> Array:
    a, b = x.T
    return -0.2 * ((a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2)


def himmelblau() -> Target:
    """Four equal peaks of different shape: minus a fifth of Himmelblau's function (1972)."""
    return _grid_target("himmelblau", _himmelblau_density, _box(2, -6, 6), n=1200)


@dataclass(frozen=True, eq=False)
class _Twisted:
    """Independent normals of the given scales (d,), the second bent along the square of the first."""

    scale: Array
    bend: float

    def log_density(self, x: Array) -> Array:
        shift = self.bend * (x[:, 0] ** 2 - self.scale[0] ** 2)
        straight = np.column_stack([x[:, 0], x[:, 1] - shift, x[:, 2:]])
        return _log_normal(straight, self.scale).sum(1)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        x = rng.standard_normal((n, len(self.scale))) * self.scale
        x[:, 1] += self.bend * (x[:, 0] ** 2 - self.scale[0] ** 2)
        return x


def twisted(d: int = 4, *, bend: float = 0.5) -> Target:
    """Twisted Gaussian in d >= 2 dimensions (Haario, Saksman & Tamminen 1999, doi:10.1007/s001800050022).

    x0 is normal with standard deviation 2, x1 - bend (x0^2 - 4) with 0.8, the others with 1.

    Raises:
        ValueError: If ``d`` is below 2.
    """
    _at_least("d", d, 2)
    scale = np.array([2.0, 0.8, *np.ones(d - 2)])
    covariance = np.diag(scale**2)
    covariance[1, 1] += 2 * bend**2 * scale[0] ** 4
    bounds = _around(np.zeros(d), np.diag(scale**2), 6.0)
    bounds[1] += sorted([-bend * scale[0] ** 2, 35 * bend * scale[0] ** 2])
    model = _Twisted(scale, bend)
    return _target(f"twisted{d}", model, bounds, log_integral=0.0, mean=np.zeros(d), covariance=covariance)


@dataclass(frozen=True, eq=False)
class _Radius:
    """Distance from the centre of a shell in d dimensions: density r^(d-1) exp(-((r - radius) / width)^2 / 2)."""

    radius: float
    width: float
    d: int

    def density(self, r: Array) -> Array:
        return r ** (self.d - 1) * np.exp(-0.5 * ((r - self.radius) / self.width) ** 2)

    @property
    def span(self) -> tuple[float, float]:
        """Interval with all but 1e-14 of the mass, as long as (d - 1) width is below the radius."""
        return max(0.0, self.radius - 9 * self.width), self.radius + 9 * self.width + self.d * self.width

    def moment(self, power: int) -> float:
        """Integral of r^power times the density."""
        r, weights = _legendre(200, *self.span)
        return float(weights @ (r**power * self.density(r)))

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draws, with shape (n,), by the inverse of a cumulative sum over 20 000 cells."""
        edges = np.linspace(*self.span, 20_001)
        mass = np.append(0.0, np.cumsum(self.density((edges[1:] + edges[:-1]) / 2)))
        return np.interp(rng.random(n) * mass[-1], mass, edges)


def _legendre(n: int, low: float, high: float) -> tuple[Array, Array]:
    """Nodes and weights, each with shape (n,), of the Gauss-Legendre rule on an interval."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (low + high) / 2 + (high - low) / 2 * nodes, (high - low) / 2 * weights


@dataclass(frozen=True, eq=False)
class _Shell:
    """Sphere of finite width about a centre (d,)."""

    centre: Array
    radial: _Radius

    def log_density(self, x: Array) -> Array:
        r = np.linalg.norm(x - self.centre, axis=1)
        return -0.5 * ((r - self.radial.radius) / self.radial.width) ** 2

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        direction = rng.standard_normal((n, self.radial.d))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return self.centre + self.radial.draw(n, rng)[:, None] * direction


def shell(d: int = 4, *, radius: float = 2.0, width: float = 0.15) -> Target:
    """Spherical shell in d dimensions, off the centre of a cube of side 8."""
    centre = np.linspace(-0.5, 0.7, d)
    radial = _Radius(radius, width, d)
    log_area = np.log(2) + d / 2 * np.log(np.pi) - gammaln(d / 2)
    integral = radial.moment(0)
    return _target(
        f"shell{d}",
        _Shell(centre, radial),
        _box(d, -4, 4),
        log_integral=float(log_area + np.log(integral)),
        mean=centre,
        covariance=radial.moment(2) / integral / d * np.eye(d),
    )


@dataclass(frozen=True, eq=False)
class _Ring:
    """Circle of finite width about a centre (2,), brighter by exp(strength cos(phi - towards)) towards an angle."""

    centre: Array
    radial: _Radius
    strength: float
    towards: float

    def log_density(self, x: Array) -> Array:
        a, b = (x - self.centre).T
        phi = np.arctan2(b, a) - self.towards
        return self.strength * np.cos(phi) - 0.5 * ((np.hypot(a, b) - self.radial.radius) / self.radial.width) ** 2

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        phi = rng.vonmises(self.towards, self.strength, n)
        return self.centre + self.radial.draw(n, rng)[:, None] * np.column_stack([np.cos(phi), np.sin(phi)])


def ring() -> Target:
    """Ring of radius 1.2 and width 0.08 in a square of side 4, seven times brighter on one side than on the other."""
    model = _Ring(np.array([0.1, -0.2]), _Radius(1.2, 0.08, 2), 1.0, 0.7)
    integral, first, second = (model.radial.moment(k) for k in range(3))
    i0, i1, i2 = iv([0, 1, 2], model.strength)
    forward = np.array([np.cos(model.towards), np.sin(model.towards)])
    offset = first / integral * i1 / i0 * forward
    # The mean of cos^2 is (1 + I2 / I0) / 2, and that of sin^2 the rest.
    along = second / integral * i2 / i0 * np.outer(forward, forward)
    across = second / integral * (1 - i2 / i0) / 2 * np.eye(2)
    return _target(
        "ring",
        model,
        _box(2, -2, 2),
        log_integral=float(np.log(2 * np.pi * i0 * integral)),
        mean=model.centre + offset,
        covariance=along + across - np.outer(offset, offset),
    )


@dataclass(frozen=True, eq=False)
class _Lognormal:
    """Normal density of the parameters, of which those in the mask (d,) enter by their logarithm."""

    gaussian: _Gaussian
    mask: Array

    def log_density(self, x: Array) -> Array:
        positive = np.all(x[:, self.mask] > 0, axis=1)
        logs = np.log(np.where(x > 0, x, 1.0))
        value = self.gaussian.log_density(np.where(self.mask, logs, x)) - logs[:, self.mask].sum(1)
        return np.where(positive, value, -np.inf)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        x = self.gaussian.draw(n, rng)
        x[:, self.mask] = np.exp(x[:, self.mask])
        return x


def lognormal(d: int = 4) -> Target:
    """Correlated log-normal (x0, x2, ...) and normal parameters (x1, x3, ...); -inf where one of the former is 0."""
    mask = np.arange(d) % 2 == 0
    mean = np.linspace(0.4, -0.4, d)
    sd = np.where(mask, 0.55, 1.5)
    covariance = np.outer(sd, sd) * 0.5 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
    bounds = _around(mean, covariance, 6.0)
    bounds[mask] = np.column_stack([np.zeros(mask.sum()), np.exp(bounds[mask, 1])])
    model = _Lognormal(_Gaussian.of(mean, covariance), mask)
    after, spread = _lognormal_moments(mean, covariance, mask)
    return _target(f"lognormal{d}", model, bounds, log_integral=0.0, mean=after, covariance=spread)


def _lognormal_moments(mean: Array, covariance: Array, mask: Array) -> tuple[Array, Array]:
    """Mean and covariance after exp of the masked parameters.

    Cov(e^a, b) = C_ab E[e^a] and Cov(e^a, e^b) = (e^C_ab - 1) E[e^a] E[e^b].
    """
    level = np.where(mask, np.exp(mean + np.diag(covariance) / 2), 1.0)
    both = np.outer(mask, mask)
    core = np.where(both, np.expm1(np.where(both, covariance, 0.0)), covariance)
    return np.where(mask, level, mean), core * np.outer(level, level)


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Normals with the given weights."""

    weights: Array
    parts: tuple[_Gaussian, ...]

    def log_density(self, x: Array) -> Array:
        return logsumexp([part.log_density(x) for part in self.parts], axis=0, b=self.weights[:, None])

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        counts = rng.multinomial(n, self.weights)
        return rng.permutation(np.concatenate([p.draw(k, rng) for p, k in zip(self.parts, counts, strict=True)]))


def two_modes(d: int = 3, *, distance: float = 8.0) -> Target:
    """Two normals ``distance`` apart along the diagonal: one with 30 % of the mass, and one wider and correlated."""
    centres = np.array([-0.5, 0.5])[:, None] * distance / np.sqrt(d) * np.ones(d)
    covariances = np.stack([0.64 * np.eye(d), 1.2 * (0.7 * np.eye(d) + 0.3)])
    weights = np.array([0.3, 0.7])
    model = _Mixture(weights, tuple(_Gaussian.of(m, c) for m, c in zip(centres, covariances, strict=True)))
    mean = weights @ centres
    seconds = covariances + centres[:, :, None] * centres[:, None, :]
    covariance = np.tensordot(weights, seconds, 1) - np.outer(mean, mean)
    half = distance / 2 + 7.0
    return _target(f"two_modes{d}", model, _box(d, -half, half), log_integral=0.0, mean=mean, covariance=covariance)


def truncated_gaussian(d: int = 4) -> Target:
    """Correlated Gaussian whose mean lies on two faces of the box, in d >= 2 dimensions.

    The mass inside is that of a quadrant of a bivariate normal, 1/4 + arcsin(rho) / 2 pi.

    Raises:
        ValueError: If ``d`` is below 2.
    """
    _at_least("d", d, 2)
    covariance = _random_covariance(d, np.random.default_rng(11), spread=0.8)
    bounds = _around(np.zeros(d), covariance, 7.0)
    bounds[0, 0] = 0.0
    bounds[1, 1] = 0.0
    mass, mean, second = _quadrant(-covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    sign = np.array([1.0, -1.0]) * np.sqrt(np.diag(covariance)[:2])
    pair, spread = sign * mean, np.outer(sign, sign) * (second - np.outer(mean, mean))
    # The others are linear in the pair, with independent remainders.
    slope = covariance[:, :2] @ np.linalg.inv(covariance[:2, :2])
    remainder = covariance - slope @ covariance[:2]
    return _target(
        f"truncated_gaussian{d}",
        _Gaussian.of(np.zeros(d), covariance),
        bounds,
        log_integral=float(np.log(mass)),
        mean=slope @ pair,
        covariance=slope @ spread @ slope.T + remainder,
    )


def _quadrant(rho: float) -> tuple[float, Array, Array]:
    """Mass, mean (2,) and mean square (2, 2) of a standard bivariate normal where both are positive."""
    mass = 0.25 + np.arcsin(rho) / (2 * np.pi)
    tail = np.sqrt(1 - rho**2) / (2 * np.pi)
    mean = np.full(2, (1 + rho) / (2 * np.sqrt(2 * np.pi)) / mass)
    square, product = 1 + rho * tail / mass, rho + tail / mass
    return mass, mean, np.array([[square, product], [product, square]])


@dataclass(frozen=True, eq=False)
class _Forbidden:
    """Normal density cut, in whitened coordinates z, where z . normal > height and in a ball."""

    gaussian: _Gaussian
    normal: Array
    height: float
    centre: Array
    radius: float

    def allowed(self, x: Array) -> Array:
        z = self.gaussian.whiten(x)
        return (z @ self.normal <= self.height) & (np.linalg.norm(z - self.centre, axis=1) >= self.radius)

    def log_density(self, x: Array) -> Array:
        return np.where(self.allowed(x), self.gaussian.log_density(x), -np.inf)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        x = self.gaussian.draw(n, rng)
        return x[self.allowed(x)]

    def moments(self) -> tuple[float, Array, Array]:
        """Mass, mean (d,) and covariance (d, d) of what is left, in whitened coordinates.

        The ball must be clear of the half-space.
        Over the half-space the moments are those of one normal variable. Over the ball, with y = z - centre, they are
        distribution functions of non-central chi-squared: E[y g(y^2)] = -centre E[g(chi2_{d+2})], and the mean square
        has the identity times E[g(chi2_{d+2})] and the centre's outer product times E[g(chi2_{d+4})].
        """
        d, h, n, c = len(self.normal), self.height, self.normal, self.centre
        tail, density = ndtr(-h), np.exp(-0.5 * h**2 - 0.5 * LOG_2PI)
        ball, ball2, ball4 = (stats.ncx2.cdf(self.radius**2, d + k, c @ c) for k in (0, 2, 4))
        mass = 1 - tail - ball
        first = -density * n - c * (ball - ball2)
        beyond = tail * np.eye(d) + h * density * np.outer(n, n)
        inside = ball2 * np.eye(d) + np.outer(c, c) * (ball4 - 2 * ball2 + ball)
        mean = first / mass
        return mass, mean, (np.eye(d) - beyond - inside) / mass - np.outer(mean, mean)


def forbidden(d: int = 3) -> Target:
    """Gaussian of which a slanted half-space and a ball near the peak are forbidden: -inf there."""
    rng = np.random.default_rng(23)
    covariance = _random_covariance(d, rng, spread=0.8)
    normal = np.ones(d) / np.sqrt(d)
    gaussian = _Gaussian.of(rng.uniform(-1, 1, d), covariance)
    model = _Forbidden(gaussian, normal, 0.7, -0.9 * normal, 0.8)
    mass, mean, spread = model.moments()
    return _target(
        f"forbidden{d}",
        model,
        _around(gaussian.mean, covariance, 7.0),
        log_integral=float(np.log(mass)),
        mean=gaussian.mean + gaussian.factor @ mean,
        covariance=gaussian.factor @ spread @ gaussian.factor.T,
    )


@dataclass(frozen=True, eq=False)
class _Cut:
    """Independent normals about 0 with sds (2,), forbidden outside a region of the plane."""

    sd: Array
    region: Callable[[Array], NDArray[np.bool_]]

    def log_density(self, x: Array) -> Array:
        return np.where(self.region(x), _log_normal(x, self.sd).sum(1), -np.inf)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        return rng.normal(0.0, self.sd, (n, 2))


def _cut(name: str, sd: tuple[float, float], region: Callable[[Array], NDArray[np.bool_]]) -> Target:
    """Target with evidence and moments from a grid of 2000 x 2000 cells, whose error at the edge is below 1e-3."""
    model, box = _Cut(np.array(sd), region), _box(2, -5, 5)
    grid = Grid.of(model.log_density, box, 2000)
    mean, covariance = grid.moments()
    return _target(name, model, box, log_integral=grid.log_integral, mean=mean, covariance=covariance)


def _above_parabola(x: Array) -> NDArray[np.bool_]:
    return np.asarray(x[:, 1] >= x[:, 0] ** 2 - 1.0)


def crescent() -> Target:
    """Standard normal of two parameters, forbidden below a parabola that takes most of its lower half."""
    return _cut("crescent", (1.0, 1.0), _above_parabola)


def _along_sine(x: Array) -> NDArray[np.bool_]:
    return np.asarray(np.abs(x[:, 1] - 0.8 * np.sin(1.5 * x[:, 0])) <= 0.5)


def corridor() -> Target:
    """Normal of two parameters, forbidden outside a corridor that winds like a sine."""
    return _cut("corridor", (1.2, 0.8), _along_sine)


@dataclass(frozen=True, eq=False)
class _Rosenbrock:
    """First parameter normal; then blocks of two, each normal about the square of the one before."""

    mean: float
    sd: tuple[float, float, float]
    blocks: int

    def log_density(self, x: Array) -> Array:
        first, second, third = x[:, :1], x[:, 1::2], x[:, 2::2]
        residuals = (first - self.mean, second - first**2, third - second**2)
        return np.sum([_log_normal(r, s).sum(1) for r, s in zip(residuals, self.sd, strict=True)], axis=0)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        first = rng.normal(self.mean, self.sd[0], (n, 1))
        second = rng.normal(first**2, self.sd[1], (n, self.blocks))
        third = rng.normal(second**2, self.sd[2])
        return np.concatenate([first, np.stack([second, third], axis=2).reshape(n, 2 * self.blocks)], axis=1)

    def moments(self) -> tuple[Array, Array]:
        """Mean and covariance: those given x0, integrated over x0 by a Gauss-Hermite rule that is exact for them."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(12)
        x, weights, (_, s, t) = self.mean + self.sd[0] * nodes, weights / weights.sum(), self.sd
        given = np.stack([x, *[x**2, x**4 + s**2] * self.blocks], axis=1)
        mean = weights @ given
        covariance = (given - mean).T @ (weights[:, None] * (given - mean))
        second, fourth = weights @ x**2, weights @ x**4
        block = [[s**2, 2 * s**2 * second], [2 * s**2 * second, 4 * s**2 * fourth + 2 * s**4 + t**2]]
        covariance[1:, 1:] += np.kron(np.eye(self.blocks), block)
        return mean, covariance


def rosenbrock(blocks: int = 2) -> Target:
    """Hybrid Rosenbrock density in 1 + 2 blocks dimensions (Pagani, Wiegand & Nadarajah 2022, doi:10.1111/sjos.12532).

    x0 is normal about 1 with standard deviation 0.3; in each block the first is normal about x0^2 with 0.2 and the
    second about the square of the first with 0.3.
    """
    model = _Rosenbrock(1.0, (0.3, 0.2, 0.3), blocks)
    mean, covariance = model.moments()
    bounds = np.array([[-1.0, 3.0], *[[-1.5, 9.5], [-2.5, 80.0]] * blocks])
    name = f"rosenbrock{1 + 2 * blocks}"
    return _target(name, model, bounds, log_integral=0.0, mean=mean, covariance=covariance)


def _truncated_normals(low: Array, high: Array, scale: Array) -> tuple[float, Array, Array]:
    """Mass, and mean (d,) and mean square (d, d) times it, of independent normals about 0 in a box.

    Args:
        low: Lower faces of the box, with shape (d,).
        high: Upper faces, with shape (d,).
        scale: Standard deviations, with shape (d,).
    """
    a, b = low / scale, high / scale
    pdf_a, pdf_b = np.exp(-0.5 * a**2 - 0.5 * LOG_2PI), np.exp(-0.5 * b**2 - 0.5 * LOG_2PI)
    each = ndtr(b) - ndtr(a)
    mean = scale * (pdf_a - pdf_b) / each
    second = np.outer(mean, mean)
    np.fill_diagonal(second, scale**2 * (1 + (a * pdf_a - b * pdf_b) / each))
    mass = float(each.prod())
    return mass, mass * mean, mass * second


def _pack(mass: float, first: Array, second: Array) -> Array:
    return np.concatenate([[mass], first, second.ravel()])


def _integrated_moments(
    integrand: Callable[[float], Array], low: float, high: float, d: int
) -> tuple[float, Array, Array]:
    """Mass, mean (d,) and covariance (d, d) from packed moments that depend on one more variable."""
    packed = quad_vec(integrand, low, high, epsabs=1e-12, epsrel=1e-9)[0]
    mass, mean = packed[0], packed[1 : d + 1] / packed[0]
    return float(mass), mean, packed[d + 1 :].reshape(d, d) / mass - np.outer(mean, mean)


@dataclass(frozen=True, eq=False)
class _Student:
    """Student t about 0 with independent scales (d,) and one common divisor, chi-squared of df degrees."""

    scale: Array
    df: float

    def log_density(self, x: Array) -> Array:
        d, df = len(self.scale), self.df
        constant = gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df * np.pi) - np.log(self.scale).sum()
        return constant - (df + d) / 2 * np.log1p(((x / self.scale) ** 2).sum(1) / df)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        divisor = np.sqrt(rng.chisquare(self.df, n) / self.df)
        return rng.standard_normal((n, len(self.scale))) * self.scale / divisor[:, None]

    def packed_moments(self, low: Array, high: Array, u: float) -> Array:
        """Packed moments in a box at the quantile u of the squared divisor."""
        divisor = np.sqrt(stats.chi2.ppf(u, self.df) / self.df)
        return _pack(*_truncated_normals(low, high, self.scale / divisor))


def student(d: int = 3, *, df: float = 3.0) -> Target:
    """Student t with heavy tails that reach the faces of an asymmetric box; by quadrature over the common divisor."""
    model = _Student(np.exp(np.linspace(-0.7, 0.7, d)), df)
    bounds = np.column_stack([-15 * model.scale, 25 * model.scale])
    integrand = partial(model.packed_moments, *bounds.T)
    mass, mean, covariance = _integrated_moments(integrand, 1e-13, 1.0 - 1e-13, d)
    return _target(f"student{d}", model, bounds, log_integral=float(np.log(mass)), mean=mean, covariance=covariance)


@dataclass(frozen=True, eq=False)
class _Funnel:
    """First parameter normal with the given sd; the others, d - 1 in number, normal with variance exp of the first."""

    sd: float
    d: int

    def log_density(self, x: Array) -> Array:
        neck = x[:, :1]
        given = _log_normal(x[:, 1:], np.exp(neck / 2))
        return _log_normal(x[:, 0], self.sd) + given.sum(1)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        neck = rng.normal(0.0, self.sd, (n, 1))
        return np.concatenate([neck, np.exp(neck / 2) * rng.standard_normal((n, self.d - 1))], axis=1)

    def packed_moments(self, low: Array, high: Array, neck: float) -> Array:
        """Packed moments in a box, whose faces for the others are given, per unit of the first parameter."""
        mass, first, second = _truncated_normals(low, high, np.full(self.d - 1, np.exp(neck / 2)))
        whole = np.block([[np.full((1, 1), mass * neck**2), neck * first[None]], [neck * first[:, None], second]])
        density = np.exp(-0.5 * (neck / self.sd) ** 2 - 0.5 * LOG_2PI) / self.sd
        return density * _pack(mass, np.append(mass * neck, first), whole)


def funnel(d: int = 4, *, sd: float = 1.5) -> Target:
    """Neal's funnel (2003, doi:10.1214/aos/1056562461) in a box that its mouth leaves; by quadrature over x0."""
    model = _Funnel(sd, d)
    bounds = np.array([[-4 * sd, 3 * sd], *[[-9.0, 12.0]] * (d - 1)])
    integrand = partial(model.packed_moments, *bounds[1:].T)
    mass, mean, covariance = _integrated_moments(integrand, bounds[0, 0], bounds[0, 1], d)
    return _target(f"funnel{d}", model, bounds, log_integral=float(np.log(mass)), mean=mean, covariance=covariance)


@dataclass(frozen=True, eq=False)
class _Cliff:
    """Exponential up to an edge along the first axis of a rotation (d, d), nothing beyond; normal on the others."""

    edge: Array
    rotation: Array
    length: float

    def log_density(self, x: Array) -> Array:
        u = (x - self.edge) @ self.rotation
        value = u[:, 0] / self.length - np.log(self.length) + _log_normal(u[:, 1:], 1.0).sum(1)
        return np.where(u[:, 0] <= 0, value, -np.inf)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        u = rng.standard_normal((n, len(self.edge)))
        u[:, 0] = -self.length * rng.standard_exponential(n)
        return self.edge + u @ self.rotation.T


def cliff(d: int = 3, *, length: float = 0.5) -> Target:
    """Log-likelihood that rises linearly to a slanted edge, its mode, beyond which it is -inf."""
    rotation = np.linalg.qr(np.column_stack([np.ones(d), np.eye(d)[:, 1:]]))[0]
    rotation[:, 0] *= np.sign(rotation[0, 0])
    edge = np.linspace(0.5, 1.0, d)
    along = np.array([length, *np.ones(d - 1)])
    return _target(
        f"cliff{d}",
        _Cliff(edge, rotation, length),
        _box(d, -9, 7),
        log_integral=0.0,
        mean=edge - length * rotation[:, 0],
        covariance=rotation @ np.diag(along**2) @ rotation.T,
    )


@dataclass(frozen=True, eq=False)
class _Angle:
    """Von Mises angle, and a normal parameter about ``swing`` times its cosine."""

    location: float
    concentration: float
    swing: float
    sd: float

    def log_density(self, x: Array) -> Array:
        phi, y = x.T
        angular = self.concentration * np.cos(phi - self.location) - np.log(2 * np.pi * iv(0, self.concentration))
        return angular + _log_normal(y - self.swing * np.cos(phi), self.sd)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        phi = rng.vonmises(self.location, self.concentration, n)
        return np.column_stack([phi, rng.normal(self.swing * np.cos(phi), self.sd)])


def angle() -> Target:
    """Angle on a circle whose mode lies at the seam of -pi and pi, and a parameter that follows it.

    Mean and covariance are those of the numbers in the box, not circular ones.
    """
    model = _Angle(2.9, 3.0, 1.0, 0.4)
    phi, weights = _legendre(200, -np.pi, np.pi)
    weights = weights * stats.vonmises.pdf(phi, model.concentration, loc=model.location)
    given = np.column_stack([phi, model.swing * np.cos(phi)])
    mean = weights @ given
    covariance = (given - mean).T @ (weights[:, None] * (given - mean)) + np.diag([0.0, model.sd**2])
    bounds = np.array([[-np.pi, np.pi], [-4.0, 4.0]])
    return _target("angle", model, bounds, log_integral=0.0, mean=mean, covariance=covariance, periodic=(True, False))


@dataclass(frozen=True, eq=False)
class _Angles:
    """Angles in a chain, each von Mises about the one before, and normal parameters about ``swing`` times a function.

    The first angle is von Mises about ``location``, each further one about its predecessor plus ``location``. The
    normal ones are, in turn, about ``swing`` times the cosine of the first angle and the sine of the last.
    """

    angles: int
    normals: int
    location: float
    concentration: float
    swing: float
    sd: float

    def log_density(self, x: Array) -> Array:
        phi, y = x[:, : self.angles], x[:, self.angles :]
        steps = np.diff(phi, axis=1, prepend=0.0) - self.location
        angular = self.concentration * np.cos(steps) - np.log(2 * np.pi * iv(0, self.concentration))
        return angular.sum(1) + _log_normal(y - self.centre(phi), self.sd).sum(1)

    def centre(self, phi: Array) -> Array:
        """Means of the normal parameters, with shape (m, normals), given the angles, with shape (m, angles)."""
        both = np.column_stack([np.cos(phi[:, 0]), np.sin(phi[:, -1])])
        return self.swing * both[:, np.arange(self.normals) % 2]

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        steps = rng.vonmises(self.location, self.concentration, (n, self.angles))
        phi = np.mod(np.cumsum(steps, axis=1) + np.pi, 2 * np.pi) - np.pi
        return np.column_stack([phi, self.centre(phi) + self.sd * rng.standard_normal((n, self.normals))])

    def moments(self, nodes: int = 400) -> tuple[Array, Array]:
        """Mean and covariance of the numbers in the box, by a Gauss-Legendre rule over the angles."""
        grid, weights = _legendre(nodes, -np.pi, np.pi)
        axes = np.meshgrid(*[grid] * self.angles, indexing="ij")
        phi = np.stack([axis.ravel() for axis in axes], axis=1)
        steps = np.diff(phi, axis=1, prepend=0.0)
        mass = stats.vonmises.pdf(steps, self.concentration, loc=self.location).prod(1)
        for axis in np.meshgrid(*[weights] * self.angles, indexing="ij"):
            mass = mass * axis.ravel()
        given = np.column_stack([phi, self.centre(phi)])
        mean = mass @ given
        spread = np.diag([0.0] * self.angles + [self.sd**2] * self.normals)
        return mean, (given - mean).T @ (mass[:, None] * (given - mean)) + spread


def angles(d: int = 3, *, periodic: int = 1, location: float = 2.9, concentration: float = 3.0) -> Target:
    """Angles whose mode lies across the seam of -pi and pi, and normal parameters that follow them.

    Mean and covariance are those of the numbers in the box, not circular ones.

    Args:
        d: Number of parameters, at least one more than there are angles.
        periodic: Number of angles, the first parameters; from the second on they follow the one before.
        location: Of the first angle, and of each further one relative to the one before.
        concentration: Of the von Mises densities; 0 fills the circle.

    Raises:
        ValueError: If ``d`` is not larger than ``periodic``.
    """
    _at_least("d", d, periodic + 1)
    model = _Angles(periodic, d - periodic, location, concentration, 1.0, 0.4)
    mean, covariance = model.moments()
    bounds = np.array([[-np.pi, np.pi]] * periodic + [[-4.0, 4.0]] * (d - periodic))
    turns = (True,) * periodic + (False,) * (d - periodic)
    name = f"{'angle' if periodic == 1 else 'torus'}{d}"
    return _target(name, model, bounds, log_integral=0.0, mean=mean, covariance=covariance, periodic=turns)


@dataclass(frozen=True, eq=False)
class _Noisy:
    """Density of rows plus normal noise that is a function of the point and the seed."""

    exact: RowWise
    sd: float
    seed: int
    declared: bool = True

    def __call__(self, x: Array) -> float | Array | tuple[float, float] | tuple[Array, Array]:
        """Noisy value, with its standard deviation if that is declared.

        One point (d,) gives a float or two, points (m, d) give one array (m,) or two.
        """
        value = np.atleast_1d(self.exact(x))
        noise = [self._noise(row) for row in np.atleast_2d(np.asarray(x, dtype=np.float64))]
        value = value + self.sd * np.array(noise)
        if not self.declared:
            return float(value[0]) if np.ndim(x) == 1 else value
        return (float(value[0]), self.sd) if np.ndim(x) == 1 else (value, np.full(len(value), self.sd))

    def _noise(self, row: Array) -> float:
        """Standard normal variate from a hash of the point, of which -0 and 0 are the same."""
        key = self.seed.to_bytes(8, "little")
        digest = blake2b((row + 0.0).astype("<f8").tobytes(), key=key, digest_size=8).digest()
        return float(ndtri((int.from_bytes(digest, "little") >> 11) / 2**53 + 2.0**-54))


def noisy_gaussian(d: int = 2, *, sd: float = 0.5, seed: int = 0, declared: bool = True) -> Target:
    """Correlated Gaussian whose log-likelihood has noise of standard deviation ``sd``.

    The noise is a hash of the point and of ``seed``, from 0 to 2^64 - 1: a point asked twice gives the same number, on
    any worker. Draws, moments and evidence are those without noise.

    Args:
        d: Number of parameters.
        sd: Of the noise.
        seed: Of the noise.
        declared: Whether each answer is a pair (value, sd), or the value alone.
    """
    mean, covariance, bounds = _correlated(d, seed=5, width=20.0)
    model = _Gaussian.of(mean, covariance)
    name = f"{'noisy' if declared else 'silent'}_gaussian{d}"
    exact = _target(name, model, bounds, log_integral=0.0, mean=mean, covariance=covariance, noise=sd)
    return replace(exact, log_likelihood=_Noisy(RowWise(model.log_density, d), sd, seed, declared))


TARGETS: dict[str, Callable[[], Target]] = {
    "gaussian1": partial(gaussian, 1),
    "gaussian2": partial(gaussian, 2),
    "gaussian4": partial(gaussian, 4),
    "gaussian4_offset": partial(gaussian, 4, seed=1, offset=-2e4),
    "gaussian8": partial(gaussian, 8),
    "gaussian16": partial(gaussian, 16),
    "gaussian27": partial(gaussian, 27),
    "needle3": needle,
    "needle6": partial(needle, 6),
    "banana": banana,
    "twisted2": partial(twisted, 2),
    "twisted4": twisted,
    "twisted8": partial(twisted, 8, bend=0.3),
    "himmelblau": himmelblau,
    "ring": ring,
    "shell3": partial(shell, 3),
    "shell6": partial(shell, 6),
    "lognormal4": lognormal,
    "two_modes1": partial(two_modes, 1),
    "two_modes3": two_modes,
    "truncated_gaussian2": partial(truncated_gaussian, 2),
    "truncated_gaussian4": truncated_gaussian,
    "forbidden3": forbidden,
    "crescent": crescent,
    "corridor": corridor,
    "rosenbrock3": partial(rosenbrock, 1),
    "rosenbrock5": rosenbrock,
    "student3": student,
    "student4": partial(student, 4, df=4.0),
    "funnel4": funnel,
    "cliff3": cliff,
    "angle": angle,
    "angle3": angles,
    "torus3": partial(angles, periodic=2),
    "noisy_gaussian2": noisy_gaussian,
    "noisy_gaussian4": partial(noisy_gaussian, 4, sd=1.0),
    "silent_gaussian4": partial(noisy_gaussian, 4, sd=1.0, declared=False),
}
"""Analytic targets by name; each value builds its target afresh."""
