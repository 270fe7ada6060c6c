"""Search for coordinates in which a log-density is a Gaussian or the sum of several.

Modes that are bent, stretched or skewed alike are Gaussians in the same coordinates. None of them is known well enough
alone, and with the coordinates of another one no sum of Gaussians explains the values. So coordinates and Gaussians are
fitted together, for the maps that fit best with one Gaussian less. Only an exact fit counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from surrogate.arrays import Array
from surrogate.gp.trended import Hyperparameters
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.skews import Skew
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.parameters import Structure, SurrogateParameters, trend_size
from surrogate.log_density.peaks import Peaks, fit_transformed
from surrogate.log_density.search.couplings import EXPLAINED
from surrogate.log_density.training import FitProblem
from surrogate.rng import generator
from surrogate.samplers.mixture import fit_mixture

__all__ = ["choose_transform"]

Map = Skew | Couplings

_MOST = 10  # number of parameters above which there are too many maps
_TRIED = 6  # maps that are fitted in full; with each further Gaussian half of them, at least these
_LEAST = 2
_NUMBERS = range(1, 5)  # of Gaussians
_ROUNDS = 12  # steps of the fits that compare maps
_SPARE = 4  # values in excess of all coefficients
_EXACT = 1e-6  # root mean square of weighted errors below which a fit is exact up to rounding
_EVALUATIONS = 30  # evaluations of the marginal likelihood
_THIN = 1e-150  # sd of equal draws


def choose_transform(problem: FitProblem, present: SurrogateParameters) -> SurrogateParameters:
    """The current parameters, or those with a skew, a bend or a scale in which Gaussians explain all values.

    A search takes 0.2 CPU seconds for 100 points in five dimensions. Two bent mixtures in four and five dimensions,
    which had used up 160 evaluations without a claim, are explained from 45 and 59 evaluations on.

    Args:
        problem: Data of the current fit, without derivatives; its draws show where the Gaussians are.
        present: The fitted surrogate.
    """
    warp, draws, y = present.structure.warp.plain, problem.draws, problem.y
    noisy = problem.data.noise.any()  # undeclared noise may be what other coordinates explain
    if draws is None or noisy or problem.temperature != 1.0 or problem.d > _MOST or (warp.kinds == CIRCLE).any():
        return present
    w, wide, weight = warp.single(problem.t[problem.rows]), warp.single(draws), 1.0 / (1.0 - y)
    maps = _best_maps(w, wide, y, weight, warp) if len(w) >= trend_size(problem.d) + _SPARE else []
    for number in _NUMBERS:
        if len(w) < number * trend_size(problem.d) + _SPARE:
            break
        errors = []
        for transform in maps:
            mixture = fit_mixture(transform.forward(wide), number, generator(0, "peaks", number))
            peaks, found, error = fit_transformed(Peaks.of_mixture(mixture), transform, w, y, weight)
            enough = len(w) >= len(peaks) * trend_size(problem.d) + len(found.vector) + _SPARE
            if error < _EXACT and enough and not (isinstance(found, Skew) and found.is_line):
                fitted = _fitted(problem, *_without_spare(peaks, found, w, y), warp)
                if fitted.exact:
                    return fitted
            errors.append(error)
        maps = [maps[k] for k in np.argsort(errors, kind="stable")[: max(_LEAST, len(maps) // 2)]]
    return present


def _maps(wide: Array, warp: InputWarp) -> Iterator[Map]:
    """All maps with one coefficient, or two, that change nothing yet, in units of the draws."""
    centre, sd = wide.mean(0), np.maximum(wide.std(0), _THIN)
    d = len(centre)
    for j in range(d):
        yield Skew(j, float(centre[j]), float(sd[j]), (float(warp.low[j]), float(warp.high[j])))
    none = Couplings.none(centre, np.diag(1.0 / sd))
    for kind in ("bend", "scale"):
        for i in range(d):
            yield from (none.only([(kind, i, j)]) for j in range(d) if j != i)


def _best_maps(w: Array, wide: Array, y: Array, weight: Array, warp: InputWarp) -> list[Map]:
    """The maps with which one Gaussian explains the values best, best first."""
    one = fit_mixture(wide, 1, generator(0, "peaks", 1))
    fits = [
        fit_transformed(Peaks.of_mixture(one), each, w, y, weight, rounds=_ROUNDS)[1:] for each in _maps(wide, warp)
    ]
    return [transform for transform, _ in sorted(fits, key=lambda fit: fit[1])[:_TRIED]]


def _without_spare(peaks: Peaks, transform: Map, w: Array, y: Array) -> tuple[Peaks, Map]:
    """The fewest of the peaks that explain the values as well, and the map."""
    weight = 1.0 / (1.0 - y)
    for k in range(len(peaks)):
        others = peaks.without(k)
        if len(others):
            fewer, found, error = fit_transformed(others, transform, w, y, weight)
            if error < _EXACT:
                return _without_spare(fewer, found, w, y)
    return peaks, transform


def _fitted(problem: FitProblem, peaks: Peaks, transform: Map, warp: InputWarp) -> SurrogateParameters:
    """Parameters of a surrogate whose mean is the sum of the peaks in these coordinates."""
    if isinstance(transform, Couplings):
        warp = warp.with_couplings(transform)
    else:
        warp, peaks = warp.with_end(transform.axis, transform.end), peaks.whitened(transform.logarithm(problem.d))
    structure = Structure("rbf", "quadratic", 0.0, warp, peaks=peaks if len(peaks) > 1 else None)
    start = Hyperparameters.default(warp.size, scale=1.0)
    exact = replace(start, log_amplitude=np.log(EXPLAINED[0]), log_shaping=np.log(EXPLAINED[1]))
    return fit_structure(problem, structure, starts=(exact,), max_evaluations=_EVALUATIONS)
