"""The state of a run, and what follows from it without sampling: surrogate, evaluated points, local prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.inference.depths import FEASIBLE, relevant_depth
from surrogate.inference.draws import Draws, ScaledPrior
from surrogate.inference.setup import Setup
from surrogate.inference.state import State
from surrogate.log_density.protocol import LogDensity, Parameters
from surrogate.problem.exchanges import proven
from surrogate.rng import generator

__all__ = ["Snapshot"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A state with its problem, and what follows from both without sampling. Points t are in unit coordinates.

    Attributes:
        setup: Fixed inputs of the run.
        state: Current state of the run.
    """

    setup: Setup
    state: State

    def rng(self, *purpose: int | str) -> np.random.Generator:
        """Random generator seeded by the run, the step and the purpose: words or numbers that set its stream apart."""
        return generator(self.state.seed, self.state.step, *purpose)

    @property
    def nowhere(self) -> Array:
        """No points, with shape (0, d)."""
        return np.empty((0, self.setup.d))

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.setup.d

    @property
    def learns_outputs(self) -> bool:
        """Whether the current surrogate learns outputs of a simulator, or the first one will."""
        parameters = self.state.parameters
        return self.setup.observables is not None and (parameters is None or parameters.of_outputs)

    @cached_property
    def t(self) -> Array:
        """The evaluated points, with shape (n, d)."""
        return self.setup.scaled.to_unit(self.state.data.x)

    @cached_property
    def model(self) -> LogDensity:
        """The current surrogate.

        Raises:
            ValueError: If the run has none yet.
        """
        parameters = _known(self.state.parameters, "surrogate")
        return self.setup.latest.of((self.state.data, parameters), lambda: self.build(parameters))

    def build(self, parameters: Parameters) -> LogDensity:
        """The surrogate with the given parameters, conditioned on the evaluations."""
        problem = self.setup.problem(self.state.data)
        return self.setup.learner.build(problem.data, problem.t, parameters, device=problem.device)

    @property
    def draws(self) -> Draws:
        """Draws of the current surrogate.

        Raises:
            ValueError: If the run has none yet.
        """
        return _known(self.state.draws, "draws")

    @cached_property
    def orders(self) -> Indices:
        """Orders of the parameters proven to have equal log-likelihoods, the given one first, with shape (k, d)."""
        return proven(self.state.data, self.t, self.setup.moves, relevant_depth(self.d))

    def images(self, t: Array) -> Array:
        """The points t, with shape (m, d), in all proven orders of the parameters, with shape (k m, d)."""
        return np.concatenate([t[:, order] for order in self.orders])

    @cached_property
    def window(self) -> ScaledPrior:
        """The prior with circles cut where the posterior is smallest."""
        return self.setup.scaled.about(self.draws.posterior)

    @cached_property
    def noise(self) -> Array:
        """Total noise sd of each value, given and estimated, with shape (n,)."""
        parameters = self.state.parameters
        return np.hypot(self.state.data.noise, 0.0 if parameters is None else parameters.noise)

    def feasible(self, t: Array, model: LogDensity | None = None) -> Flags:
        """Mask of the points in the order of the prior that a surrogate predicts to be feasible, with shape (m,)."""
        model = model or self.model
        return self.setup.prior.in_order(t) & (model.feasibility.probability(model.whiten(t)) > FEASIBLE)

    def log_posterior(self, t: Array, model: LogDensity | None = None) -> Array:
        """Log-posterior of a surrogate minus y_max, per unit of t, at t in the window, with shape (m, d)."""
        model = model or self.model
        out = self.window.log_density(t)
        inside = np.isfinite(out)
        out[inside] += model.relative(t[inside]) * model.temperature
        return out


def _known(value: T | None, what: str) -> T:
    if value is None:
        msg = f"the run has no {what} yet: too few evaluations with a finite value"
        raise ValueError(msg)
    return value
