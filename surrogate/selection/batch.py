"""Batch selection: features of a pool -> transforms -> a rule -> a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from surrogate.selection.distances import kernel_distances
from surrogate.selection.features import Features
from surrogate.selection.information import bait, max_determinant
from surrogate.selection.selection import frank_wolfe, kmeans_pp, largest_cluster, max_dist
from surrogate.selection.transforms import PoolAndTrain, Transform, named_transform, posterior, weighted

__all__ = ["METHODS", "NEED_FEATURES", "Selection", "method_and_mode", "select_batch"]


@dataclass(frozen=True, eq=False)
class Selection:
    """A selected batch: indices into the pool, and a status.

    Attributes:
        indices: Distinct points of the pool in the order of selection, with shape (k,), k <= n.
        status: "complete", or why there are fewer points than requested.
    """

    indices: Tensor
    status: str

    @property
    def complete(self) -> bool:
        """Whether the batch has the requested size."""
        return self.status == "complete"


@dataclass(frozen=True)
class _Request:
    """Arguments of a selection rule."""

    split: PoolAndTrain
    n: int
    with_train: bool
    noise: float
    generator: torch.Generator | None

    @property
    def random(self) -> torch.Generator:
        if self.generator is None:
            msg = "this method draws random numbers: pass generator=torch.Generator().manual_seed(...)"
            raise ValueError(msg)
        return self.generator

    @property
    def centres(self) -> Features | None:
        return self.split.known if self.with_train else None


def _random(task: _Request) -> Tensor:
    order = torch.randperm(task.split.pool.n, generator=task.random, device=task.random.device)
    return order[: task.n].to(task.split.pool.device)


def _max_diag(task: _Request) -> Tensor:
    return torch.topk(task.split.pool.diag(), task.n).indices


def _max_det(task: _Request) -> Tensor:
    split = task.split.each(lambda features: features.to(torch.float64))
    if task.with_train:
        split = posterior(task.noise, scaled=False)(split)
    return max_determinant(split.pool, task.n, noise=task.noise)


def _bait(task: _Request, overselect: float) -> Tensor:
    split = task.split.each(lambda features: features.to(torch.float64))
    train = None if split.train is None else split.train.dense()
    return bait(split.pool.dense(), train, task.n, noise=task.noise, given=task.with_train, overselect=overselect)


def _frank_wolfe(task: _Request) -> Tensor:
    train = task.split.known.dense() if task.with_train else None
    return frank_wolfe(task.split.pool.dense(), train, task.n)


Rule = Callable[[_Request], Tensor]
METHODS: dict[str, tuple[Rule, str, str]] = {
    "random": (_random, "", "all points of the pool are chosen"),
    "maxdiag": (_max_diag, "", "all points of the pool are chosen"),
    "maxdet": (_max_det, "p", "the kernel has no variance left: its rank is exhausted"),
    "bait-f": (lambda task: _bait(task, 1.0), "p", "no point reduces the variance any more"),
    "bait-fb": (lambda task: _bait(task, 2.0), "p", "no point reduces the variance any more"),
    "fw": (_frank_wolfe, "p", "the features of all other points are zero"),
    "maxdist": (
        lambda t: max_dist(kernel_distances(t.split.pool, t.centres), t.n),
        "tp",
        "no distinct points are left",
    ),
    "kmeanspp": (
        lambda t: kmeans_pp(kernel_distances(t.split.pool, t.centres), t.n, generator=t.random),
        "tp",
        "no distinct points are left",
    ),
    "lcmd": (
        lambda t: largest_cluster(kernel_distances(t.split.pool, t.centres), t.n),
        "tp",
        "no distinct points are left",
    ),
}
"""Rules by name, each with its default mode and the reason to give if a batch is too short."""
NEED_FEATURES = ("bait-f", "bait-fb", "fw")
"""Rules that need explicit features."""


@torch.no_grad()
def select_batch(
    pool: Features,
    n: int,
    *,
    train: Features | None = None,
    method: str = "lcmd-tp",
    transforms: Sequence[str | Transform] = ("sketch:512",),
    weights: Tensor | None = None,
    feasible: Tensor | None = None,
    noise: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Selection:
    """Chooses the n points of a pool to label next.

    Args:
        pool: Features of the m points that can be labelled.
        n: Size of the batch, in 1..m.
        train: Features of the labelled points under the same map; needed in mode TP and by posteriors.
        method: One of ``METHODS`` with a mode: "lcmd-tp" starts from the labelled points, "lcmd-p" from the empty set.
            Without a suffix the method's default mode is used.
        transforms: Applied in this order: names with numbers (`named_transform`) or functions of a `PoolAndTrain`.
            Sketches are drawn from ``generator``; features that already have fewer dimensions are unchanged. Kernels
            without explicit features cannot be sketched: pass ().
        weights: Factors of the features of the pool after the transforms, with shape (m,): k becomes w k w'.
        feasible: Mask of the points that may be chosen, with shape (m,); the others are ignored.
        noise: Sd of the noise of a label, for "maxdet" and "bait".
        generator: Randomness of sketches, "random" and "kmeanspp".

    Returns:
        The batch. It is shorter than n, with the reason in ``status``, if fewer points are informative under the
        kernel; it is never filled up at random.

    Raises:
        ValueError: If a number is out of range, a name is unknown, ``train`` or ``generator`` is missing where it is
            needed, or a method needs explicit features that do not exist.
        TypeError: If ``pool`` or ``train`` are not features.

    References:
        Holzmueller, Zaverkin, Kaestner & Steinwart (2023), https://www.jmlr.org/papers/v24/22-0937.html
    """
    _check_features(pool, train)
    rule, with_train, shortage = _method(method, train)
    split, index = _candidates(PoolAndTrain(pool, train), feasible)
    _check_size(n, split.pool.n)
    for spec in transforms:
        transform = named_transform(spec, generator) if isinstance(spec, str) else spec
        split = transform(split)
    if weights is not None:
        split = weighted(weights if index is None else weights[index])(split)
    _check_finite(split)
    chosen = rule(_Request(split, n, with_train, noise, generator))
    status = "complete" if len(chosen) == n else f"{len(chosen)} of {n} points chosen: {shortage}"
    return Selection(chosen if index is None else index[chosen], status)


def _check_features(pool: Any, train: Any) -> None:
    for name, features in (("pool", pool), ("train", train)):
        if not isinstance(features, Features) and features is not None:
            msg = f"{name} must be features such as DenseFeatures(torch.as_tensor(x)), got {type(features).__name__}"
            raise TypeError(msg)


def method_and_mode(name: str) -> tuple[str, str]:
    """Rule and mode from a name: "lcmd" and "tp" for "lcmd-tp" or "lcmd"; the mode of "random" is "".

    Raises:
        ValueError: If there is no such method, or it has no modes.
    """
    base, mode = name, ""
    for suffix in ("p", "tp"):
        if name.endswith(f"-{suffix}"):
            base, mode = name[: -len(suffix) - 1], suffix
    if base not in METHODS or (mode and not METHODS[base][1]):
        msg = f"method must be one of {sorted(METHODS)}, optionally followed by -p or -tp if it has modes, got {name!r}"
        raise ValueError(msg)
    return base, mode or METHODS[base][1]


def _method(name: str, train: Features | None) -> tuple[Rule, bool, str]:
    """The rule, whether it starts from the labelled points, and the reason to give if it stops early."""
    base, mode = method_and_mode(name)
    rule, _, shortage = METHODS[base]
    if mode == "tp" and train is None:
        msg = f"{name!r} starts from the labelled points: pass train=, or choose {base + '-p'!r}"
        raise ValueError(msg)
    return rule, mode == "tp", shortage


def _candidates(split: PoolAndTrain, feasible: Tensor | None) -> tuple[PoolAndTrain, Tensor | None]:
    """The feasible points of the pool and their indices."""
    if feasible is None:
        return split, None
    if feasible.dtype != torch.bool or feasible.shape != (split.pool.n,):
        msg = f"feasible must be bool with shape ({split.pool.n},), got {feasible.dtype} {tuple(feasible.shape)}"
        raise ValueError(msg)
    index = torch.nonzero(feasible).flatten()
    return PoolAndTrain(split.pool.subset(index), split.train), index


def _check_size(n: int, m: int) -> None:
    if not 1 <= n <= m:
        msg = f"n must be in 1..{m}, the number of points that may be chosen, got {n}"
        raise ValueError(msg)


def _check_finite(split: PoolAndTrain) -> None:
    """Raises ValueError if a variance is not finite; the message names a point."""
    for name, features in (("pool", split.pool), ("train", split.train)):
        if features is not None and not bool((finite := torch.isfinite(features.diag())).all()):
            msg = f"the features of point {int((~finite).int().argmax())} of the {name} are not finite"
            raise ValueError(msg)
