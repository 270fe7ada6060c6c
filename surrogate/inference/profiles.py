"""Profiles of the likelihood or the posterior along one parameter, confirmed by true evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from scipy.stats import chi2

from surrogate.arrays import Array, Flags
from surrogate.inference.best_fit import Confirmation, calls_of, refinement_of
from surrogate.inference.refinement import Refinement, Slice, confirm
from surrogate.output.text_table import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from surrogate.inference.result import Result

__all__ = ["Profile", "ProfileInterval", "profile"]


_SCAN = 15  # values at which the surrogate's profile is scanned to place the points
_MARGIN = 0.5  # nats below the deepest level that the points cover, so that ends of its interval are interpolated
_FINE = 2001  # number of values at which a profile is interpolated


@dataclass(frozen=True)
class ProfileInterval:
    """A confidence interval: where the profile is within half a chi-squared quantile of its maximum.

    Attributes:
        level: Confidence level, by Wilks' theorem for one parameter.
        low: Lower end, or the lowest value of the profile if the interval is open there.
        high: Upper end, or the highest value of the profile if the interval is open there.
        open_low: Whether the prior or the points end before the profile falls to the level below the maximum.
        open_high: The same above the maximum.
    """

    level: float
    low: float
    high: float
    open_low: bool
    open_high: bool

    def __str__(self) -> str:
        signs = ("<=" if self.open_low else ""), (">=" if self.open_high else "")
        return f"{100 * self.level:g} %: {signs[0]}{self.low:.6g} to {signs[1]}{self.high:.6g}"


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """The highest log-likelihood, or log-posterior, at given values of one parameter.

    Attributes:
        name: Name of the parameter.
        of: "likelihood" or "posterior": what is maximised over the other parameters.
        values: Values of the parameter, with shape (k,), increasing.
        heights: Natural logs of the maxima at these values, with shape (k,); evaluated, or predicted if there were no
            calls.
        x: Points of these maxima, with shape (k, d).
        remaining: By how many nats each may be higher, with shape (k,), see ``BestFit.remaining``.
        tolerance: Requested tolerance in nats.
        best: Value of the parameter at the overall maximum.
        best_height: The overall maximum.
        intervals: Confidence intervals.
        n_evaluations: Number of further calls of the likelihood.
        names: Names of all parameters.
        label: LaTeX of the parameter, without dollars.
    """

    name: str
    of: str
    values: Array
    heights: Array
    x: Array
    remaining: Array
    tolerance: float
    best: float
    best_height: float
    intervals: tuple[ProfileInterval, ...]
    n_evaluations: int
    names: tuple[str, ...]
    label: str

    @property
    def confirmed(self) -> Flags:
        """Whether true calls confirm each height to the tolerance, with shape (k,)."""
        return (self.remaining <= self.tolerance) & (self.n_evaluations > 0)

    @property
    def delta_chi_squared(self) -> Array:
        """Twice the difference to the overall maximum, with shape (k,)."""
        return 2.0 * (self.best_height - self.heights)

    def interval(self, level: float = 0.68) -> ProfileInterval:
        """The confidence interval of a level, interpolated between the values of the profile.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        return _interval(*_with_best(self.values, self.heights, self.best, self.best_height), level)

    def plot(self) -> Figure:
        """A figure of the profile with its intervals."""
        from surrogate.output.profile_plot import profile_figure

        points = _with_best(self.values, self.heights, self.best, self.best_height)
        fine, curve = _curve(*points)
        below = self.heights - self.best_height
        return profile_figure(fine, curve, self.values, below, self.intervals, self.label, self.name)

    def __str__(self) -> str:
        done = int(self.confirmed.sum())
        head = (
            f"profile of the {self.of} along {self.name}: {len(self.values)} values, {done} confirmed to "
            f"{self.tolerance:g} nats by {self.n_evaluations} calls"
        )
        rows = [f"  {v:<14.6g}{h - self.best_height:.3f}" for v, h in zip(self.values, self.heights, strict=True)]
        return "\n".join([head, f"  {self.name:<14}below maximum", *rows, *(f"  {i}" for i in self.intervals)])

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        rows = [[f"{v:.6g}", f"{h - self.best_height:.3f}"] for v, h in zip(self.values, self.heights, strict=True)]
        head, *_ = str(self).splitlines()
        intervals = [[f"{interval}"] for interval in self.intervals]
        tables = [("", (self.name, "below maximum"), rows), ("", ("interval",), intervals)]
        return html_table((), tables, head)

    def __repr__(self) -> str:
        return f"<Profile: {self.of} along {self.name}, {len(self.values)} values>"


def profile(
    result: Result,
    name: str,
    values: ArrayLike | int,
    *,
    of: str,
    how: Confirmation,
    levels: tuple[float, ...],
) -> Profile:
    """The profile along a parameter, see ``Result.profile``."""
    if name not in result.names:
        msg = f"name must be one of the parameters {', '.join(result.names)}, got {name!r}"
        raise ValueError(msg)
    ground, j = refinement_of(result, of), result.names.index(name)
    given = _values(ground, j, values, max(levels))
    scaled = ground.setup.scaled
    unit = (given - scaled.location[j]) / scaled.scale[j]
    slices = [Slice(), *(Slice((j,), (float(value),)) for value in unit)]
    with calls_of(result, how) as calls:
        after, peaks = confirm(
            ground, slices, calls.evaluate, budget=calls.budget, tolerance=how.tolerance, batch=calls.batch
        )
    top = max(peaks, key=lambda peak: peak.height)
    heights, x = np.array([p.height for p in peaks[1:]]), scaled.from_unit(np.array([p.t for p in peaks]))
    best = float(x[peaks.index(top), j])
    points = _with_best(given, heights, best, top.height)
    return Profile(
        name=name,
        of=of,
        values=given,
        heights=heights,
        x=x[1:],
        remaining=np.array([p.remaining for p in peaks[1:]]),
        tolerance=how.tolerance,
        best=best,
        best_height=top.height,
        intervals=tuple(_interval(*points, level) for level in levels),
        n_evaluations=len(after.data) - after.n_run,
        names=result.names,
        label=result.draws.labels[j],
    )


def _values(ground: Refinement, j: int, values: ArrayLike | int, level: float) -> Array:
    """The values of the parameter at which to compute the profile, increasing, with shape (k,)."""
    if isinstance(values, int) and not isinstance(values, bool):
        if values < 3:
            msg = f"a profile needs at least 3 values, got {values}"
            raise ValueError(msg)
        return np.linspace(*_range(ground, j, 0.5 * chi2.ppf(level, 1) + _MARGIN), values)
    given = np.unique(np.asarray(values, dtype=np.float64).ravel())
    low, high = ground.setup.prior.bounds[j]
    if len(given) < 3 or not np.isfinite(given).all() or given[0] < low or given[-1] > high:
        msg = f"values must be a number of values or at least 3 different ones between {low:g} and {high:g}"
        raise ValueError(msg)
    return given


def _range(ground: Refinement, j: int, depth: float) -> tuple[float, float]:
    """The range, inside the prior, in which the surrogate's profile is within a depth of its maximum."""
    low, high = ground.box
    reach = 0.5 * np.ptp(ground.draws[:, j])
    ends = max(ground.draws[:, j].min() - reach, low[j]), min(ground.draws[:, j].max() + reach, high[j])
    t = np.linspace(*ends, _SCAN)
    heights = np.array([ground.peak(Slice((j,), (float(value),)), np.inf).predicted for value in t])
    top = ground.peak(Slice(), np.inf)
    points = _with_best(t, heights, float(top.top[j]), top.predicted)
    found = _ends(*points, depth)
    location, scale = ground.setup.scaled.location[j], ground.setup.scaled.scale[j]
    return location + scale * found[0], location + scale * found[1]


def _with_best(values: Array, heights: Array, best: float, best_height: float) -> tuple[Array, Array, float]:
    """Values and depths of a profile including its maximum, and the value at the maximum."""
    depth = np.maximum(best_height - heights, 0.0)
    apart = values != best
    v, d = np.append(values[apart], best), np.append(depth[apart], 0.0)
    order = np.argsort(v)
    return v[order], d[order], best


def _curve(values: Array, depth: Array, best: float) -> tuple[Array, Array]:
    """The profile on a fine grid, by interpolating the signed square root of the depth, which is linear for a normal.

    The signed root is the profile t of Bates & Watts (1988); the interpolant is monotone between points.
    """
    root = np.sign(values - best) * np.sqrt(2.0 * depth)
    fine = np.unique(np.concatenate([np.linspace(values[0], values[-1], _FINE), values]))
    return fine, -0.5 * PchipInterpolator(values, root)(fine) ** 2


def _ends(values: Array, depth: Array, best: float, fall: float) -> tuple[float, float, bool, bool]:
    """The outermost values at which the profile is within ``fall`` of its maximum, and whether it is open there."""
    fine, height = _curve(values, depth, best)
    inside = np.flatnonzero(height >= -fall)
    first, last = int(inside[0]), int(inside[-1])
    low, high = float(fine[first]), float(fine[last])
    if first > 0:
        low = float(np.interp(-fall, height[first - 1 : first + 1], fine[first - 1 : first + 1]))
    if last < len(fine) - 1:
        high = float(np.interp(-fall, height[[last + 1, last]], fine[[last + 1, last]]))
    return low, high, first == 0, last == len(fine) - 1


def _interval(values: Array, depth: Array, best: float, level: float) -> ProfileInterval:
    if not 0 < level < 1:
        msg = f"level must be a probability between 0 and 1, got {level}"
        raise ValueError(msg)
    return ProfileInterval(level, *_ends(values, depth, best, 0.5 * float(chi2.ppf(level, 1))))
