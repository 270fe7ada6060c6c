"""The view of one iteration: everything that scouts and checks may use, computed on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.depths import MANY_PARAMETERS, RECENT_BATCHES, bulk_depth, relevant_depth
from surrogate.inference.draws import conditionals, draws_if_feasible
from surrogate.inference.findings import Finding
from surrogate.inference.mixed.sampling import LevelSamples, level_features, mixed_model, sample_levels
from surrogate.inference.mixed.weights import level_probabilities
from surrogate.inference.paths import PathSpread, inflation, spread_of_paths
from surrogate.inference.snapshot import Snapshot
from surrogate.inference.trilateration import mixture_of
from surrogate.log_density.coordinates.symmetry import Symmetry
from surrogate.log_density.protocol import LogDensity
from surrogate.output.probabilities import Probabilities
from surrogate.samplers.evidence import ImportanceSample, importance_sample
from surrogate.samplers.mixture import Mixture

__all__ = ["Exploration", "View"]

T = TypeVar("T")


_SAMPLE = 6000  # weighted draws of an iteration, of which an effective fraction of a twentieth still passes the checks
_MIXED = 2000  # of them to which a mixture is fitted
_LARGE_SAMPLE = 24_000  # with many parameters, where a proposal fits less well
_ERROR_FLOOR = 0.1  # nats added in quadrature to the sd of a prediction, because smaller errors do not matter
_CANDIDATES = 2000  # points of the prior from which holes are chosen
_FACE = 0.1  # probability at each end of a parameter without holes, because a trend extrapolates well enough


@dataclass(frozen=True, eq=False)
class Exploration:
    """Random points from which the search for further modes starts, drawn from one stream.

    Attributes:
        inner: Points in the inner part of the prior that are probably feasible, with shape (k, d).
        if_feasible: Draws of the posterior under the assumption that all points are feasible, with shape (m, d); none
            if no infeasible point is known.
        rng: The stream after these draws.
    """

    inner: Array
    if_feasible: Array
    rng: np.random.Generator


@dataclass(frozen=True, eq=False)
class View(Snapshot):
    """Everything that one iteration may use: a snapshot, and what is drawn from its surrogate.

    Attributes:
        before: The surrogate before the last batch; None if there was none.
        under_way: Points x in flight, with shape (k, d); for scouts.
        batch: Points t of the next batch chosen so far, with shape (k, d); for scouts.
        findings: Findings of earlier checks, by name; for checks.
    """

    before: LogDensity | None = None
    under_way: Array = field(default_factory=lambda: np.empty((0, 0)))
    batch: Array = field(default_factory=lambda: np.empty((0, 0)))
    findings: Mapping[str, Finding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("under_way", "batch"):
            object.__setattr__(self, name, getattr(self, name).reshape(-1, self.setup.d))

    def replace(self, **changes: Any) -> View:
        """A copy with changed fields that keeps all cached results, which must not depend on these fields."""
        out = replace(self, **changes)
        names = {each.name for each in fields(self)}
        vars(out).update({name: value for name, value in vars(self).items() if name not in names})
        return out

    def once(self, function: Callable[[View], T]) -> T:
        """The result of a function of this view, computed at its first use and kept like a cached property."""
        kept: dict[Callable[[View], Any], Any] = vars(self).setdefault("_kept", {})
        if function not in kept:
            kept[function] = function(self)
        return kept[function]

    @cached_property
    def sample(self) -> ImportanceSample:
        """Weighted draws of the surrogate posterior, and its evidence relative to y_max."""
        if self.setup.levels is not None:
            return self.level_samples.combined()
        return self.importance_sample(_SAMPLE if self.d <= MANY_PARAMETERS else _LARGE_SAMPLE)

    @cached_property
    def level_samples(self) -> LevelSamples:
        """Weighted draws of each level of a run with categories or integers, and its evidence.

        Raises:
            TypeError: If the run has no levels.
        """
        return self.sample_levels(_SAMPLE)

    def sample_levels(self, n: int, *purpose: str) -> LevelSamples:
        """About n weighted draws of the levels of a run with categories or integers, see ``level_samples``."""
        levels = mixed_model(self.model).levels

        def rng(*words: int | str) -> np.random.Generator:
            return self.rng("importance", *purpose, *words)

        return sample_levels(self.log_posterior, self.window, levels, self.draws, n, rng)

    def importance_sample(self, n: int, *purpose: str) -> ImportanceSample:
        """n weighted draws of the surrogate posterior, and its evidence relative to y_max."""
        if self.setup.levels is not None:
            return self.sample_levels(n, *purpose).combined()
        start = self.window.unrolled(self.draws.posterior)
        rng = self.rng("importance", *purpose)
        return importance_sample(self.log_posterior, start, n, rng, known=self.conditionals)

    def sample_equally(self, rng: np.random.Generator) -> Array:
        """Draws of the surrogate posterior with equal weights, in unit coordinates, with shape (m, d)."""
        return self.sample.x[rng.choice(len(self.sample.x), _MIXED, p=self.sample.weights)]

    @cached_property
    def known_modes(self) -> Mixture:
        """Gaussian components of the surrogate posterior, in unit coordinates."""
        rng = self.rng("known modes")
        return mixture_of(self.sample_equally(rng), rng)

    @cached_property
    def modes_in_one_order(self) -> Mixture:
        """Components of the posterior as `known_modes`, of which images under proven exchanges count once."""
        if len(self.orders) == 1:
            return self.known_modes
        rng, data = self.rng("modes in one order"), self.state.data
        draws = self.sample_equally(rng)
        best = self.t[np.argmax(np.where(data.finite, data.y, -np.inf))]
        return mixture_of(Symmetry.about(self.orders, best, draws).forward(draws), rng)

    @cached_property
    def conditionals(self) -> Mixture | None:
        """A mixture close to the posterior where the surrogate knows its conditionals; None elsewhere."""
        return conditionals(self.model, self.window, self.draws.posterior)

    def errors(self, *, everywhere: bool = False) -> Array:
        """Standardised errors of the last batches, either of relevant points or of all."""
        data, recent = self.state.data, self.state.recent_rows(RECENT_BATCHES)
        y, (mean, sd) = data.y[recent], self.state.predicted[recent].T
        z = (y - mean) / np.sqrt(sd**2 + _ERROR_FLOOR**2 + self.noise[recent] ** 2)
        if everywhere:
            return z
        return z[(data.y_max - mean < bulk_depth(self.d)) & (data.y_max - y < relevant_depth(self.d))]

    @cached_property
    def inflation(self) -> float:
        """Factor on the surrogate's variance required by its last prediction errors, at least 1."""
        return inflation(self.errors())

    @cached_property
    def spread(self) -> PathSpread:
        """Divergences of the posteriors of paths from that of the surrogate's mean."""
        features = None if self.setup.levels is None else self.features
        return spread_of_paths(self.model, self.sample, self.rng("signals"), inflate=self.inflation, features=features)

    @cached_property
    def probabilities(self) -> Probabilities:
        """Probabilities of the levels of a run with categories or integers, with their errors."""
        rng, y_max = self.rng("probabilities"), self.model.y_max
        return level_probabilities(self.model, self.level_samples, y_max, rng, inflate=self.inflation)

    def features(self, t: Array) -> Array:
        """Features by whose moments posteriors are compared, with shape (m, e): t, or ``level_features``."""
        if self.setup.levels is None:
            return t
        return level_features(self.setup.levels, t, self.level_samples.probability)

    @cached_property
    def exploration(self) -> Exploration:
        """Starting points of the search for further modes; empty except in its first round."""
        rng = self.rng("explore")
        if self.state.explored:
            return Exploration(self.nowhere, self.nowhere, rng)
        u = rng.random((_CANDIDATES, self.d))
        u = np.where(self.setup.prior.periodic | self.setup.prior.discrete, u, _FACE + (1.0 - 2.0 * _FACE) * u)
        inner = self.window.unrolled(self.setup.scaled.to_unit(self.setup.prior.quantile(u)))
        inner = inner[self.feasible(inner)]
        anywhere = self.model.feasibility.everywhere
        return Exploration(inner, self.nowhere if anywhere else draws_if_feasible(self.model, self.draws, rng), rng)
