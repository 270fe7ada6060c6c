"""Training data of a scalar surrogate: evaluations in warped and whitened coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.gp.means import Polynomial, Tilted
from surrogate.gp.process import Data
from surrogate.gp.trended import HyperPrior, Trended
from surrogate.log_density.coordinates.warps import OutputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.parameters import Division, Structure, SurrogateParameters, relevant_depth, trend_size
from surrogate.problem.dataset import OK, Dataset
from surrogate.rng import generator

__all__ = ["MOST_FITTED", "FitProblem", "of_peaks", "family", "far", "thinned", "visible"]


MOST_FITTED = 400
"""Number of points in fits of hyperparameters and structures, in fewer than 15 dimensions; a process uses all.

A search for structures takes about 300 factorisations, 8 CPU seconds with 600 points in 8 dimensions and 380 with
3,000, and more points hardly change its result.
"""


_OF_PEAKS = HyperPrior(scale_bounds=(1.0, 1e8))
"""Prior with several peaks: what is known of them has errors of at least a nat, however well they fit."""
_THIN = 1e-18  # share of the largest variance below which other coordinates count as constant
_MAX_SLOPES = 2000  # largest number of derivatives in a kernel matrix: 125 points in 16 dimensions
_MOST_DEEP = 400  # points, including deep ones, up to which a factorisation takes a few milliseconds
_ABYSS = 30.0  # relevant depths below which values are unlike those of the mode
_LOCAL, _SPARE = 3.0, 5  # relevant depths of the values then used, and these in excess of a quadratic's coefficients
_SHARE_RELEVANT = 0.75  # share of relevant points in fits of hyperparameters, if there are enough
_POINTS_PER_COEFFICIENT = 3  # smallest number of these points per coefficient of a quadratic trend


@dataclass(frozen=True, eq=False)
class FitProblem:
    """Data and settings of a fit.

    Attributes:
        data: Evaluated points, at least one of them finite; derivatives are with respect to t.
        t: Their unit coordinates, with shape (n, d).
        draws: Draws t of the current posterior, with shape (m, d), whose covariance defines the whitening; None at
            first.
        temperature: The process models (y - y_max) / temperature.
        device: Device of the linear algebra.
        feasibility: Kind of classifier of feasible points, one of ``surrogate.log_density.feasibility.choice.KINDS``.
        most: Largest number of points, or 3 per coefficient of a quadratic trend if that is more; None for all.
    """

    data: Dataset
    t: Array
    draws: Array | None = None
    temperature: float = 1.0
    device: str = "cpu"
    feasibility: str = "process"
    most: int | None = None

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.t.shape[1]

    @cached_property
    def rows(self) -> Flags:
        """Rows of the data used by the process, with shape (n,)."""
        rows = self.data.status == OK
        rows[rows] = visible(self.data.y[rows], self.temperature, self.d)
        return rows if self.most is None else thinned(self.data, rows, self.temperature, self.most)

    @cached_property
    def y(self) -> Array:
        """(y - y_max) / temperature of these rows."""
        return (self.data.y[self.rows] - self.data.y_max) / self.temperature

    def training_set(self, parameters: SurrogateParameters) -> Data:
        """These rows as data of a process, in the coordinates of a surrogate."""
        output = OutputWarp(parameters.structure.output)
        z = output.forward(self.y)
        depth = np.maximum(0.0, float(output.forward(np.array(-0.5 * relevant_depth(self.d)))) - z)
        unit = 1.0 / self.temperature / output.slope(z)
        w = parameters.structure.warp.forward(self.t[self.rows])
        u = parameters.whitening.whiten(w)
        z = z - of_peaks(parameters.structure, w)
        slope = self.slopes(parameters)[0] if self.data.has_gradients else None
        noise = unit * self.data.noise[self.rows]
        return Data.of(u, z, depth=depth, noise=noise, unit=unit, slope=slope, device=self.device)

    def slopes(self, parameters: SurrogateParameters) -> tuple[Array, Array]:
        """Derivatives of the warped log-density with respect to whitened coordinates, by the chain rule.

        Only those of the highest points are used, to limit the kernel matrix to 2,000 derivatives.

        Returns:
            The derivatives, with shape (n, d), NaN where unknown; and the log Jacobian with respect to the given
            derivatives, up to a constant common to all structures, with shape (n,), 0 where unknown.
        """
        warp, whitening, d = parameters.structure.warp, parameters.whitening, self.d
        y = self.data.y[self.rows] - self.data.y_max
        given = self.data.gradient[self.rows] / self.temperature
        given[np.argsort(-y, kind="stable")[_MAX_SLOPES // d :]] = np.nan
        output = OutputWarp(parameters.structure.output)
        stretch = output.slope(output.forward(y / self.temperature))
        inner = warp.slopes(self.t[self.rows])
        slope = given / inner @ whitening.backward.T / stretch[:, None]
        log_jacobian = np.linalg.slogdet(whitening.backward)[1] - np.log(np.abs(inner)).sum(1) - d * np.log(stretch)
        return slope, np.where(np.isfinite(slope).all(1), log_jacobian, 0.0)


def visible(y: Array, temperature: float, d: int) -> Flags:
    """Mask of the finite values used by the process: those above the relevant depth, and the best 400 (or 3 p).

    If 2 d + 1 values lie at more than thirty relevant depths, the values span too many orders of magnitude for one
    process: it would take the deeper ones for noise and expect high values between them. Values at more than three
    relevant depths are then left out, except the best p + 5.
    """
    depth = (y.max() - y) / temperature
    order = np.argsort(depth, kind="stable")
    unlike = (depth > _ABYSS * relevant_depth(d)).sum() > 2 * d
    keep = depth < (_LOCAL if unlike else 1.0) * relevant_depth(d)
    keep[order[: trend_size(d) + _SPARE if unlike else max(_MOST_DEEP, 3 * trend_size(d))]] = True
    return keep


def far(y: Array, d: int) -> Flags:
    """Mask of the points ignored when structures are compared: below half the relevant depth, except the best p + 2.

    Args:
        y: (y - y_max) / temperature, with shape (n,).
        d: Number of parameters; a quadratic in these has p coefficients.
    """
    mask = -y > 0.5 * relevant_depth(d)
    mask[np.argsort(-y, kind="stable")[: trend_size(d) + 2]] = False
    return mask


def thinned(data: Dataset, rows: Flags, temperature: float, most: int) -> Flags:
    """A mask of at most ``most`` of these rows, three quarters of them relevant, that is stable when data are added.

    The random choice is fixed for each row, so that scores of fits to growing data change smoothly. At least three
    points per coefficient of a quadratic trend are kept.

    Args:
        data: All evaluations.
        rows: Mask of the rows to choose from, with shape (n,).
        temperature: See ``FitProblem``.
        most: Largest number of rows.
    """
    d = data.x.shape[1]
    index, most = np.flatnonzero(rows), max(most, _POINTS_PER_COEFFICIENT * trend_size(d))
    if len(index) <= most:
        return rows
    y = data.y[index]
    deep = far((y - y.max()) / temperature, d)
    priority = generator(0, "fitted rows").random(len(rows))[index]
    relevant, others = (group[np.argsort(priority[group])] for group in (np.flatnonzero(~deep), np.flatnonzero(deep)))
    n_relevant = min(len(relevant), max(round(_SHARE_RELEVANT * most), most - len(others)))
    chosen = np.concatenate([relevant[:n_relevant], others[: most - n_relevant]])
    out = np.zeros_like(rows)
    out[index[chosen]] = True
    return out


def of_peaks(structure: Structure, w: Array) -> Array:
    """The logarithm of the sum of the peaks at warped coordinates w, with shape (m,); 0 without peaks."""
    return np.zeros(len(w)) if structure.peaks is None else structure.peaks.log_sum(w)


def family(structure: Structure, whitening: Whitening) -> Trended:
    """The family of processes of a structure."""
    if structure.peaks is not None:
        return Trended(structure.kernel, structure.peaks.whitened(whitening).gated(), prior=_OF_PEAKS)
    if structure.division is None:
        return Trended(structure.kernel, Polynomial(structure.trend))
    return Trended(structure.kernel, _linearise_divisor(structure.division, whitening))


def _linearise_divisor(division: Division, whitening: Whitening) -> Tilted:
    """The trend of a division in whitened coordinates, in which the divisor's logarithm is linear.

    The other coordinates are whitened among themselves.
    """
    j, backward = division.parameter, whitening.backward
    others = np.delete(backward, j, axis=1)
    values, vectors = np.linalg.eigh(others.T @ others)
    across = others @ vectors / np.sqrt(np.maximum(values, _THIN * values[-1]))
    axes = backward / np.maximum(np.linalg.norm(backward, axis=0), _THIN)
    rows = tuple(map(tuple, axes)) if division.axes else ()
    return Tilted(tuple(division.power * backward[:, j]), tuple(map(tuple, across)), rows)
