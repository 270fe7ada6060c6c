"""Search for couplings of coordinates under which a log-density is a quadratic.

Of many sets of couplings only the right one makes the misfit of a quadratic vanish, whereas single couplings lower it
little. Therefore a path of growing sets is followed by least squares, in which the coefficients of the quadratic are
eliminated (variable projection; Golub & Pereyra 1973, doi:10.1137/0710036) and those of the couplings are found by
Gauss-Newton steps. The set with the best information criterion is then judged by the surrogate's evidence, like any
other structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.gp.trended import COEFFICIENT_SD
from surrogate.log_density.coordinates.couplings import Coupling, Couplings
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.parameters import Structure, SurrogateParameters, trend_size
from surrogate.log_density.remainder import remainder
from surrogate.log_density.training import FitProblem

__all__ = [
    "DECISIVE",
    "ENOUGH",
    "EXPLAINED",
    "Misfit",
    "choose_couplings",
    "coupling_sets",
    "couplings_of_one_mode",
    "fit_to_one_mode",
]


SIZES = range(3, 11)
"""Numbers of parameters for which couplings are searched: with two the process itself learns as fast, with more than
ten paths take seconds."""

_WEIGHTS = (1.0, 0.1)  # a value at a depth g counts with an sd proportional to 1 + weight * g
_KINDS = (("bend",), ("scale",), ("bend", "scale"))
DECISIVE = 3.0
"""Drop of the criterion per point above which a set stands out: the root mean square falls to a fifth."""
_EXACT = 1e-6  # root mean square below which a misfit is rounding
_RIDGE = 1e-6  # of a quadratic's normalised columns, so that fewer points than coefficients determine it
_THIN = 1e-150  # sd of equal draws
_TINY = 1e-14  # squared rounding error, added to sums of squares that may vanish
_SINGULAR = 1e-12  # share of the largest sum of squares of columns below which a column is explained by the others
_ROUNDING = 2.0 * np.log(_EXACT)  # criterion below which a set explains the values of one mode up to rounding
_BETTER = 0.1  # smallest drop of this criterion for which couplings are fitted again
_SPARE_OF_ONE = 2  # values beyond those that a search needs, lest a wrong set explain them all
_LARGEST = 3.0  # largest coefficient in units of the draws; beyond it a coupling folds the posterior
_LENGTHS = (1.0, 0.3, 0.09, 0.027)  # lengths of a Gauss-Newton step that are tried
_STEPS, _FEW_STEPS = 4, 2  # Gauss-Newton steps for an extended set, and for a reduced one
_NO_GAIN = 1e-3  # relative drop of the misfit below which there are no further steps
_SPARE = 5  # smallest number of degrees of freedom by which the misfit is divided
_TRIED = 4  # couplings that are polished of those that lower the misfit most to first order
_PATIENCE = 3  # extensions without a better criterion after which a path ends
_SIZE_PER_PARAMETER = 3  # largest number of couplings per parameter in a set
ENOUGH = 6
"""Values in excess of a quadratic's coefficients that a search needs; a set uses half of them."""
_EVALUATIONS = 30  # evaluations of the marginal likelihood in the fit of a set, from each start
EXPLAINED = (0.01, 1e-4)
"""Log amplitude and shaping of a start in which the couplings explain all data."""


@dataclass(frozen=True, eq=False)
class Misfit:
    """The weighted misfit of the best quadratic of coupled coordinates.

    Attributes:
        couplings: The couplings.
        w: Points, with shape (n, d).
        y: Values times the weights, with shape (n,).
        weight: Weights, with shape (n,).
        residual: Weighted residuals, with shape (n,).
        slope: Derivatives of the quadratic with respect to the coupled coordinates, with shape (n, d).
        basis: Orthonormal basis of the weighted quadratics, with shape (n, p).
    """

    couplings: Couplings
    w: Array
    y: Array
    weight: Array
    residual: Array
    slope: Array
    basis: Array

    @classmethod
    def of(cls, couplings: Couplings, w: Array, y: Array, weight: Array) -> Misfit:
        """The misfit under given couplings, in O(n p^2) for p coefficients."""
        z, d = couplings.forward(w), w.shape[1]
        i, j = np.triu_indices(d)
        features = np.concatenate([np.ones((len(z), 1)), z, z[:, i] * z[:, j]], 1) * weight[:, None]
        norm = np.linalg.norm(features, axis=0)
        q, r = np.linalg.qr(np.concatenate([features / norm, _RIDGE * np.eye(len(norm))]))
        basis = q[: len(z)]
        coefficients = np.linalg.solve(r, basis.T @ y)
        residual = y - features / norm @ coefficients
        quadratic = np.zeros((d, d))
        quadratic[i, j] = coefficients[d + 1 :] / norm[d + 1 :]
        slope = coefficients[1 : d + 1] / norm[1 : d + 1] + z @ (quadratic + quadratic.T)
        return cls(couplings, w, y, weight, residual, slope, basis)

    @property
    def value(self) -> float:
        """Sum of the squared residuals."""
        return float(self.residual @ self.residual)

    @property
    def criterion(self) -> float:
        """Extended Bayesian information criterion (Chen & Chen 2008, doi:10.1093/biomet/asn034), to be minimised."""
        n, d = self.w.shape
        return n * float(np.log(self.value / n + _TINY)) + len(self.couplings.vector) * _price(n, d)

    @property
    def exact(self) -> bool:
        """Whether the misfit is only rounding."""
        return self.value < len(self.w) * _EXACT**2

    def left_by_trend(self, columns: Array) -> Array:
        """Residuals of weighted columns, with shape (n, k), after their best fit by a quadratic."""
        columns = columns * self.weight[:, None]
        return columns - self.basis @ (self.basis.T @ columns)

    def moved(self, couplings: Couplings) -> Misfit:
        """The misfit of the same data with other couplings."""
        return Misfit.of(couplings, self.w, self.y, self.weight)

    def polished(self, couplings: Couplings, steps: int = _STEPS) -> Misfit:
        """The misfit after a few damped Gauss-Newton steps of the coefficients."""
        here = self.moved(couplings)
        spare = max(len(self.y) - self.basis.shape[1], _SPARE)
        for _ in range(steps if couplings.size else 0):
            vector = here.couplings.vector
            columns = here.left_by_trend(here.couplings.jacobian(self.w, here.slope))
            ridge = here.value / spare / COEFFICIENT_SD**2
            step = np.linalg.solve(
                columns.T @ columns + (ridge + _TINY) * np.eye(len(vector)), columns.T @ here.residual - ridge * vector
            )
            there = self._along(here, vector, step)
            if there is None:
                break
            gain, here = here.value - there.value, there
            if gain < _NO_GAIN * here.value:
                break
        return here

    @staticmethod
    def _along(here: Misfit, vector: Array, step: Array) -> Misfit | None:
        """The misfit after a shortened step that lowers it; None if there is none."""
        for length in _LENGTHS:
            there = here.moved(here.couplings.at(np.clip(vector + length * step, -_LARGEST, _LARGEST)))
            if there.value < here.value:
                return there
        return None

    def extended(self, candidates: list[Coupling], tried: int) -> Misfit | None:
        """The misfit with the additional coupling that lowers it most, among the best to first order."""
        couplings, now = self.couplings, self.couplings.pairs
        options = [pair for pair in candidates if pair not in now]
        if not options:
            return None
        bends, scales = couplings.columns(self.w, self.slope)
        columns = self.left_by_trend(
            np.stack([(bends if kind == "bend" else scales)[:, i, j] for kind, i, j in options], 1)
        )
        residual = self.residual
        if now:
            q, _ = np.linalg.qr(self.left_by_trend(couplings.jacobian(self.w, self.slope)))
            columns, residual = columns - q @ (q.T @ columns), residual - q @ (q.T @ residual)
        square = (columns**2).sum(0)
        gain = (columns.T @ residual) ** 2 / (square + _SINGULAR * (1.0 + square.max()))
        best = [options[k] for k in np.argsort(-gain)[:tried]]
        return min((self.polished(couplings.only([*now, pair])) for pair in best), key=lambda m: m.value)

    def reduced(self) -> Misfit:
        """The misfit without couplings whose removal improves the criterion, except the last two."""
        here = self
        while len(pairs := here.couplings.pairs) > 2:
            least = int(here._increases()[: len(pairs)].argmin())
            less = here.polished(here.couplings.only([*pairs[:least], *pairs[least + 1 :]]), steps=_FEW_STEPS)
            if not less.criterion < here.criterion - _RIDGE:
                return here
            here = less
        return here

    def _increases(self) -> Array:
        """First-order increase of the misfit if each coefficient is set to zero, with shape (k,)."""
        columns = self.left_by_trend(self.couplings.jacobian(self.w, self.slope))
        square = columns.T @ columns
        inverse = np.linalg.inv(square + _SINGULAR * (1.0 + np.trace(square)) * np.eye(len(square)))
        return self.couplings.vector**2 / np.diag(inverse)


def _path(start: Misfit, candidates: list[Coupling], most: int, *, tried: int = _TRIED) -> Misfit:
    """The misfit with the best criterion on a path of growing sets."""
    best = here = start
    since = 0
    while not here.exact and len(here.couplings.vector) < most and since < _PATIENCE:
        longer = here.extended(candidates, tried)
        if longer is None:
            break
        shorter = longer.reduced()
        here = longer if shorter.couplings.same(here.couplings) else shorter
        since = 0 if here.criterion < best.criterion else since + 1
        best = min(best, here, key=lambda m: m.criterion)
    return best


def coupling_sets(
    w: Array, depth: Array, frames: list[Couplings], free: Flags, *, brief: bool = False
) -> Iterator[Couplings]:
    """Sets of couplings that explain the values much better than none, for several weights of deep points.

    The search ends at the first set that explains them exactly. Sets that only help are not worth the risk: with them a
    run on a chain of six parameters lost 20 evaluations.

    Args:
        w: Points, with shape (n, d).
        depth: Depths of the points below the highest, with shape (n,).
        frames: Inactive couplings that define the frames to search.
        free: Mask of the coordinates that may be coupled, with shape (d,).
        brief: Whether to follow two paths for each frame instead of six.
    """
    n, d = w.shape
    most = min(_SIZE_PER_PARAMETER * d, n - trend_size(d) - ENOUGH // 2)
    for empty in frames:
        for weight in _WEIGHTS[:1] if brief else _WEIGHTS:
            scaled = 1.0 / (1.0 + weight * depth)
            start = Misfit.of(empty, w, -depth * scaled, scaled)
            best = start
            for kinds in _KINDS[::2] if brief else _KINDS:
                pairs = [(kind, i, j) for kind in kinds for i in range(d) for j in range(d) if i != j]
                path = _path(start, [pair for pair in pairs if free[pair[1]] and free[pair[2]]], most)
                best = min(best, path, key=lambda m: m.criterion)
                if best.exact:
                    break
            if start.criterion - best.criterion > DECISIVE * n:
                yield best.couplings
            if best.exact:
                return


def choose_couplings(problem: FitProblem, present: SurrogateParameters, *, margin: float = 0.5) -> SurrogateParameters:
    """The current parameters, or those with couplings if their score is higher by ``margin`` nats per point.

    There is no search if values are noisy, because no set then stands out. A search takes 0.2 s of CPU time for 60
    points in four dimensions and 0.7 s for 100 in six, or much less if a set explains the data. On a chain of six
    parabolas (seeds 1 to 3) runs took 63 to 72 evaluations instead of 144 to 160. On a funnel in four dimensions (seeds
    1 to 5) they took 32 to 38; without couplings a run was still wrong after 180.

    Args:
        problem: Data of the current fit, without derivatives; its draws set centre and units.
        present: The fitted surrogate.
        margin: Nats per point by which couplings must win; a wrong set may gain ten nats in total, and does harm.
    """
    d, draws, depth = problem.d, problem.draws, -problem.y
    warp = present.structure.warp
    noisy = problem.data.noise.any() or present.hyper.log_noise is not None
    if draws is None or noisy or d not in SIZES or len(depth) < trend_size(d) + ENOUGH:
        return present
    w, frames = _coordinates(problem, warp, draws)
    best, threshold = present, present.score + margin * len(depth)
    hyper = replace(present.hyper, log_amplitude=np.log(EXPLAINED[0]), log_shaping=np.log(EXPLAINED[1]))
    free = warp.kinds != CIRCLE
    seen: list[Couplings] = []
    for couplings in coupling_sets(w, depth, frames, free):
        if any(couplings.same(other) for other in seen):
            continue
        seen.append(couplings)
        structure = Structure("rbf", "quadratic", 0.0, warp.with_couplings(couplings))
        fitted = fit_structure(problem, structure, starts=(present.hyper, hyper), max_evaluations=_EVALUATIONS)
        if fitted.score > max(best.score, threshold):
            best = fitted
    if best.exact:
        return best
    known = seen if warp.couplings is None else [warp.couplings, *seen]
    for base, sets in ((warp, known), *(((warp.plain, []),) if warp.chosen else ())):
        w, frames = _coordinates(problem, base, draws)
        found = couplings_of_one_mode(w, problem.y, frames, free, sets)
        if found is not None:
            structure = Structure("rbf", "quadratic", 0.0, base.with_couplings(found))
            return fit_structure(problem, structure, starts=(present.hyper, hyper), max_evaluations=_EVALUATIONS)
    return best


def _coordinates(problem: FitProblem, warp: InputWarp, draws: Array) -> tuple[Array, list[Couplings]]:
    """The evaluated points without couplings, with shape (n, d), and the frames in which couplings are searched."""
    w, wide = warp.single(problem.t[problem.rows])[:, : problem.d], warp.single(draws)[:, : problem.d]
    axes = np.diag(1.0 / np.maximum(wide.std(0), _THIN))
    return w, [Couplings.none(wide.mean(0), axes)]


def couplings_of_one_mode(
    w: Array, y: Array, frames: list[Couplings], free: Flags, known: Sequence[Couplings] = ()
) -> Couplings | None:
    """Couplings under which one mode is a Gaussian that explains nearly all values exactly; None if there are none.

    The values near the best one are those of its mode alone, and sets are found from them. Each set, and each of its
    couplings alone, is then fitted to all values but those above the Gaussian, which belong to other modes. Then these
    are hints, see ``surrogate.log_density.remainder``. Four bent mixtures of which one mode was known after 32 to 71
    evaluations had been claimed with half of the mass missing; in three of them the bend is found, exact to 1e-7 nats,
    with 3 to 16 hints.

    Args:
        w: Points, with shape (n, d).
        y: Their log-densities, with shape (n,).
        frames: As `coupling_sets` takes them.
        free: Likewise.
        known: Sets found from all values.
    """
    n, depth, enough = len(w), y.max() - y, _near_best(w.shape[1])
    order = np.argsort(depth, kind="stable")
    tried: set[tuple[Coupling, ...]] = set()
    best, least = None, _criterion_of_one(frames[0], w, y)[0]
    for k in (0, enough, enough + trend_size(w.shape[1]) // 2):
        rows = order[:k]
        found = coupling_sets(w[rows], depth[rows], frames, free, brief=True) if k else known
        sets = list(found) if k < n else []
        for couplings in (*sets, *(each.only([pair]) for each in sets for pair in each.pairs)):
            if (name := tuple(couplings.pairs)) not in tried:
                tried.add(name)
                criterion, fitted = fit_to_one_mode(couplings, w, y)
                best, least = (fitted, criterion) if criterion < least else (best, least)
        if least < _ROUNDING:
            break
    return best


def fit_to_one_mode(couplings: Couplings, w: Array, y: Array) -> tuple[float, Couplings]:
    """Couplings fitted to the values that one mode explains, those above its Gaussian left out.

    Args:
        couplings: The couplings to start from.
        w: Points, with shape (n, d).
        y: Their log-densities, with shape (n,).

    Returns:
        The criterion, infinite if one mode explains too few values, and the couplings.
    """
    best = np.inf, couplings
    criterion, own = _criterion_of_one(couplings, w, y)
    if not np.isfinite(criterion):
        near = y >= np.sort(y)[-min(len(y), _near_best(w.shape[1]))]
        couplings = _polished_at(couplings, w, y, near)
        criterion, own = _criterion_of_one(couplings, w, y)
    for _ in range(_STEPS):
        if not criterion < best[0] - _BETTER:
            break
        best = criterion, couplings
        couplings = _polished_at(couplings, w, y, own)
        criterion, own = _criterion_of_one(couplings, w, y)
    return best


def _near_best(d: int) -> int:
    """Number of values near the best one that are thought to be those of its mode, in d coordinates."""
    return trend_size(d) + ENOUGH + _SPARE_OF_ONE


def _polished_at(couplings: Couplings, w: Array, y: Array, rows: Flags) -> Couplings:
    """Couplings fitted to some of the values."""
    depth = y.max() - y[rows]
    weight = 1.0 / (1.0 + depth)
    return Misfit.of(couplings, w[rows], -depth * weight, weight).polished(couplings).couplings


def _criterion_of_one(couplings: Couplings, w: Array, y: Array) -> tuple[float, Flags]:
    """The criterion of `Misfit` per value of one mode, infinite if it explains too few; and which values are its own.

    The error is that of its quadratic near the best point.
    """
    rest = remainder(couplings.forward(w), y)
    if rest is None:
        return np.inf, np.ones(len(w), dtype=bool)
    own, k = ~rest.hints, len(couplings.vector)
    n, d = int(own.sum()), w.shape[1]
    spare = n - trend_size(d)
    if spare - k < ENOUGH // 2:
        return np.inf, own
    error = 2.0 * np.log(rest.error) + np.log(spare / (spare - k))
    return float(error + k * _price(n, d) / n), own


def _price(n: int, d: int) -> float:
    """Price of a coefficient in the extended Bayesian information criterion of n values in d coordinates."""
    return float(np.log(n) + np.log(2.0 * d * max(d - 1, 1)))
