"""Search for a positive parameter that multiplies or divides several others, like the scale of a hierarchy.

With effects theta_k = mu + tau z_k the log-likelihood of data about theta is a quadratic of mu and of the products tau
z_k. Adding couplings one at a time gains little per step and takes long, so complete sets for one scale are tried.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from surrogate.arrays import Array
from surrogate.gp.trended import Hyperparameters
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.warps import INPUT_WARPS, InputWarp
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.parameters import Structure, SurrogateParameters, trend_size
from surrogate.log_density.search.couplings import DECISIVE, ENOUGH, EXPLAINED, Misfit
from surrogate.log_density.training import FitProblem

__all__ = ["choose_common_scale"]


SIZES = range(3, 21)
"""Numbers of parameters for which a common scale is searched; with more a quadratic needs too many evaluations."""

_LOG = INPUT_WARPS.index("log")
_POWERS = (1.0, -1.0)  # powers of the scale that multiply the others
_MIDDLE = 0.5  # unit coordinate of a prior's median, around which effects are distributed
_WEIGHT = 0.1  # a value at a depth g counts with an sd proportional to 1 + g / 10
_THIN = 1e-150  # sd of equal draws
_EVALUATIONS = 30  # evaluations of the marginal likelihood from each start


def choose_common_scale(problem: FitProblem, present: SurrogateParameters) -> SurrogateParameters:
    """The current parameters, or those of a surrogate in which a positive parameter scales all others or all but one.

    Sets are compared by the misfit of a quadratic, with O(d^2) least-squares fits; the best one is fitted if it is
    decisively better than none.

    Args:
        problem: Data of the current fit, without derivatives; its draws set the units.
        present: The fitted surrogate.
    """
    d, draws, depth, warp = problem.d, problem.draws, -problem.y, present.structure.warp
    noisy = problem.data.noise.any() or present.hyper.log_noise is not None
    if draws is None or noisy or d not in SIZES or warp.size > d or len(depth) < trend_size(d) + ENOUGH:
        return present
    weight = 1.0 / (1.0 + _WEIGHT * depth)
    best: tuple[Misfit, InputWarp] | None = None
    plain = warp.plain
    w = plain.single(problem.t[problem.rows])
    none = Misfit.of(Couplings.none(w.mean(0), np.diag(1.0 / np.maximum(w.std(0), _THIN))), w, -depth * weight, weight)
    for source in range(d):
        if _LOG not in warp.possible_kinds(source):
            continue
        kinds = warp.plain_kinds.copy()
        kinds[source] = _LOG
        logarithmic = plain.with_kinds(kinds)
        w = logarithmic.single(problem.t[problem.rows])
        for couplings in _sets(source, logarithmic.single(draws)):
            misfit = Misfit.of(couplings, w, -depth * weight, weight)
            if best is None or misfit.criterion < best[0].criterion:
                best = misfit, logarithmic
    if best is None or none.criterion - best[0].criterion < DECISIVE * len(depth):
        return present
    structure = Structure("rbf", "quadratic", 0.0, best[1].with_couplings(best[0].couplings))
    size = Hyperparameters.default(d, scale=1.0)
    hyper = replace(size, log_amplitude=np.log(EXPLAINED[0]), log_shaping=np.log(EXPLAINED[1]))
    fitted = fit_structure(problem, structure, starts=(hyper,), max_evaluations=_EVALUATIONS)
    return fitted if fitted.score > present.score else present


def _sets(source: int, draws: Array) -> list[Couplings]:
    """All sets in which the logarithm of a parameter scales all others or all but one, in units of the draws."""
    d, sd = draws.shape[1], np.maximum(draws.std(0), _THIN)
    centre = np.full(d, _MIDDLE)
    centre[source] = draws[:, source].mean()
    empty = Couplings.none(centre, np.diag(1.0 / sd))
    out = []
    for power, spared in product(_POWERS, [None, *range(d)]):
        targets = [k for k in range(d) if k not in (source, spared)]
        if spared == source or not targets:
            continue
        chosen = empty.only([("scale", source, k) for k in targets])
        scale = np.where(chosen.scales, -power * sd[source], 0.0)
        out.append(replace(chosen, scale=scale))
    return out
