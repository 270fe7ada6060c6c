"""The surrogate of log-likelihoods with categorical and integer parameters: one process per group of levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array, Flags, Indices
from surrogate.linalg.lowrank import ColumnAccess
from surrogate.log_density.base import LogDensityBase, discounted, limited
from surrogate.log_density.feasibility.choice import fit_feasibility
from surrogate.log_density.feasibility.protocol import Everywhere, Feasibility
from surrogate.log_density.mixed.embedding import Embedding, coordinates_of
from surrogate.log_density.mixed.parameters import MixedParameters
from surrogate.log_density.model import ScalarLogDensity
from surrogate.log_density.model import build as build_scalar
from surrogate.log_density.remainder import Remainder
from surrogate.problem.dataset import FAILED, INFEASIBLE, Dataset
from surrogate.problem.levels import Levels

__all__ = ["Group", "LevelLogDensity", "MixedLogDensity", "build"]

_APART = 3.0  # distance between two categories, or between the ends of the integers, in sds
_UNKNOWN = 100.0  # sd, in units of the temperature, of the value at a level that no process describes yet


@dataclass(frozen=True, eq=False)
class Group:
    """A group of levels with its process.

    Attributes:
        embedding: Embedding of the levels.
        rows: Rows of the finite data with these levels, with shape (k,).
        level: Levels of these rows, with shape (k,).
        y: Log-likelihoods of these rows, with shape (k,).
        model: The process.
    """

    embedding: Embedding
    rows: Indices
    level: Indices
    y: Array
    model: ScalarLogDensity


@dataclass(frozen=True, eq=False)
class MixedLogDensity(LogDensityBase[MixedParameters]):
    """A fitted surrogate with independent groups; its whitened coordinates include those of levels.

    A level that no process describes yet has the best value as its mean, and a large sd that covariances do not
    include.

    Attributes:
        levels: All levels of the problem.
        groups: Groups with their processes.
    """

    levels: Levels
    groups: tuple[Group, ...]

    @property
    def device(self) -> torch.device:
        """Device on which ``covariance`` is computed."""
        return self.groups[0].model.device

    @cached_property
    def group_of(self) -> Indices:
        """The group of each level, with shape (L,); -1 for a level that no process describes yet."""
        out = np.full(len(self.levels), -1)
        for i, group in enumerate(self.groups):
            out[group.embedding.members] = i
        return out

    @cached_property
    def _apart(self) -> Array:
        return _APART * coordinates_of(self.levels, np.arange(len(self.levels)))

    def _parts(self, t: Array) -> Iterator[tuple[Group, Any, Array, float]]:
        """For each group with any of the points: their mask, their coordinates z, and the value of its own maximum."""
        level = self.levels.index(t)
        if len(self.groups) == 1 and len(self.groups[0].embedding.members) == len(self.levels):
            yield self.groups[0], slice(None), self.groups[0].embedding.forward(t, level), 0.0
            return
        of = self.group_of[level]
        for i, group in enumerate(self.groups):
            rows = np.flatnonzero(of == i)
            if len(rows):
                offset = (group.model.y_max - self.y_max) / self.temperature
                yield group, rows, group.embedding.forward(t[rows], level[rows]), offset

    def _values(self, t: Array, function: Callable[[ScalarLogDensity, Array], Array]) -> Array:
        out = np.zeros(len(t))  # as high as the best value where nothing is known
        for group, rows, z, offset in self._parts(t):
            out[rows] = function(group.model, z) + offset
        return out

    def whiten(self, t: Array) -> Array:
        """Whitened continuous coordinates, then those of the levels, with shape (m, e).

        Parameters that do not act at a level lie in the centre: no distance and no feasibility depends on them.
        """
        centre = np.zeros(self.levels.d)
        centre[self.levels.continuous] = self.parameters.whitening.centre
        u = self.parameters.whitening.whiten(self.levels.without_idle(t, centre)[:, self.levels.continuous])
        return np.concatenate([u, self._apart[self.levels.index(t)]], 1)

    def bare_mean(self, t: Array) -> Array:
        """Mean of (y - y_max) / temperature without trust region and feasibility, with shape (m,)."""
        return self._values(t, lambda model, z: model.bare_mean(z))

    def smooth(self, t: Array) -> Array:
        """Mean of (y - y_max) / temperature, lowered outside the trust region of each group, with shape (m,)."""
        return self._values(t, lambda model, z: model.smooth(z))

    def if_feasible(self, t: Array) -> Array:
        """The result of ``smooth``, limited from above where points are known to be infeasible, with shape (m,)."""
        value = self._values(t, lambda model, z: model.if_feasible(z))
        if self.feasibility.everywhere:
            return value
        return limited(value, self.feasibility.probability(self.whiten(t)))

    def relative(self, t: Array, *, floor: float = 0.0) -> Array:
        """The result of ``if_feasible`` plus the log of the probability of being feasible, with shape (m,).

        The probability counts as at least ``floor``.
        """
        value = self._values(t, lambda model, z: model.relative(z, floor=floor))
        if self.feasibility.everywhere:
            return value
        return discounted(value, self.feasibility.probability(self.whiten(t)), floor)

    def predict(self, t: Array) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood given that it is feasible, each with shape (m,)."""
        mean, sd = np.full(len(t), self.y_max), np.full(len(t), _UNKNOWN * self.temperature)
        for group, rows, z, _ in self._parts(t):
            mean[rows], sd[rows] = group.model.predict(z)
        return mean, sd

    def mean(self, t: Array) -> Array:
        """The mean of ``predict`` alone, with shape (m,)."""
        mean = np.full(len(t), self.y_max)
        for group, rows, z, _ in self._parts(t):
            mean[rows] = group.model.mean(z)
        return mean

    def covariance(self, t: Array, weights: Array) -> ColumnAccess:
        """Covariance of weights times values at t by columns: a block for each group."""
        parts = []
        for group, rows, z, _ in self._parts(t):
            if isinstance(rows, slice):
                return group.model.covariance(z, weights)
            parts.append((torch.as_tensor(rows, device=self.device), group.model.covariance(z, weights[rows])))
        return _Blocks(parts, len(t))

    def trend_depth(self, t: Array) -> Array | None:
        """None, because the trend of a group is not a quadratic of one level."""
        del t
        return None

    def remainder(self, t: Array, y: Array) -> Remainder | None:
        """None, because each level has a trend of its own."""
        del t, y
        return None

    def left_out_depth(self, y: Array) -> Array:
        """Leave-one-out prediction of the depth below y_max for each finite value y, with shape (n,)."""
        out = np.zeros(len(y))
        for group in self.groups:
            out[group.rows] = group.model.left_out_depth(y[group.rows]) + self.y_max - group.model.y_max
        return out

    def deviations(self, t: Array, count: int, rng: np.random.Generator, *, inflate: float = 1.0) -> Array:
        """Joint paths of (y - y_max) / temperature minus its mean, with shape (count, m); groups are independent."""
        out = np.zeros((count, len(t)))
        for group, rows, z, _ in self._parts(t):
            out[:, rows] = group.model.deviations(z, count, rng, inflate=inflate)
        return out + self.feasibility.deviations(self.whiten(t), count, rng)

    def predictor(
        self, names: tuple[str, ...], bounds: Array, location: Array, scale: Array, origin: Array | None = None
    ) -> Any:
        """Not available.

        Raises:
            ValueError: Always; the message gives the alternative.
        """
        del names, bounds, location, scale, origin
        msg = "a surrogate with categories or integers cannot be exported as a predictor: use result.predict(x)"
        raise ValueError(msg)

    def at_level(self, level: int, y_max: float) -> LevelLogDensity:
        """The surrogate of one level as a function of its continuous parameters, relative to ``y_max``."""
        return LevelLogDensity(self, level, y_max)


@dataclass(frozen=True, eq=False)
class LevelLogDensity:
    """The surrogate of one level: points are the continuous part of t, with shape (m, d - k).

    Attributes:
        whole: The surrogate of all levels.
        level: Number of the level.
        y_max: Reference of its values.
    """

    whole: MixedLogDensity
    level: int
    y_max: float

    @property
    def _offset(self) -> float:
        return (self.whole.y_max - self.y_max) / self.temperature

    def _full(self, t: Array) -> Array:
        return self.whole.levels.points(t, self.level)

    @property
    def temperature(self) -> float:
        """Temperature at which values are modelled."""
        return self.whole.temperature

    @property
    def exact(self) -> bool:
        """Whether trends alone explain the data."""
        return self.whole.exact

    @property
    def coarse(self) -> bool:
        """Whether the fit explains deep points by noise of more than a tenth of their depth."""
        return self.whole.coarse

    @property
    def device(self) -> torch.device:
        """Device on which ``covariance`` is computed."""
        return self.whole.device

    @property
    def feasibility(self) -> Feasibility:
        """Classifier of feasible points, in whitened coordinates."""
        return self.whole.feasibility

    @property
    def infeasible(self) -> Array:
        """Points of all levels that count as infeasible, in whitened coordinates."""
        return self.whole.infeasible

    def whiten(self, t: Array) -> Array:
        """Whitened coordinates, those of the level included."""
        return self.whole.whiten(self._full(t))

    def predict(self, t: Array) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood in nats where it is feasible, each with shape (m,)."""
        return self.whole.predict(self._full(t))

    def mean(self, t: Array) -> Array:
        """The mean of ``predict`` alone, with shape (m,)."""
        return self.whole.mean(self._full(t))

    def bare_mean(self, t: Array) -> Array:
        """Mean of the value without trust region and feasibility, with shape (m,)."""
        return self.whole.bare_mean(self._full(t)) + self._offset

    def smooth(self, t: Array) -> Array:
        """Mean of the value, lowered outside the trust region around the data, with shape (m,)."""
        return self.whole.smooth(self._full(t)) + self._offset

    def if_feasible(self, t: Array) -> Array:
        """The result of ``smooth``, limited from above where points are known to be infeasible, with shape (m,)."""
        return self.whole.if_feasible(self._full(t)) + self._offset

    def relative(self, t: Array, *, floor: float = 0.0) -> Array:
        """The result of ``if_feasible`` plus the log of the probability of being feasible, with shape (m,)."""
        return self.whole.relative(self._full(t), floor=floor) + self._offset

    def deviations(self, t: Array, count: int, rng: np.random.Generator, *, inflate: float = 1.0) -> Array:
        """Joint paths of the value minus its mean, with shape (count, m)."""
        return self.whole.deviations(self._full(t), count, rng, inflate=inflate)

    def covariance(self, t: Array, weights: Array) -> ColumnAccess:
        """Covariance of weights times values at t, by columns."""
        return self.whole.covariance(self._full(t), weights)

    def trend_depth(self, t: Array) -> Array | None:
        """None, for the reason given in ``MixedLogDensity.trend_depth``."""
        del t
        return None

    def remainder(self, t: Array, y: Array) -> Remainder | None:
        """None, because each level has a trend of its own."""
        del t, y
        return None

    def left_out_depth(self, y: Array) -> Array:  # noqa: ARG002 - see below
        """Leave-one-out prediction, from all levels, of the depth below y_max of each finite y of this level.

        Args:
            y: The values of the level, with shape (n,); not used, because the surrogate knows them.
        """
        group = self.whole.groups[self.whole.group_of[self.level]]
        depth = group.model.left_out_depth(group.y)[group.level == self.level]
        return depth + self.y_max - group.model.y_max

    def predictor(
        self, names: tuple[str, ...], bounds: Array, location: Array, scale: Array, origin: Array | None = None
    ) -> Any:
        """Not available, see ``MixedLogDensity.predictor``."""
        return self.whole.predictor(names, bounds, location, scale, origin)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """A block-diagonal matrix with shape (m, m), made of blocks with their rows."""

    parts: Sequence[tuple[Tensor, ColumnAccess]]
    size: int

    def diag(self) -> Tensor:
        """Its diagonal, with shape (m,)."""
        out = torch.zeros(self.size, dtype=torch.float64, device=self.parts[0][0].device)
        for rows, part in self.parts:
            out[rows] = part.diag()
        return out

    def column(self, i: int) -> Tensor:
        """Column i, with shape (m,)."""
        rows, part, place = self._places[int(i)]
        out = torch.zeros(self.size, dtype=torch.float64, device=rows.device)
        out[rows] = part.column(place)
        return out

    @cached_property
    def _places(self) -> dict[int, tuple[Tensor, ColumnAccess, int]]:
        return {i: (rows, part, place) for rows, part in self.parts for place, i in enumerate(rows.tolist())}


def build(data: Dataset, t: Array, parameters: MixedParameters, levels: Levels, *, device: str) -> MixedLogDensity:
    """The surrogate with these parameters given the first ``parameters.n`` rows of the data.

    Args:
        data: Evaluated points.
        t: Their unit coordinates, with shape (n, d).
        parameters: Numbers of the surrogate.
        levels: All levels of the problem.
        device: Device of the linear algebra.
    """
    data, t = data.head(parameters.n), t[: parameters.n]
    level = levels.index(t)
    groups = []
    for group in parameters.groups:
        embedding = Embedding.of(levels, group.members, group.columns)
        mine: Flags = np.isin(level, group.members) & data.finite
        z = embedding.forward(t[mine], level[mine])
        model = build_scalar(data.where(mine), z, group.surrogate, device=device)
        groups.append(Group(embedding, np.flatnonzero(mine[data.finite]), level[mine], data.y[mine], model))
    infeasible = (data.status == INFEASIBLE) | (data.status == FAILED)
    out = MixedLogDensity(parameters, Everywhere(), data.y_max, np.empty((0, 0)), levels, tuple(groups))
    u = out.whiten(t)
    feasibility = fit_feasibility(
        parameters.groups[0].surrogate.feasibility, u, ~infeasible, doubtful=data.status == FAILED, device=device
    )
    return replace(out, feasibility=feasibility, infeasible=u[infeasible])
