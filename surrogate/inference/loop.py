"""The loop: init, ask and tell as pure functions of an immutable state, which never evaluate the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.batch import assemble, batch_size, design_batch, with_fast
from surrogate.inference.checks import CHECKS, MIXED_CHECKS, Check
from surrogate.inference.depths import MOVED_FAR
from surrogate.inference.draws import ScaledPrior
from surrogate.inference.findings import Finding
from surrogate.inference.learning import learn
from surrogate.inference.mixed.families import awaited, is_found
from surrogate.inference.phases import Phase, Verdict, next_verdict
from surrogate.inference.scouts import MIXED_SCOUTS, SCOUTS, Scout
from surrogate.inference.setup import Setup, holes_to_fill, marked
from surrogate.inference.shortage import design_verdict, has_enough
from surrogate.inference.state import State
from surrogate.inference.temperature import next_temperature
from surrogate.inference.trace import columns_of, with_row
from surrogate.inference.view import View
from surrogate.log_density.protocol import LogDensity
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior

__all__ = ["PosteriorLoop"]


@dataclass(frozen=True, eq=False)
class PosteriorLoop:
    """The algorithm that learns a posterior, with its scouts and checks.

    Attributes:
        setup: The problem and all settings.
        scouts: Scouts, in order, which propose points besides those where the surrogate is most uncertain.
        checks: Checks, in order, that a claim of convergence must pass.
    """

    setup: Setup
    scouts: tuple[Scout, ...] = None  # type: ignore[assignment]  # those of the setup unless given
    checks: tuple[Check, ...] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        mixed = self.setup.levels is not None
        if self.scouts is None:
            object.__setattr__(self, "scouts", MIXED_SCOUTS if mixed else SCOUTS)
        if self.checks is None:
            object.__setattr__(self, "checks", MIXED_CHECKS if mixed else CHECKS)

    def init(self, seed: int, initial: Dataset | None = None) -> State:
        """The initial state of a run, empty or with earlier evaluations."""
        data = Dataset.empty(self.d) if initial is None else marked(self.setup, initial)
        columns = columns_of(self.checks)
        state = State(
            seed=seed,
            step=0,
            data=data,
            predicted=np.full((len(data), 2), np.nan),
            columns=columns,
            trace=np.empty((0, len(columns))),
        )
        return self._learn(state, None) if self._has_enough(state) else state

    @property
    def prior(self) -> Prior:
        """Prior of the parameters."""
        return self.setup.prior

    @property
    def scaled(self) -> ScaledPrior:
        """The prior in coordinates in which a box is the unit cube."""
        return self.setup.scaled

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.setup.d

    def model(self, state: State) -> LogDensity:
        """The current surrogate of a run.

        Raises:
            ValueError: If the run has none yet.
        """
        return self.view(state).model

    def view(self, state: State) -> View:
        """The view of a state: everything that scouts and checks may look at."""
        return View(self.setup, state)

    def ask(self, state: State, pending: Array | None = None, n: int | None = None) -> Array:
        """The next batch, with shape (b, d), which depends only on the arguments.

        Args:
            state: State of the run.
            pending: Points being evaluated, with shape (k, d). The information that they will give is taken into
                account, which needs no values.
            n: Size of the batch; by default ``n_batch``. Ignored for a design.
        """
        under_way = np.empty((0, self.d)) if pending is None else pending
        view = self.view(state).replace(under_way=under_way)
        if state.parameters is None or self._awaits(state):
            x = design_batch(view)
        else:
            x = self.prior.arranged(self.scaled.from_unit(assemble(view, self.scouts, n or batch_size(view))))
        return x if n or len(under_way) else with_fast(view, x)

    def tell(self, state: State, x: Array, evaluations: list[Evaluation]) -> State:
        """The state after a batch: data, a new surrogate, draws of it, and a verdict."""
        probes = np.empty((0, self.d)) if state.probes is None else state.probes
        still_open = self.scaled.not_among(probes, np.concatenate([state.data.x, x]))
        before = None if state.parameters is None else self.view(state).model
        predicted = np.full((len(x), 2), np.nan)
        if before is not None:
            predicted = np.stack(before.predict(self.scaled.to_unit(x)), 1)
        state = replace(
            state,
            step=state.step + 1,
            data=marked(self.setup, state.data.append(x, evaluations, state.step)),
            predicted=np.concatenate([state.predicted, predicted]),
            previous=state.parameters,
            probes=None,
            explored=state.explored + len(probes) - len(still_open),
        )
        if before is None and not self._has_enough(state):
            return replace(state, verdict=design_verdict(self.setup, state.data))
        state = self._learn(state, before)
        if state.verdict.stop and state.explored == 0:
            return state  # a restarted search has no pending probes
        return _await(state, still_open) if len(still_open) else state

    def _has_enough(self, state: State) -> bool:
        return has_enough(self.setup, state.data)

    def _awaits(self, state: State) -> bool:
        """Whether a family of levels comes next, since those before it are found."""
        return awaited(self.setup, state.data) is not None and is_found(self.setup, state)

    def _learn(self, state: State, before: LogDensity | None) -> State:
        """The state with a new surrogate and the checks' verdict on it."""
        view = View(self.setup, state, before)
        view = learn(view, next_temperature(view))
        temperature = view.model.temperature
        if temperature > 1.0 or before is None or awaited(self.setup, view.state.data) is not None:
            verdict = Verdict(Phase.TEMPERED, f"searching at temperature {temperature:.3g}")
            return with_row(replace(view.state, verdict=verdict, findings={}), self.checks)
        return with_row(self._judge(view), self.checks)

    def _judge(self, view: View) -> State:
        """The state with the findings of the checks, the verdict, and the points that the checks request."""
        phase = view.state.verdict.phase
        view = self._look(view, Phase.LEARN)
        signals = view.findings
        verdict = next_verdict(phase, signals.values(), confirm=self.setup.confirm)
        view = view.replace(state=_restart_search(view.state, signals, holes_to_fill(self.setup)))
        if not verdict.armed or not self.setup.confirm:
            return replace(view.state, verdict=verdict, findings=signals)
        view = self._look(view, verdict.phase)
        search = [self._of_new_points(view, found) for name, found in view.findings.items() if name not in signals]
        verdict = next_verdict(phase, signals.values(), search)
        probes = np.concatenate([view.nowhere, *(finding.points for finding in search)])
        return replace(view.state, verdict=verdict, findings=view.findings, probes=probes if len(probes) else None)

    def _of_new_points(self, view: View, finding: Finding) -> Finding:
        """The finding without points that were evaluated before: their values were known when it requested them."""
        points = self.prior.arranged(finding.points)
        return replace(finding, points=self.scaled.not_among(points, view.state.data.x))

    def _look(self, view: View, phase: Phase) -> View:
        """The view with the findings of all checks of a phase, computed if missing."""
        for check in self.checks:
            if phase in check.phases and check.name not in view.findings:
                view = view.replace(findings={**view.findings, check.name: check.look(view)})
        return view

    def cool(self, state: State) -> State:
        """The state with a surrogate at temperature 1; refits only if the run ended at a higher temperature."""
        if state.parameters is None or state.parameters.temperature == 1.0:
            return state
        return learn(self.view(state), 1.0).state


def _restart_search(state: State, signals: Mapping[str, Finding], holes: int) -> State:
    """The state with the search for modes restarted, if the last batch moved the posterior far.

    Holes of the prior are filled again only if the feasibility of a point in the batch was predicted wrongly, or there
    are too few draws to tell, because earlier results of the search are then unreliable.
    """
    moved = signals["moved"].numbers["moved"] if "moved" in signals else 0.0
    if not moved > MOVED_FAR or state.explored == 0:
        return state
    error = signals["batch error"].numbers["batch_error"] if "batch error" in signals else 0.0
    return replace(state, explored=holes if np.isfinite(error) else 0)


def _await(state: State, probes: Array) -> State:
    """The state while probes are in flight: no further probes are requested, and the run does not end."""
    verdict = state.verdict
    if verdict.stop:
        verdict = Verdict(Phase.EXPLORE, f"waiting for {len(probes)} probes for further modes")
    return replace(state, probes=probes, verdict=verdict)
