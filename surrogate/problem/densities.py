"""Densities of one parameter: uniform, normal, or any continuous one of scipy.stats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import special

from surrogate.problem.discrete import Discrete

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Density", "Normal", "ScipyDensity", "Uniform", "box", "density_of", "is_distribution", "spelling"]


class _Stacked:
    """Densities of several parameters in one value, whose fields are floats or have shape (k,)."""

    @classmethod
    def stack(cls, densities: list[Any]) -> Self:
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # its subclasses are dataclasses
        return cls(*(np.array([getattr(density, name) for density in densities]) for name in names))


@dataclass(frozen=True, eq=False)
class Uniform(_Stacked):
    """Uniform densities between two bounds."""

    low: Any
    high: Any

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self.low, self.high

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log-density at each entry of x; -inf outside of the support."""
        return np.where((x >= self.low) & (x <= self.high), -np.log(self.high - self.low), -np.inf)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Value with the probability u below it, for each entry of u."""
        return np.clip(self.low + u * (self.high - self.low), self.low, self.high)

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        """Probability below each entry of x; the inverse of ``quantile``."""
        return np.clip((x - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Normal(_Stacked):
    """Normal densities."""

    loc: Any
    scale: Any

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return -math.inf, math.inf

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log-density at each entry of x; -inf outside of the support."""
        return -0.5 * ((x - self.loc) / self.scale) ** 2 - np.log(self.scale) - 0.5 * math.log(2 * math.pi)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Value with the probability u below it, for each entry of u."""
        return self.loc + self.scale * special.ndtri(u)

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        """Probability below each entry of x; the inverse of ``quantile``."""
        return special.ndtr((x - self.loc) / self.scale)


@dataclass(frozen=True, eq=False)
class ScipyDensity:
    """Any other frozen distribution of scipy.stats."""

    distribution: Any

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value."""
        low, high = self.distribution.support()
        return float(low), float(high)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log-density at each entry of x; -inf outside of the support."""
        with np.errstate(all="ignore"):
            return self.distribution.logpdf(x)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Value with the probability u below it, for each entry of u."""
        return self.distribution.ppf(u)

    def cumulative(self, x: np.ndarray) -> np.ndarray:
        """Probability below each entry of x; the inverse of ``quantile``."""
        return self.distribution.cdf(x)


Density: TypeAlias = Uniform | Normal | ScipyDensity | Discrete


def box(name: str, prior: Any) -> tuple[float, float]:
    """The checked bounds, as two floats."""
    expected = f"the prior of '{name}' must be bounds (low, high) or a frozen distribution of scipy.stats"
    if prior is None:
        msg = f"{expected}, or categories or integers must be given; got NoneType: None"
        raise TypeError(msg)
    if isinstance(prior, str | bytes | Mapping) or not isinstance(prior, Iterable):
        msg = f"{expected}, got {type(prior).__name__}: {prior!r}"
        raise TypeError(msg)
    try:
        bounds = [float(bound) for bound in prior]
    except (TypeError, ValueError):
        msg = f"{expected}, got {prior!r}"
        raise TypeError(msg) from None
    if len(bounds) != 2:
        msg = f"{expected}, got {len(bounds)} numbers: {prior!r}"
        raise ValueError(msg)
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)):
        msg = f"the bounds of '{name}' must be finite, got ({low}, {high}); a scipy.stats distribution may be unbounded"
        raise ValueError(msg)
    if low >= high:
        msg = f"the bounds of '{name}' must be low < high, got ({low}, {high})"
        raise ValueError(msg)
    return low, high


def is_distribution(prior: Any) -> bool:
    """Whether an object is from scipy.stats, frozen or not, decided without importing scipy.stats."""
    return any(kind.__module__.startswith("scipy.stats") for kind in type(prior).__mro__)


def density_of(name: str, distribution: Any) -> Density:
    """The density of a frozen scalar continuous distribution, in closed form for uniform and normal ones."""
    _check_distribution(name, distribution)
    family = distribution.dist.name
    if family not in ("uniform", "norm"):
        return ScipyDensity(distribution)
    loc, scale = _location_and_scale(*distribution.args, **distribution.kwds)
    if not math.isfinite(loc + scale):
        msg = f"the prior of '{name}' has arguments that are not finite: {spelling(distribution)}"
        raise ValueError(msg)
    return Normal(loc, scale) if family == "norm" else Uniform(*box(name, (loc, loc + scale)))


def _location_and_scale(loc: float = 0.0, scale: float = 1.0) -> tuple[float, float]:
    return float(loc), float(scale)


def _check_distribution(name: str, distribution: Any) -> None:
    from scipy.stats import distributions

    what = f"the prior of '{name}'"
    if isinstance(distribution, distributions.rv_continuous):
        msg = f"{what} is not frozen: give its arguments, as in scipy.stats.{distribution.name}(loc=0, scale=1)"
        raise TypeError(msg)
    if not isinstance(distribution, distributions.rv_frozen) or not isinstance(
        distribution.dist, distributions.rv_continuous
    ):
        msg = f"{what} must be a one-dimensional continuous distribution of scipy.stats, got {_kind(distribution)}"
        raise TypeError(msg)
    with np.errstate(invalid="ignore"):  # 0 * inf, which the comparison below detects
        low, high = distribution.support()
    if np.ndim(low) or np.ndim(high):
        msg = f"{what} must be one distribution, got arguments with shape {np.shape(low)}: declare several parameters"
        raise ValueError(msg)
    if not low < high:
        msg = f"{what} has arguments outside of their domain: {spelling(distribution)}"
        raise ValueError(msg)


def _kind(distribution: Any) -> str:
    name = getattr(getattr(distribution, "dist", distribution), "name", None)
    return type(distribution).__name__ if name is None else f"{name} ({type(distribution).__name__})"


def spelling(distribution: Any) -> str:
    """The expression that makes a frozen distribution, as text."""
    keywords = [f"{key}={value!r}" for key, value in distribution.kwds.items()]
    return f"{distribution.dist.name}({', '.join([*map(repr, distribution.args), *keywords])})"
