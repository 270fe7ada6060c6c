"""Search for the structure of a surrogate by evidence: kernel, trend, output warp, input warps, couplings.

All neighbours of the current structure (with one change) are scored by a few factorisations at the current
hyperparameters; the best ones are then fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from surrogate.gp.trended import Hyperparameters
from surrogate.log_density.coordinates.warps import INPUT_WARPS, InputWarp
from surrogate.log_density.fit import fit_structure, score_structure
from surrogate.log_density.parameters import Division, Structure, SurrogateParameters, relevant_depth, trend_size
from surrogate.log_density.search.common_scales import choose_common_scale
from surrogate.log_density.search.couplings import EXPLAINED, choose_couplings
from surrogate.log_density.search.peaks import choose_peaks
from surrogate.log_density.search.transforms import choose_transform
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import INFEASIBLE

__all__ = ["StructureSearch", "choose_structure", "neighbours"]


_KERNELS = ("rbf", "matern52")
_TRENDS = ("quadratic", "constant")
_COMPRESSED = (0.25, 1.0)  # scales of output warps that compress, in relevant depths: a cliff, and a steep flank
_EXPANDED = (4.0, 16.0)  # scales in nats of expanding output warps, for heavy tails
_WITHIN = 6.0  # depth, in units of such a warp's scale, within which all data must lie, as for a heavy tail
_LOWERED = 2.5  # decrease of the log amplitude in one variant, as another structure may leave a twelfth unexplained
_SMALL, _LARGE = 1e-3, 0.2  # shapings of the variants: almost none, and a fifth of the depth
_EVALUATIONS = 30  # evaluations in the fit of a neighbour, which starts at the best variant
_MANY = 20  # coordinates above which a structure takes seconds to fit
_LOG = INPUT_WARPS.index("log")
_POWERS = (-2, -1)  # powers of a dividing parameter: for a standard deviation, and for a variance
_SPARE = 2  # values in excess of a division's coefficients that are needed to distinguish it from others
_BOTH_SIDES = 1.0 / 6.0  # share of the points that must lie on either side of a fold
_KINDS = range(4)  # kinds of input warps that may apply to all parameters, which excludes the circle


@dataclass(frozen=True)
class StructureSearch:
    """Which parts of the structure are searched; they can be switched off individually for measurements and tests.

    Attributes:
        structures: Whether to search at all; otherwise the structure stays plain.
        input_warps: Whether to search warps of the parameters.
        output_warps: Whether to search warps of the log-density.
        couplings: Whether to search couplings of coordinates.
        divisions: Whether to search trends divided by a parameter.
        peaks: Whether to search for several peaks with a trend each.
        noise: Whether to search for undeclared noise.
    """

    structures: bool = True
    input_warps: bool = True
    output_warps: bool = True
    couplings: bool = True
    divisions: bool = True
    peaks: bool = True
    noise: bool = True


def neighbours(
    structure: Structure, d: int, deepest: float, *, search: StructureSearch | None = None, folds: Sequence[int] = ()
) -> list[Structure]:
    """The neighbours of a structure.

    These are all kernels, trends and output warps with the current input warps and without any, and the current
    structure with another warp of one parameter, or the same warp of all.

    Args:
        structure: The current structure, which is not included.
        d: Number of parameters.
        deepest: Largest depth of the data. An expanding warp is offered only if this is at most 6 times its scale, as
            under a heavy tail.
        search: Kinds of structures to try; all unless given.
        folds: Parameters that may be folded, see ``foldable``.
    """
    depth, search = relevant_depth(d), search or StructureSearch()
    outputs = [0.0, *(o * depth for o in _COMPRESSED), *(-o for o in _EXPANDED if deepest < _WITHIN * o)]
    warp = structure.warp
    kinds = {tuple(warp.kinds), tuple(warp.plain_kinds)}
    shapes = product(_KERNELS, _TRENDS, outputs, sorted(kinds))
    out = [Structure(k, trend, o, warp.with_kinds(np.array(w))) for k, trend, o, w in shapes]
    structure = replace(structure, peaks=None)
    out += [replace(structure, warp=warp.with_kinds(np.array(w))) for w in sorted(_other_warps(warp, d, folds) - kinds)]
    out = [s for s in out if search.output_warps or not s.output]
    out = [s for s in out if search.input_warps or not s.warp.chosen]
    return [other for other in out if not other.same(structure)]


def divided(warp: InputWarp, values: int, search: StructureSearch) -> list[Structure]:
    """Structures with a quadratic trend divided by a power of a parameter, for each parameter with a lower bound.

    Args:
        warp: Input warp that gives the support; other parameters are not warped.
        values: Number of finite values; only trends with fewer coefficients are offered.
        search: Parts to search; without input warps there are no divisions.
    """
    out: list[Structure] = []
    if not (search.input_warps and search.divisions) or warp.size < 2:
        return out
    for parameter, power, axes in product(range(len(warp.kinds)), _POWERS, (False, True)):
        division = Division(parameter, power, axes)
        if _LOG in warp.possible_kinds(parameter) and values >= division.size(warp.size) + _SPARE:
            kinds = warp.plain_kinds.copy()
            kinds[parameter] = _LOG
            out.append(Structure("rbf", "quadratic", 0.0, warp.plain.with_kinds(kinds), division))
    return out


def foldable(problem: FitProblem, warp: InputWarp) -> list[int]:
    """Parameters that may be folded: a sixth of the points lies on either side of the middle.

    None where infeasible points are known: they would have to be as symmetric as the values.
    """
    if (problem.data.status == INFEASIBLE).any():
        return []
    t = problem.t[problem.rows] if warp.symmetry is None else warp.symmetry.forward(problem.t[problem.rows])
    above = (t > warp.middle).sum(0)
    both = np.minimum(above, len(t) - above) >= _BOTH_SIDES * len(t)
    return [j for j in np.flatnonzero(both).tolist() if warp.possible_folds(j)]


def _other_warps(warp: InputWarp, d: int, folds: Sequence[int]) -> set[tuple[int, ...]]:
    """Kinds of input warps that differ from the current ones in one parameter, or are the same for all."""
    out = set()
    for j in range(d):
        for kind in (*warp.possible_kinds(j), *(warp.possible_folds(j) if j in folds else ())):
            kinds = warp.kinds.copy()
            kinds[j] = kind
            out.add(tuple(kinds))
    for kind in _KINDS:
        out.add(tuple(kind if kind in warp.possible_kinds(j) else warp.plain_kinds[j] for j in range(d)))
    return out


def _variants(hyper: Hyperparameters) -> tuple[Hyperparameters, ...]:
    """Variants of the hyperparameters: amplitude unchanged or lowered, shaping unchanged, small or large."""
    amplitudes = (hyper.log_amplitude, hyper.log_amplitude - _LOWERED)
    shapings = {hyper.log_shaping, min(hyper.log_shaping, np.log(_SMALL)), np.log(_LARGE)}
    return tuple(replace(hyper, log_amplitude=a, log_shaping=c) for a in amplitudes for c in sorted(shapings))


def _small_residuals(hyper: Hyperparameters) -> tuple[Hyperparameters, ...]:
    """Variants of the hyperparameters in which the trend explains nearly all, as a useful division must."""
    size = None if hyper.log_scale is None else hyper.log_scale + max(hyper.log_amplitude, 0.0)  # of the residual
    scales = (None,) if size is None else (size, size - _LOWERED)
    exact = replace(hyper, log_amplitude=np.log(EXPLAINED[0]), log_shaping=np.log(EXPLAINED[1]))
    return (*(replace(exact, log_scale=scale) for scale in scales), *_variants(hyper)[:2])


def _rank(
    problem: FitProblem, structures: list[Structure], variants: tuple[Hyperparameters, ...]
) -> list[tuple[float, Structure, Hyperparameters]]:
    """Scores of structures, best first, each with the best variant of the hyperparameters."""
    scored = []
    for structure in structures:
        value, hyper = score_structure(problem, structure, variants)
        scored.append((value, structure, hyper))
    return sorted(scored, key=lambda entry: -entry[0])


def choose_structure(
    problem: FitProblem,
    present: SurrogateParameters,
    *,
    refine: int = 3,
    margin: float = 4.0,
    search: StructureSearch | None = None,
) -> SurrogateParameters:
    """The current parameters, or those of a fitted neighbour whose score is higher by ``margin`` nats.

    Nothing is tried while there are not more points than coefficients of a quadratic, or once a quadratic explains the
    data. The plain structure is always fitted from a cold start, because hyperparameters of a warped structure are a
    poor start for it. Finally couplings are searched, see ``surrogate.log_density.search.couplings``.

    Args:
        problem: Data of the current fit.
        present: The fitted surrogate.
        refine: Number of neighbours to fit.
        margin: Nats by which a neighbour must win.
        search: Kinds of structures to try; all unless given.
    """
    search = search or StructureSearch()
    if present.exact:
        return present
    if present.structure.division is not None:  # it has turned out to be wrong
        plain = Structure("rbf", "quadratic", 0.0, present.structure.warp.plain)
        present = fit_structure(problem, plain, log_noise=present.hyper.log_noise)
    best = _best_neighbour(problem, present, refine, margin, search)
    if best.exact or not _is_determined(problem, present):
        return best
    if search.peaks:
        best = choose_peaks(problem, best)
    if not search.couplings or problem.data.has_gradients or problem.draws is None or best.exact:
        return best
    return _coupled(problem, best, search)


def _is_determined(problem: FitProblem, present: SurrogateParameters) -> bool:
    """Whether the finite values determine a quadratic; in many dimensions, with d more to tell if it is exact."""
    size = present.structure.warp.size
    needed = size + 2 if problem.data.has_gradients else trend_size(size)
    return int(problem.data.finite.sum()) >= needed + (size if size > _MANY else 0)


def _best_neighbour(
    problem: FitProblem, present: SurrogateParameters, refine: int, margin: float, search: StructureSearch
) -> SurrogateParameters:
    """The best of the present structure, divisions and, if a quadratic is determined, the plain one and neighbours."""
    data, warp = problem.data, present.structure.warp
    divisions = [] if warp.size > _MANY else divided(warp, int(data.finite.sum()), search)
    scored = _rank(problem, divisions, _small_residuals(present.hyper))[:1]
    if not _is_determined(problem, present):
        return _refine(problem, present, scored, present, margin)
    best = present
    plain = Structure("rbf", "quadratic", 0.0, warp.plain)
    if not plain.same(present.structure):
        anchor = fit_structure(problem, plain, log_noise=present.hyper.log_noise)
        if anchor.exact:
            return anchor
        best = max(present, anchor, key=lambda fitted: fitted.score)
    deepest = float(data.y_max - data.y[data.finite].min()) / problem.temperature
    structures = neighbours(present.structure, problem.d, deepest, search=search, folds=foldable(problem, warp))
    scored += _rank(problem, structures, _variants(present.hyper))[:refine]
    return _refine(problem, present, scored, best, margin)


def _coupled(problem: FitProblem, best: SurrogateParameters, search: StructureSearch) -> SurrogateParameters:
    """The parameters with a skew, a common scale or couplings if these are better, and with the peaks that then fit."""
    best = choose_transform(problem, best)
    if best.exact:
        return best
    best = choose_common_scale(problem, best)
    if best.exact:
        return best
    coupled = choose_couplings(problem, best)
    if coupled.exact or coupled is best or not search.peaks:
        return coupled
    return choose_peaks(problem, coupled)


def _refine(
    problem: FitProblem,
    present: SurrogateParameters,
    scored: list[tuple[float, Structure, Hyperparameters]],
    best: SurrogateParameters,
    margin: float,
) -> SurrogateParameters:
    """The best parameters so far, or those of a scored structure that beat them, and ``present`` by a margin."""
    for _, structure, hyper in scored:
        fitted = fit_structure(problem, structure, starts=(hyper,), max_evaluations=_EVALUATIONS)
        if structure.division is not None and not fitted.exact:
            continue  # near a divisor of zero a slightly wrong quadratic rises without limit
        if fitted.score > max(best.score, present.score + margin):
            best = fitted
    return best
