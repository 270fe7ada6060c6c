"""How a surrogate of outputs is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from surrogate.arrays import Array
from surrogate.log_density.composite.contest import scalar_wins
from surrogate.log_density.composite.fit import fit_components
from surrogate.log_density.composite.model import build_composite
from surrogate.log_density.composite.parameters import CompositeParameters
from surrogate.log_density.composite.reduction import Rows
from surrogate.log_density.composite.training import OutputData
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.fit import prior_points
from surrogate.log_density.learner import ScalarLearner
from surrogate.log_density.parameters import SurrogateParameters
from surrogate.log_density.protocol import LogDensity, Parameters
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.observables import BoundObservables

__all__ = ["CompositeLearner"]


@dataclass(frozen=True, eq=False)
class CompositeLearner:
    """Gaussian processes of the components of a simulator's outputs.

    Attributes:
        target: Simulator and comparison.
        warp: Input warp of the slow parameters.
        from_unit: Parameters x of unit coordinates t.
        scalar: How the log-likelihood itself is learned, where that is asked for.
    """

    target: BoundObservables
    warp: InputWarp
    from_unit: Callable[[Array], Array]
    scalar: ScalarLearner
    rows: Rows = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", Rows(self.target))

    def fit(
        self, problem: FitProblem, before: Parameters | None, *, cold_start: bool, search: bool, noise: bool
    ) -> Parameters:
        """Parameters that fit the data, see ``surrogate.log_density.protocol.Learner``.

        Now and then the log-likelihood itself is learned as well, and takes the place of the outputs where it predicts
        left-out points better: see ``contest``.
        """
        last = before if isinstance(before, CompositeParameters) else None
        scalar = before if isinstance(before, SurrogateParameters) else None
        fitted = self._fit(problem, last, cold_start=cold_start or last is None)
        if fitted.exact or (scalar is None and not search):
            return fitted
        scalar = self.scalar.fit(problem, scalar, cold_start=cold_start, search=search, noise=noise)
        outputs = build_composite(problem.data, problem.t, fitted, self.rows, self.from_unit, device=problem.device)
        plain = self.scalar.build(problem.data, problem.t, scalar, device=problem.device)
        return scalar if scalar_wins(outputs, plain, problem.data.y[problem.data.finite]) else fitted

    def _fit(self, problem: FitProblem, last: CompositeParameters | None, *, cold_start: bool) -> CompositeParameters:
        """Parameters of a surrogate of the outputs."""
        logs: frozenset[str] = frozenset() if last is None else last.logs
        known = OutputData(problem.data, problem.t, self.rows, logs=logs)
        columns = self.target.columns
        draws = prior_points(self.warp) if problem.draws is None else self.warp.forward(problem.draws[:, columns])
        whitening = Whitening.of(draws)
        training = known.training_set(lambda slow: whitening.whiten(self.warp.forward(slow)), problem.device)
        found = fit_components(training, () if last is None else last.groups, cold_start=cold_start)
        return CompositeParameters(
            groups=found.groups,
            whitening=whitening,
            warp=self.warp,
            temperature=problem.temperature,
            n=len(problem.data),
            size=known.reduction.scores.shape[1],
            score=found.score,
            rescues=found.rescues,
            feasibility=problem.feasibility,
            logs=logs,
        )

    def open_minded(self, problem: FitProblem) -> SurrogateParameters:
        """Parameters of a process of the log-likelihood with a constant mean, which denies nothing."""
        return self.scalar.open_minded(problem)

    def build(self, data: Dataset, t: Array, parameters: Parameters, *, device: str = "cpu") -> LogDensity:
        """The surrogate with these parameters given the data that it has seen."""
        if isinstance(parameters, SurrogateParameters):
            return self.scalar.build(data, t, parameters, device=device)
        if not isinstance(parameters, CompositeParameters):
            msg = f"a surrogate of outputs needs CompositeParameters, got {type(parameters).__name__}"
            raise TypeError(msg)
        return build_composite(data, t, parameters, self.rows, self.from_unit, device=device)
