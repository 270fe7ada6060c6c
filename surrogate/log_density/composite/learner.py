"""The learner of composite surrogates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.log_density.composite.contest import FEWEST, FEWEST_PER_PARAMETER, left_out_score, scalar_wins
from surrogate.log_density.composite.fit import Found, fit_components
from surrogate.log_density.composite.model import CompositeLogDensity, build_composite
from surrogate.log_density.composite.parameters import CompositeParameters
from surrogate.log_density.composite.reduction import Rows
from surrogate.log_density.composite.relevance import parameters_that_matter
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


_MARGIN = 0.1  # difference of mean log errors needed to add or remove logarithms
_FACTOR = 30.0  # factor by which an output must vary over the first evaluations to start as a logarithm


@dataclass(frozen=True, eq=False)
class CompositeLearner:
    """Learner of Gaussian processes of the components of a simulator's outputs.

    Attributes:
        target: Simulator and comparison.
        warp: Input warp of the slow parameters.
        log_warp: The warp that may replace it, with logarithms of positive parameters.
        from_unit: Parameters x of unit coordinates t.
        scalar: Learner of the log-likelihood itself, if allowed.
    """

    target: BoundObservables
    warp: InputWarp
    log_warp: InputWarp
    from_unit: Callable[[Array], Array]
    scalar: ScalarLearner
    rows: Rows = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", Rows(self.target))

    def fit(
        self, problem: FitProblem, before: Parameters | None, *, cold_start: bool, search: bool, noise: bool
    ) -> Parameters:
        """Parameters that fit the data, see ``surrogate.log_density.protocol.Learner``.

        Occasionally the log-likelihood itself is learned too, and replaces the outputs if its leave-one-out predictions
        are better: see ``contest``. It also does while no quadratic describes a comparison that is declared ``smooth``,
        which would otherwise be called at all draws.
        """
        last = before if isinstance(before, CompositeParameters) else None
        scalar = before if isinstance(before, SurrogateParameters) else None
        if OutputData(problem.data, problem.t, self.rows).misses:
            return self.scalar.fit(problem, scalar, cold_start=cold_start, search=search, noise=noise)
        logs, warp = (self._wide(problem), self.warp) if last is None else (last.logs, last.warp)
        fitted = self._fit(problem, last, logs, warp, cold_start=cold_start)
        if fitted.exact:
            return fitted
        outputs = self._built(problem, fitted)
        if search or scalar is not None or last is None:
            outputs = self._of_logarithms(problem, self._warped(problem, outputs))
        if scalar is None and not search:
            return outputs.parameters
        scalar = self.scalar.fit(problem, scalar, cold_start=cold_start, search=search, noise=noise)
        plain = self.scalar.build(problem.data, problem.t, scalar, device=problem.device)
        return scalar if scalar_wins(outputs, plain, problem.data.y[problem.data.finite]) else outputs.parameters

    def _built(self, problem: FitProblem, parameters: CompositeParameters) -> CompositeLogDensity:
        return build_composite(problem.data, problem.t, parameters, self.rows, self.from_unit, device=problem.device)

    def _wide(self, problem: FitProblem) -> frozenset[str]:
        """Names of positive outputs that vary by large factors and therefore start as logarithms."""
        layout, rows = problem.data.layout, problem.data.has_outputs
        if layout is None or self.rows.data is not None or self.rows.smooth:
            return frozenset()  # they are quadratics in the outputs themselves
        values = problem.data.outputs[rows]
        low, high = values.min(0), values.max(0)
        wide = (low > 0.0) & (high > _FACTOR * low)
        return frozenset(
            n for n in layout.names if (low[layout.columns[n]] > 0).all() and wide[layout.columns[n]].any()
        )

    def _warped(self, problem: FitProblem, now: CompositeLogDensity) -> CompositeLogDensity:
        """The parameters, or those with (or without) logarithms of all positive outputs if these predict better."""
        known = now.output_data
        values, layout = known.data.outputs[known.rows], known.layout
        if not self._judged(now):
            return now
        if self.rows.data is not None or self.rows.smooth:
            return now
        positive = frozenset(name for name in layout.names if (values[:, layout.columns[name]] > 0.0).all())
        other = frozenset() if now.parameters.logs else positive
        if other == now.parameters.logs:
            return now
        found = self._built(problem, self._fit(problem, now.parameters, other, now.parameters.warp, cold_start=True))
        return found if left_out_score(found) < left_out_score(now) - _MARGIN else now

    def _of_logarithms(self, problem: FitProblem, now: CompositeLogDensity) -> CompositeLogDensity:
        """The parameters, or those in logarithms (or not) of all positive simulator parameters if these predict better.

        Simulators often depend on ratios and products of their parameters, of which logarithms are linear.
        """
        if not self._judged(now) or not self.log_warp.chosen:
            return now
        warp = self.log_warp if now.parameters.warp.chosen == self.warp.chosen else self.warp
        found = self._built(problem, self._fit(problem, now.parameters, now.parameters.logs, warp, cold_start=True))
        return found if left_out_score(found) < left_out_score(now) - _MARGIN else now

    def _judged(self, now: CompositeLogDensity) -> bool:
        """Whether there are enough evaluations for leave-one-out errors to be meaningful."""
        return bool(now.output_data.rows.sum() >= max(FEWEST, FEWEST_PER_PARAMETER * len(self.target.columns)))

    def _fit(
        self,
        problem: FitProblem,
        last: CompositeParameters | None,
        logs: frozenset[str],
        warp: InputWarp,
        *,
        cold_start: bool,
    ) -> CompositeParameters:
        """Fitted parameters for outputs, some of which are described by their logarithms, in warped parameters."""
        known = OutputData(problem.data, problem.t, self.rows, logs=self._still_positive(problem, logs))
        columns = self.target.columns
        draws = prior_points(warp) if problem.draws is None else warp.forward(problem.draws[:, columns])
        alike = last is not None and last.logs == known.logs and np.array_equal(last.warp.kinds, warp.kinds)
        before = last if alike else None

        def fit(active: Flags) -> Found:
            whitening = Whitening.of_parts(draws, active)
            same = before is not None and np.array_equal(before.columns, np.flatnonzero(active))

            def coordinates(slow: Array) -> Array:
                u = whitening.whiten(warp.forward(slow))
                return u if active.all() else np.ascontiguousarray(u[:, active])

            training = known.training_set(coordinates, problem.device)
            groups = before.groups if before is not None and same else ()
            return fit_components(training, groups, cold_start=cold_start or not groups, leading=known.leading)

        w, leading = warp.forward(known.slow), known.reduction.scores[:, : known.leading]
        active, found = parameters_that_matter(w, leading, draws, fit)
        return CompositeParameters(
            groups=found.groups,
            whitening=Whitening.of_parts(draws, active),
            warp=warp,
            temperature=problem.temperature,
            n=len(problem.data),
            size=known.reduction.scores.shape[1],
            score=found.score,
            rescues=found.rescues,
            feasibility=problem.feasibility,
            logs=known.logs,
            active=None if active.all() else active,
        )

    @staticmethod
    def _still_positive(problem: FitProblem, logs: frozenset[str]) -> frozenset[str]:
        """Names of the outputs that are positive in all evaluations."""
        layout, rows = problem.data.layout, problem.data.has_outputs
        if layout is None:
            return frozenset()
        return frozenset(n for n in logs if (problem.data.outputs[rows][:, layout.columns[n]] > 0.0).all())

    def open_minded(self, problem: FitProblem) -> SurrogateParameters:
        """Parameters of a process of the log-likelihood with a constant mean, which excludes no region."""
        return self.scalar.open_minded(problem)

    def build(self, data: Dataset, t: Array, parameters: Parameters, *, device: str = "cpu") -> LogDensity:
        """The surrogate with these parameters, given the data to which they were fitted."""
        if isinstance(parameters, SurrogateParameters):
            return self.scalar.build(data, t, parameters, device=device)
        if not isinstance(parameters, CompositeParameters):
            msg = f"a surrogate of outputs needs CompositeParameters, got {type(parameters).__name__}"
            raise TypeError(msg)
        return build_composite(data, t, parameters, self.rows, self.from_unit, device=device)
