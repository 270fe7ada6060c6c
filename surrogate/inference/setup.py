"""The setup of a posterior run: the problem and all settings, but no data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.inference.depths import MANY_PARAMETERS
from surrogate.inference.design import Reference
from surrogate.inference.draws import ScaledPrior
from surrogate.inference.fast import FastPoints
from surrogate.inference.latest import Latest
from surrogate.log_density.composite.learner import CompositeLearner
from surrogate.log_density.coordinates.decades import Decades
from surrogate.log_density.coordinates.warps import INPUT_WARPS, InputWarp
from surrogate.log_density.learner import ScalarLearner
from surrogate.log_density.mixed.learner import MixedLearner
from surrogate.log_density.parameters import Structure, relevant_depth, trend_size
from surrogate.log_density.protocol import Learner, LogDensity
from surrogate.log_density.search.structure import StructureSearch
from surrogate.log_density.training import FitProblem
from surrogate.problem.accuracy import Thresholds
from surrogate.problem.dataset import Dataset
from surrogate.problem.exchanges import of_prior
from surrogate.problem.levels import Levels
from surrogate.problem.observables import BoundObservables
from surrogate.problem.prior import Prior
from surrogate.problem.walls import with_walls
from surrogate.samplers.coordinates import Turns

__all__ = ["Setup", "Switches", "design_size", "holes_to_fill", "inner_box", "marked", "slow_warp", "with_parameters"]


_TAIL = 0.05  # tail probability of the quantiles that set the scale of a parameter without a finite support
_DECADES = 1e3  # ratio of the quantiles of a positive parameter above which its logarithm is the coordinate
_LOG = INPUT_WARPS.index("log")
_WIDE = 3.0  # ratio of its bounds from which the logarithm of a simulator's parameter differs from a line
_PARTICLES = 1000  # draws: moments to 3 % of an sd, and this many candidates for a batch
_DESIGN = (3, 4.5)  # smallest and largest number of design points per parameter
_DESIGN_OF_TREND = 0.8  # design points as a share of a quadratic's coefficients, within these limits
_LEVELS = 24  # levels visited by the design; others are evaluated where the surrogate is most promising
_MOST_LEVELS_IN_BATCH = 6  # a batch has at least the root of the number of levels, up to this
_MIN_DESIGN = 4  # design points for one parameter
_NARROW_DESIGN = 6  # largest number of points per parameter of a design of known width
_SPARE = 2  # points in excess of the coefficients of a quadratic, or of those that gradients need, to test the fit
_LOOKED_AT = 4  # points per parameter of design and holes together
_LOOKED_AT_WITH_GRADIENTS = 2  # the same with gradients, which show the direction uphill
_INNER_TAIL = 0.005  # probability at each end of a parameter that is not searched for modes


@dataclass(frozen=True)
class Switches:
    """Mechanisms that are neither a scout nor a check, each of which can be left out.

    Attributes:
        tempered: Whether the log-density is learned at a raised temperature while all points lie far below its mode.
        feasibility_doubt: Whether the uncertainty of feasibility counts in the choice of batches.
        jumps: Whether the final sampler also proposes draws of a mixture.
    """

    tempered: bool = True
    feasibility_doubt: bool = True
    jumps: bool = True


@dataclass(frozen=True, eq=False)
class Setup:
    """The problem and all settings of a run.

    Attributes:
        prior: Prior of the parameters.
        reference: Expected location of the posterior, or None.
        batch_size: Points per batch; by default max(2, d // 2).
        n_initial: Points of the initial design; by default 3 d to 4.5 d.
        n_holes: Number of space-filling points to evaluate before convergence is claimed. By default none with a
            reference; otherwise as many as the initial design has less than 4 d points, or than 2 d with gradients,
            which also show the direction uphill.
        thresholds: Limits for the checks.
        particles: Number of draws of the surrogate in each iteration.
        device: Device of the surrogate's linear algebra.
        feasibility: Kind of classifier of feasible points, "process" or "svm".
        fast: Settings for parameters that are cheap to change, if there are any.
        gradient: Whether evaluations include derivatives; d + 1 of them determine a quadratic, and a run starts with d
            + 2.
        search: Parts of the surrogate's structure that are searched.
        switches: Further mechanisms of the loop.
        explore: How long to search for further modes: "fast", "normal" or "thorough".
        confirm: Whether a further batch must confirm that all checks agree, and further modes are searched for.
        observables: The simulator whose outputs are learned, if there is one.
        latest: The last surrogate built, because the steps of an iteration ask for the same one.

    Raises:
        ValueError: If there are gradients and periodic parameters, which cannot be combined.
    """

    prior: Prior
    reference: Reference | None = None
    batch_size: int | None = None
    n_initial: int | None = None
    n_holes: int | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    particles: int = _PARTICLES
    device: str = "cpu"
    feasibility: str = "process"
    fast: FastPoints | None = None
    gradient: bool = False
    search: StructureSearch = field(default_factory=StructureSearch)
    switches: Switches = Switches()
    explore: str = "normal"
    confirm: bool = True
    observables: BoundObservables | None = None
    latest: Latest[LogDensity] = field(init=False, repr=False, default_factory=Latest)

    def __post_init__(self) -> None:
        if self.prior.levels is not None:
            _check_levels(self, self.prior.levels)
        if self.gradient and self.prior.periodic.any():
            names = [name for name, turns in zip(self.prior.names, self.prior.periodic, strict=True) if turns]
            msg = f"gradients cannot be used with periodic parameters, got {', '.join(names)}: leave out gradient=True"
            raise ValueError(msg)

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.prior.d

    @property
    def n_learned(self) -> int:
        """Number of parameters of the surrogate: those of the simulator, if there is one."""
        return self.d if self.observables is None else len(self.observables.columns)

    @property
    def levels(self) -> Levels | None:
        """The levels of categorical and integer parameters; None if there are no such parameters."""
        return self.prior.levels

    @cached_property
    def continuous(self) -> Setup:
        """The problem without categories and integers, and without their prior probabilities."""
        if self.levels is None:
            return self
        return with_parameters(self, self.levels.continuous)

    @cached_property
    def scaled(self) -> ScaledPrior:
        """The prior in coordinates in which a box is the unit cube; a code is its own coordinate.

        A positive parameter whose prior spans many decades enters as its logarithm.
        """
        if self.levels is not None:
            return _with_codes(self.continuous.scaled, self.prior, self.levels)
        decades = None
        if self.prior.is_box:
            low, high = self.prior.bounds.T
            location, scale = low, high - low
        else:
            ends = self.prior.quantile(np.array([[_TAIL], [1.0 - _TAIL]]) * np.ones((2, self.d)))
            decades = _decades(self.prior, *ends)
            low, high = ends if decades is None else decades.forward(ends)
            scale = (high - low) / (1.0 - 2.0 * _TAIL)
            location = low - _TAIL * scale
        turns = Turns.of((self.prior.bounds - location[:, None]) / scale[:, None], self.prior.periodic)
        return ScaledPrior(location, scale, self.prior.log_density, self.prior.sample, turns, decades=decades)

    @property
    def n_batch(self) -> int:
        """Points per batch."""
        of_levels = 0 if self.levels is None else min(int(np.sqrt(len(self.levels))), _MOST_LEVELS_IN_BATCH)
        return self.batch_size or max(2, self.n_learned // 2, of_levels)

    @property
    def knows_width(self) -> bool:
        """Whether location and width of the posterior were given, in which case no further modes are searched for."""
        return self.reference is not None and self.reference.covariance is not None

    @cached_property
    def moves(self) -> Indices:
        """Exchanges of parameters that the surrogate follows once they prove to change no value, with shape (k, d)."""
        if self.observables is not None:
            return np.empty((0, self.d), dtype=np.int64)
        return of_prior(self.prior, periodic=False)

    @cached_property
    def learner(self) -> Learner:
        """The learner of the surrogate, with a simple structure at first: a quadratic, an RBF residual, no warps."""
        low, high = self.scaled.to_unit(self.prior.bounds.T)
        if self.levels is not None:
            return MixedLearner(self.levels, low, high, self.prior.periodic, self.search)
        scalar = ScalarLearner(Structure.plain(low, high, self.prior.periodic), self.search)
        if self.observables is None:
            return replace(scalar, moves=self.moves)
        warp = slow_warp(self, self.observables)
        plain = warp.with_kinds(warp.plain_kinds)
        return CompositeLearner(self.observables, plain, warp, self.scaled.from_unit, scalar)

    def problem(self, data: Dataset, draws: Array | None = None, temperature: float = 1.0) -> FitProblem:
        """The data of a fit: values, derivatives with respect to unit coordinates, and draws t."""
        if data.has_gradients:
            data = replace(data, gradient=data.gradient * self.scaled.slopes(self.scaled.to_unit(data.x)))
        return FitProblem(data, self.scaled.to_unit(data.x), draws, temperature, self.device, self.feasibility)


def _check_levels(setup: Setup, levels: Levels) -> None:
    """Raises ValueError if settings are incompatible with categories and integers."""
    asked = {
        "gradient": setup.gradient,
        "fast": setup.fast is not None,
        "reference": setup.reference is not None,
        "Observables": setup.observables is not None,
    }
    if words := [name for name, given in asked.items() if given]:
        msg = f"categories and integers ({', '.join(levels.names)}) cannot be used with {', '.join(words)}"
        raise ValueError(msg)
    if not len(levels.continuous):
        msg = (
            f"all parameters are categories or integers, which have {len(levels)} combinations: evaluate all of "
            "them, or add a continuous parameter"
        )
        raise ValueError(msg)


def _with_codes(scaled: ScaledPrior, prior: Prior, levels: Levels) -> ScaledPrior:
    """The coordinates of continuous parameters, extended by unchanged columns of codes."""
    location, scale, origin = np.zeros(prior.d), np.ones(prior.d), np.full(prior.d, np.nan)
    location[levels.continuous], scale[levels.continuous] = scaled.location, scaled.scale
    turns = Turns.of((prior.bounds - location[:, None]) / scale[:, None], prior.periodic)
    decades = None
    if scaled.decades is not None:
        origin[levels.continuous] = scaled.decades.origin
        decades = Decades(origin)
    return ScaledPrior(location, scale, prior.log_density, prior.sample, turns, decades=decades)


def _decades(prior: Prior, low: Array, high: Array) -> Decades | None:
    """Mask of the parameters whose priors span many decades between two quantiles; None if there are none.

    Distances are measured from the lower end of the support, or from zero if the support itself spans decades above
    zero.
    """
    ends = prior.bounds
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        from_zero = (ends[:, 0] > 0.0) & (ends[:, 1] > _DECADES * ends[:, 0]) & np.isfinite(ends[:, 1])
        origin = np.where(from_zero, 0.0, ends[:, 0])
        wide = high - origin > _DECADES * (low - origin)
    origin = np.where(wide & np.isfinite(origin) & ~prior.periodic, origin, np.nan)
    return Decades(origin) if np.isfinite(origin).any() else None


def slow_warp(setup: Setup, target: BoundObservables) -> InputWarp:
    """The warp of a simulator's parameters with logarithms of all that are positive and have wide priors."""
    slow, bounds, decades = target.columns, setup.prior.bounds, setup.scaled.decades
    low, high = setup.scaled.to_unit(bounds.T)
    positive = (bounds[:, 0] > 0.0) & (bounds[:, 1] > _WIDE * bounds[:, 0]) & np.isfinite(bounds[:, 1])
    positive &= ~setup.prior.periodic & ~(np.zeros(setup.d, dtype=bool) if decades is None else decades.mapped)
    low = np.where(positive, -setup.scaled.location / setup.scaled.scale, low)
    warp = InputWarp.identity(low[slow], high[slow], setup.prior.periodic[slow])
    return warp.with_kinds(np.where(positive[slow], _LOG, warp.kinds))


def with_parameters(setup: Setup, columns: Indices) -> Setup:
    """The same problem with some of the continuous parameters alone, which then act everywhere."""
    return replace(setup, prior=Prior(tuple(replace(setup.prior.parameters[j], only=None) for j in columns)))


def design_size(setup: Setup) -> int:
    """Number of points of the initial design: at least 3 d, and more if a quadratic needs them."""
    d = setup.d
    if setup.levels is not None:  # each level needs a point, unless there are very many
        return setup.n_initial or max(
            design_size(setup.continuous), int(_DESIGN[0] * d), min(len(setup.levels), _LEVELS)
        )
    if setup.gradient:
        return setup.n_initial or d + _SPARE
    if setup.observables is not None:
        return setup.n_initial or max(setup.n_learned + _SPARE, _MIN_DESIGN)
    if setup.n_initial is None and setup.knows_width:  # far outside a narrow design an unconstrained trend has no limit
        return min(trend_size(d) + _SPARE, _NARROW_DESIGN * d)
    if (
        d > MANY_PARAMETERS
    ):  # with fewer data than coefficients it rises in corners of the prior, of which there are many
        return setup.n_initial or trend_size(d) + _SPARE
    least, most = (int(number * d) for number in _DESIGN)
    return setup.n_initial or max(least, _MIN_DESIGN, min(most, int(_DESIGN_OF_TREND * trend_size(d))))


def holes_to_fill(setup: Setup) -> int:
    """Number of space-filling points to evaluate before convergence is claimed."""
    if setup.n_holes is not None:
        return setup.n_holes
    total = (_LOOKED_AT_WITH_GRADIENTS if setup.gradient else _LOOKED_AT) * setup.d
    return max(0, total - design_size(setup)) if setup.reference is None else 0


def marked(setup: Setup, data: Dataset) -> Dataset:
    """The data, in which values that stand for "impossible" count as infeasible."""
    return with_walls(data, relevant_depth(setup.d), level=None if setup.levels is None else setup.levels.index(data.x))


def inner_box(setup: Setup, window: ScaledPrior) -> tuple[Array, Array]:
    """Corners of the box that is searched for modes: all but half a per cent of the prior at each end.

    For a periodic parameter it is the period of the window.
    """
    tails = np.array([[_INNER_TAIL], [1.0 - _INNER_TAIL]])
    ends = setup.scaled.to_unit(setup.prior.quantile(tails * np.ones((2, setup.d))))
    turn = window.window(setup.prior.bounds).T
    low, high = np.where(setup.prior.periodic | setup.prior.discrete, turn, ends)
    return low, high
