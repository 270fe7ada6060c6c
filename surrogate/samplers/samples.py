"""Weighted draws of named parameters: moments, quantiles and intervals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array, Flags, Indices
from surrogate.problem.levels import Levels

__all__ = ["Samples", "equal_tailed_interval", "weighted_quantile"]


@dataclass(frozen=True, eq=False)
class Samples:
    """n weighted draws of d parameters, with k derived values each.

    Attributes:
        names: Names of the parameters.
        labels: Their LaTeX labels, without dollars.
        bounds: Support of the prior, with shape (d, 2); may be infinite.
        x: Draws, with shape (n, d).
        weights: Normalised weights of the draws, with shape (n,).
        log_posterior: Natural log of likelihood times prior as predicted by the surrogate, unnormalised, with shape
            (n,).
        log_prior: Natural log of the prior density, with shape (n,).
        derived: Derived values, with shape (n, k); k may be 0.
        derived_names: Names of the k derived values.
        derived_error: Root mean square held-out errors of the derived values, with shape (k,); 0 if they were computed
            rather than emulated, empty if unknown.
        periodic: Whether each parameter is periodic; empty if none is.
        levels: Values of the categorical and integer parameters, whose columns of x hold codes; None if there are none.

    Raises:
        ValueError: If the shapes do not fit together.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    bounds: Array
    x: Array
    weights: Array
    log_posterior: Array
    log_prior: Array
    derived: Array
    derived_names: tuple[str, ...] = ()
    derived_error: Array = field(default_factory=lambda: np.empty(0))
    periodic: tuple[bool, ...] = ()
    levels: Levels | None = None

    def __post_init__(self) -> None:
        n, d, k = len(self.weights), len(self.names), len(self.derived_names)
        expected = {"x": (n, d), "log_posterior": (n,), "log_prior": (n,), "derived": (n, k), "bounds": (d, 2)}
        if wrong := [name for name, shape in expected.items() if getattr(self, name).shape != shape]:
            words = ", ".join(f"{name} with shape {getattr(self, name).shape}, not {expected[name]}" for name in wrong)
            msg = f"{n} weights, {d} names and {k} derived names do not match: {words}"
            raise ValueError(msg)
        if len(self.labels) != d:
            msg = f"there must be one label for each of the {d} names, got {len(self.labels)}"
            raise ValueError(msg)

    @property
    def continuous(self) -> Indices:
        """Column numbers of the continuous parameters in x."""
        return np.arange(len(self.names)) if self.levels is None else self.levels.continuous

    @property
    def without_levels(self) -> Samples:
        """The same draws without the columns of categorical and integer parameters."""
        if self.levels is None:
            return self
        names, labels, periodic = (
            tuple(part[j] for j in self.continuous) if part else () for part in (self.names, self.labels, self.periodic)
        )
        x, bounds = self.x[:, self.continuous], self.bounds[self.continuous]
        return replace(self, names=names, labels=labels, periodic=periodic, x=x, bounds=bounds, levels=None)

    @property
    def unrolled(self) -> Array:
        """The draws with each periodic parameter within half a period of its circular mean, with shape (n, d).

        Moments and intervals are computed from these, because the mass of a periodic parameter may extend across its
        bounds. Values may lie beyond the bounds. Without periodic parameters the draws are unchanged.
        """
        if not any(self.periodic):
            return self.x
        out, (low, high) = self.x.copy(), self.bounds.T
        for j in np.flatnonzero(self.periodic):
            period = high[j] - low[j]
            phase = np.angle(self.weights @ np.exp(2j * np.pi * (out[:, j] - low[j]) / period)) / (2.0 * np.pi)
            seam = low[j] + period * ((phase + 0.5) % 1.0 - 1.0)
            out[:, j] = seam + np.mod(out[:, j] - seam, period)
        return out

    @property
    def mean(self) -> Array:
        """Means, with shape (d,); circular means, within the bounds, for periodic parameters."""
        mean = self.weights @ self.unrolled
        for j in np.flatnonzero(self.periodic):
            low, high = self.bounds[j]
            mean[j] = low + (mean[j] - low) % (high - low)
        return mean

    @property
    def covariance(self) -> Array:
        """Covariance, with shape (d, d); periodic parameters as in ``unrolled``."""
        residual = self.unrolled - self.weights @ self.unrolled
        return (self.weights[:, None] * residual).T @ residual

    @property
    def sd(self) -> Array:
        """Standard deviations, with shape (d,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def varying(self) -> Flags:
        """Mask of the derived values that are finite for all draws and not constant, with shape (k,)."""
        finite = np.isfinite(self.derived).all(axis=0)
        values = np.where(finite, self.derived, 0.0)
        return np.asarray(finite & (values != values[:1]).any(axis=0), dtype=np.bool_)

    def with_derived(self, kept: Flags) -> Samples:
        """The same draws with only the derived values chosen by a mask with shape (k,)."""
        names = tuple(name for name, keep in zip(self.derived_names, kept, strict=True) if keep)
        error = self.derived_error[kept] if len(self.derived_error) else self.derived_error
        return replace(self, derived=self.derived[:, kept], derived_names=names, derived_error=error)

    def interval(self, level: float = 0.68) -> Array:
        """Equal-tailed credible intervals, with shape (d, 2); they may extend beyond the bounds of periodic parameters.

        Args:
            level: Posterior probability between the ends.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        return equal_tailed_interval(self.unrolled, self.weights, level)


def weighted_quantile(x: ArrayLike, weights: ArrayLike, q: ArrayLike) -> Array:
    """Weighted quantiles of each column, interpolated between draws placed at the middle of their weights.

    Args:
        x: Draws with shape (n, d).
        weights: Weights with shape (n,), non-negative, of any normalisation.
        q: Probabilities with shape (k,).

    Returns:
        The quantiles, with shape (k, d), in O(d n log n) time.
    """
    values, w, probabilities = np.asarray(x, float), np.asarray(weights, float), np.asarray(q, float)
    order = np.argsort(values, axis=0)
    columns = []
    for j in range(values.shape[1]):
        cumulative = np.cumsum(w[order[:, j]])
        middle = (cumulative - 0.5 * w[order[:, j]]) / cumulative[-1]
        columns.append(np.interp(probabilities, middle, values[order[:, j], j]))
    return np.stack(columns, axis=1) if columns else np.empty((len(probabilities), 0))


def equal_tailed_interval(x: ArrayLike, weights: ArrayLike, level: float) -> Array:
    """Equal-tailed intervals of weighted draws, with shape (d, 2).

    Raises:
        ValueError: If ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        msg = f"level must be a probability between 0 and 1, got {level}"
        raise ValueError(msg)
    return weighted_quantile(x, weights, [(1 - level) / 2, (1 + level) / 2]).T
