"""The learner of surrogates with categorical and integer parameters: which levels share a process, by evidence.

At first all levels at which the same parameters act, a family, share one process, whose kernel and trend tell levels
apart by their coordinates; a family without a few values has none. Splits by each discrete parameter, and by all, are
tried; a group of a split has a trend, a kernel and warps of its own, and may leave out parameters on which its
log-likelihood does not depend. The partition with the largest evidence of the values that matter is taken, minus a cost
for each hyperparameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.fit import density_given, fit_structure
from surrogate.log_density.learner import ScalarLearner
from surrogate.log_density.mixed.embedding import Embedding
from surrogate.log_density.mixed.model import MixedLogDensity, build
from surrogate.log_density.mixed.parameters import GroupParameters, MixedParameters
from surrogate.log_density.parameters import Structure, SurrogateParameters, relevant_depth, trend_size
from surrogate.log_density.protocol import Parameters
from surrogate.log_density.search.structure import StructureSearch
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.levels import Family, Levels

__all__ = ["MixedLearner", "begun", "partitions"]

_COST = 1.0  # nats per hyperparameter of a group: half the log of about ten points
_OMISSION = (
    3.0  # nats by which omitting a parameter must raise the evidence, because few points may not show its effect
)
_MARGIN = 2.0  # nats by which another partition must win
_SEARCH_EVERY = 1.2  # factor by which the data have grown when partitions are searched again
_SPARE = 2  # finite values that a group of a split needs in addition to one and a half per continuous parameter
_MOST_GROUPS = 24  # largest number of groups in a split, because each needs a fit
_MOST_IDLE_GROUPS = 6  # largest number of groups in a partition for which parameters without effect are searched
_EVALUATIONS = 30  # evaluations in the fit of a group of a new partition
_FEW_DRAWS = 50  # draws of a group below which those of all levels define its coordinates


@dataclass(frozen=True, eq=False)
class MixedLearner:
    """Learner of processes for groups of levels.

    Attributes:
        levels: All levels of the problem.
        low: Lower ends of the support of t, with shape (d,).
        high: Upper ends.
        periodic: Mask of the periodic parameters, with shape (d,).
        search: Parts of each process's structure that are searched.
    """

    levels: Levels
    low: Array
    high: Array
    periodic: Flags
    search: StructureSearch = field(default_factory=StructureSearch)

    def fit(
        self, problem: FitProblem, before: Parameters | None, *, cold_start: bool, search: bool, noise: bool
    ) -> MixedParameters:
        """Parameters that fit the data, see ``surrogate.log_density.protocol.Learner``."""
        last = None if before is None else _mixed(before)
        options = {"cold_start": cold_start, "search": search, "noise": noise}
        known = () if last is None else last.groups
        groups = tuple(self._refitted(problem, group, **options) for group in known)
        seen = {int(level) for group in known for level in group.members}
        groups += tuple(
            self._fitted(problem, self._embedding(family.members), None)
            for family in begun(self.levels, problem.t[problem.data.finite])
            if int(family.members[0]) not in seen
        )
        searched = 0 if last is None else last.searched
        if self.search.structures and len(problem.data) >= _SEARCH_EVERY * searched and last is not None:
            groups, searched = self._searched(problem, groups), len(problem.data)
        return self._parameters(problem, tuple(group.parameters for group in groups), searched)

    def open_minded(self, problem: FitProblem) -> MixedParameters:
        """Parameters of one process for each family of levels, with a constant mean, which excludes nothing."""
        groups = []
        for family in begun(self.levels, problem.t[problem.data.finite]):
            embedding = self._embedding(family.members)
            own = _Own.of(replace(problem, draws=None), embedding)
            surrogate = self._learner(embedding).open_minded(own.problem)
            groups.append(GroupParameters(embedding.members, embedding.columns, surrogate))
        return self._parameters(problem, tuple(groups), 0)

    def build(self, data: Dataset, t: Array, parameters: Parameters, *, device: str = "cpu") -> MixedLogDensity:
        """The surrogate with these parameters, given the data to which they were fitted."""
        return build(data, t, _mixed(parameters), self.levels, device=device)

    def _embedding(self, members: Indices) -> Embedding:
        """The embedding of levels of one family, with all parameters that act."""
        acts = self.levels.acts[members[0], self.levels.continuous]
        return Embedding.of(self.levels, members, self.levels.continuous[acts])

    def _learner(self, embedding: Embedding) -> ScalarLearner:
        """The learner of one process, in which coordinates of levels are neither warped nor coupled."""
        if embedding.is_constant:
            return ScalarLearner(Structure.plain(np.zeros(1), np.ones(1), np.zeros(1, dtype=bool)), self.search)
        unbounded = np.full(embedding.table.shape[1], np.inf)
        low = np.concatenate([self.low[embedding.columns], -unbounded])
        high = np.concatenate([self.high[embedding.columns], unbounded])
        periodic = np.concatenate([self.periodic[embedding.columns], np.isnan(unbounded)])
        search = self.search if not len(unbounded) else replace(self.search, couplings=False)
        return ScalarLearner(Structure.plain(low, high, periodic), search)

    def _parameters(self, problem: FitProblem, groups: tuple[GroupParameters, ...], searched: int) -> MixedParameters:
        d = len(self.levels.continuous)
        whitening = Whitening.identity(d)
        if problem.draws is not None:
            whitening = Whitening.of(problem.draws[:, self.levels.continuous])
        return MixedParameters(groups, whitening, len(problem.data), searched)

    def _refitted(self, problem: FitProblem, group: GroupParameters, **options: bool) -> _Fitted:
        """A group of the last partition, refitted."""
        embedding = Embedding.of(self.levels, group.members, group.columns)
        own = _Own.of(problem, embedding)
        return _Fitted(own, self._learner(embedding).fit(own.problem, group.surrogate, **options))

    def _fitted(self, problem: FitProblem, embedding: Embedding, noise: float | None) -> _Fitted:
        """A group with the plain structure, from a cold start."""
        own = _Own.of(problem, embedding)
        plain = self._learner(embedding).plain
        return _Fitted(own, fit_structure(own.problem, plain, log_noise=noise, max_evaluations=_EVALUATIONS))

    def _searched(self, problem: FitProblem, groups: tuple[_Fitted, ...]) -> tuple[_Fitted, ...]:
        """The groups, or those of a partition with a larger evidence, without parameters that have no effect."""
        near = self._near(problem)
        noise = groups[0].surrogate.hyper.log_noise
        present = {tuple(group.embedding.members) for group in groups}
        groups = self._without_idle(problem, groups, near)
        best, score = groups, sum(group.score(near) for group in groups) + _MARGIN
        seen = {level for members in present for level in members}
        families = [family for family in self.levels.families if family.members[0] in seen]
        for members in partitions(self.levels, families):
            if {tuple(group) for group in members} == present:
                continue
            if not self._have_enough(problem, members):
                continue
            other = tuple(self._fitted(problem, self._embedding(group), noise) for group in members)
            other = self._without_idle(problem, other, near)
            value = sum(group.score(near) for group in other)
            if value > score:
                best, score = other, value
        return best

    def _near(self, problem: FitProblem) -> Flags:
        """Mask of the rows that decide between partitions, (n,): high values of all levels, and the best of each."""
        level, d = self.levels.index(problem.t), len(self.levels.continuous)
        near = _high(problem, np.ones(len(level), dtype=bool), trend_size(problem.d) + _SPARE)
        for one in range(len(self.levels)):
            near |= _high(problem, level == one, d + _SPARE, depth=0.0)
        return near

    def _have_enough(self, problem: FitProblem, members: list[Indices]) -> bool:
        """Whether each group of a partition has enough finite values for a separate process."""
        level = self.levels.index(problem.t[problem.data.finite])
        pairs = [(int(np.isin(level, group).sum()), len(self._embedding(group).columns)) for group in members]
        return len(members) <= _MOST_GROUPS and all(n >= int(1.5 * d) + _SPARE for n, d in pairs)

    def _without_idle(self, problem: FitProblem, groups: tuple[_Fitted, ...], near: Flags) -> tuple[_Fitted, ...]:
        """The groups of a split without parameters whose omission raises the evidence, with some included again.

        Nothing is left out where it was declared which parameters act.
        """
        if len(self.levels.families) > 1 or not 1 < len(groups) <= _MOST_IDLE_GROUPS:
            return groups
        return tuple(self._leaner(problem, group, near) for group in groups)

    def _leaner(self, problem: FitProblem, group: _Fitted, near: Flags) -> _Fitted:
        """The group after omitting or including parameters, one at a time, as long as that raises the evidence.

        The evidence of its own highest values counts too. The search starts from the current or from all parameters.
        """
        near = near | _high(problem, group.own.rows, trend_size(len(self.levels.continuous)) + _SPARE)
        whole = self._embedding(group.embedding.members)
        if len(group.embedding.columns) < len(whole.columns):
            noise = group.surrogate.hyper.log_noise
            group = max(group, self._fitted(problem, whole, noise), key=lambda one: one.score(near))
        score = group.score(near)
        while True:
            columns = group.embedding.columns
            changes = [np.setdiff1d(columns, [j]) for j in columns] if len(columns) > 1 else []
            changes += [np.union1d(columns, [j]) for j in np.setdiff1d(whole.columns, columns)]
            members, noise = group.embedding.members, group.surrogate.hyper.log_noise
            tried = [self._fitted(problem, Embedding.of(self.levels, members, c), noise) for c in changes]
            scores = [other.score(near) for other in tried]
            if not scores or max(scores) <= score:
                return group
            best = int(np.argmax(scores))
            group, score = tried[best], scores[best]


def _high(problem: FitProblem, rows: Flags, fewest: int, *, depth: float = 0.5) -> Flags:
    """Mask of the finite values of some rows within a part of the relevant depth of the best, or among the best few."""
    finite = problem.data.finite & rows
    if not finite.any():
        return finite
    y = np.where(finite, problem.data.y, -np.inf)
    below = (y.max() - y) / problem.temperature
    out = finite & (below < depth * relevant_depth(problem.d))
    out[np.argsort(-y, kind="stable")[: min(fewest, int(finite.sum()))]] = True
    return out


@dataclass(frozen=True, eq=False)
class _Own:
    """The part of a problem that belongs to a group of levels.

    Attributes:
        embedding: The coordinates of the group.
        rows: Mask of the rows with finite values of its levels, with shape (n,).
        problem: The problem in these coordinates.
    """

    embedding: Embedding
    rows: Flags
    problem: FitProblem

    @classmethod
    def of(cls, problem: FitProblem, embedding: Embedding) -> _Own:
        """The part that belongs to a group."""
        level = embedding.levels.index(problem.t)
        rows = np.isin(level, embedding.members) & problem.data.finite
        z = embedding.forward(problem.t[rows], level[rows])
        draws = problem.draws
        if embedding.is_constant:
            draws = None
        if draws is not None:
            mine = np.isin(embedding.levels.index(draws), embedding.members)
            draws = embedding.spread(draws[mine] if int(mine.sum()) >= _FEW_DRAWS else draws)
        return cls(embedding, rows, replace(problem, data=problem.data.where(rows), t=z, draws=draws))


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A group with its fitted process."""

    own: _Own
    surrogate: SurrogateParameters

    @property
    def embedding(self) -> Embedding:
        """The coordinates of the group."""
        return self.own.embedding

    @property
    def parameters(self) -> GroupParameters:
        """The parameters of the group."""
        return GroupParameters(self.embedding.members, self.embedding.columns, self.surrogate)

    def score(self, near: Flags) -> float:
        """Log density of the near values given the others, minus the costs of hyperparameters and omissions."""
        far = ~near[self.own.rows]
        if far.all():
            return 0.0
        value = density_given(self.own.problem, self.surrogate, far)
        omitted = len(self.embedding.levels.continuous) - len(self.embedding.columns)
        return value - _COST * len(self.surrogate.hyper.vector()) - _OMISSION * omitted


def begun(levels: Levels, t: Array) -> tuple[Family, ...]:
    """The families of levels that have enough finite values for a process, at points t with shape (n, d).

    These are two more than parameters act, of all levels of a family together.
    """
    level = levels.index(t)
    return tuple(one for one in levels.families if np.isin(level, one.members).sum() >= len(one.columns) + _SPARE)


def partitions(levels: Levels, families: Sequence[Family] | None = None) -> list[list[Indices]]:
    """Partitions of the levels: by families, by the values of each discrete parameter as well, and each level alone.

    Args:
        levels: All levels.
        families: Some of the families; all of them unless given.
    """
    families = levels.families if families is None else families
    out = [[family.members for family in families]]
    for codes in levels.codes.T:
        split = [family.members[codes[family.members] == code] for family in families for code in np.unique(codes)]
        out.append([members for members in split if len(members)])
    if len(levels.parameters) > 1:
        out.append([np.array([level]) for family in families for level in family.members])
    return out


def _mixed(parameters: Parameters) -> MixedParameters:
    """The parameters, after checking their type.

    Raises:
        TypeError: If they are not.
    """
    if not isinstance(parameters, MixedParameters):
        msg = f"a surrogate with levels needs MixedParameters, got {type(parameters).__name__} from another run"
        raise TypeError(msg)
    return parameters
