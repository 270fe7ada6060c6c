"""Rules that choose a batch: max-det of a kernel matrix, distances to chosen points, and Frank-Wolfe."""

from __future__ import annotations

import torch
from torch import Tensor

from surrogate.linalg.lowrank import ColumnAccess, pivoted_cholesky
from surrogate.selection.distances import Distances

__all__ = ["frank_wolfe", "kmeans_pp", "largest_cluster", "max_det", "max_dist"]

_AHEAD = 32  # columns computed at once
_CROWD = 512  # points considered when guessing which columns


def max_det(gram: ColumnAccess, n: int) -> Tensor:
    """Indices of the batch that greedily maximises the determinant of its kernel matrix.

    With a posterior covariance as the kernel each point has the largest variance given those chosen before it; with the
    kernel scaled by weights, the largest weighted variance. Fewer than n indices are returned if the rank of the kernel
    is exhausted.

    Args:
        gram: Access to the kernel matrix over m candidates.
        n: Number of points, in 1..m.

    Returns:
        At most n distinct indices in the order of selection, for n columns of the kernel and O(m n^2) operations.

    Raises:
        ValueError: If n is not in 1..m.
    """
    _, pivots = pivoted_cholesky(gram, n, tolerance=1e-15)
    return pivots.to(torch.int64)


def largest_cluster(distances: Distances, n: int) -> Tensor:
    """Indices chosen by LCMD: the farthest point in the cluster with the largest sum of squared distances.

    A cluster consists of the points nearest to a centre; the labelled points are centres too. Dense regions that are
    poorly covered come first, and each new point shrinks its cluster. If there are no centres, the first point is that
    with the largest norm.

    Args:
        distances: Distances of m points; modified in place.
        n: Number of points, in 1..m.

    Returns:
        At most n distinct indices; fewer when every point is a copy of a centre.

    References:
        Holzmueller et al. (2023), https://www.jmlr.org/papers/v24/22-0937.html, sec. 4.2.6.
    """
    first = _first(distances)
    sizes = torch.zeros(distances.centres + n, dtype=torch.float64, device=distances.squared.device)
    sizes.index_add_(0, distances.owner, distances.squared.double())
    chosen = first + _by_clusters(distances, sizes, n - len(first), preview=True)
    return torch.tensor(chosen, dtype=torch.int64, device=distances.squared.device)


def _by_clusters(distances: Distances, sizes: Tensor, n: int, *, preview: bool) -> list[int]:
    """At most n further points. ``sizes``, those of the clusters with room for n more, is modified in place."""
    likely = (lambda: _cluster_preview(distances, sizes)) if preview else None
    chosen: list[int] = []
    while len(chosen) < n:
        i = int(torch.where(distances.owner == sizes.argmax(), distances.squared, -1.0).argmax())
        if not float(distances.squared[i]) > 0:
            break
        new = distances.centres
        change = distances.add(i, likely)
        sizes.index_add_(0, change.owner, change.before.double(), alpha=-1.0)
        sizes[new] = distances.squared[change.index].double().sum()
        chosen.append(i)
    return chosen


def _cluster_preview(distances: Distances, sizes: Tensor) -> Tensor:
    """Likely next points: those that the rule would choose among the far points of the largest clusters."""
    sizes = sizes[: distances.centres]
    largest = sizes.topk(min(_AHEAD, len(sizes))).indices
    room = sizes.new_zeros(distances.centres + _AHEAD)
    room[largest] = sizes[largest]
    owner = distances.owner.long()
    radius = distances.squared.new_full((len(room),), torch.inf)
    radius[largest] = torch.finfo(radius.dtype).tiny
    radius.scatter_reduce_(0, owner, distances.squared, "amax")
    far = distances.squared / radius[owner]
    index = far.topk(min(_CROWD, len(far))).indices
    chosen = _by_clusters(distances.restricted(index), room, _AHEAD, preview=False)
    return index[torch.tensor(chosen[1:], dtype=torch.int64, device=index.device)]


def max_dist(distances: Distances, n: int) -> Tensor:
    """Indices chosen farthest first: each is the point farthest from all centres (k-centre greedy, Core-Set).

    Args and Returns: As `largest_cluster`.

    References:
        Sener & Savarese (2018), arXiv:1708.00489.
    """
    first = _first(distances)
    chosen = first + _by_distance(distances, n - len(first), preview=True)
    return torch.tensor(chosen, dtype=torch.int64, device=distances.squared.device)


def _by_distance(distances: Distances, n: int, *, preview: bool) -> list[int]:
    """Indices of at most n points, each the farthest from those chosen before."""
    likely = (lambda: _distance_preview(distances)) if preview else None
    chosen: list[int] = []
    while len(chosen) < n:
        i = int(distances.squared.argmax())
        if not float(distances.squared[i]) > 0:
            break
        distances.add(i, likely)
        chosen.append(i)
    return chosen


def _distance_preview(distances: Distances) -> Tensor:
    """Likely next points: those that the rule would choose among the farthest points."""
    index = distances.squared.topk(min(_CROWD, len(distances.squared))).indices
    chosen = _by_distance(distances.restricted(index), _AHEAD, preview=False)
    return index[torch.tensor(chosen[1:], dtype=torch.int64, device=index.device)]


def kmeans_pp(distances: Distances, n: int, *, generator: torch.Generator) -> Tensor:
    """Indices drawn one by one with probability proportional to the squared distance to the nearest centre.

    The first is drawn uniformly if there are no centres. Draws invert the cumulative sum in float64, which works for
    pools of any size.

    Args and Returns: As `largest_cluster`.

    References:
        Arthur & Vassilvitskii (2007); Ash et al. (2020), arXiv:1906.03671.
    """
    chosen: list[int] = []
    while len(chosen) < n:
        weights = distances.squared.double() if distances.centres else torch.ones_like(distances.squared).double()
        total = weights.cumsum(0)
        if not float(total[-1]) > 0:
            break
        u = torch.rand((), dtype=torch.float64, device=generator.device, generator=generator)
        below = torch.nextafter(total[-1], torch.zeros_like(total[-1]))  # a point of weight zero is never drawn
        i = int(torch.searchsorted(total, torch.minimum(total[-1] * u.to(total.device), below), right=True))
        distances.add(i)
        chosen.append(i)
    return torch.tensor(chosen, dtype=torch.int64, device=distances.squared.device)


def _first(distances: Distances) -> list[int]:
    """Makes the point with the largest norm a centre if there are none."""
    if distances.centres:
        return []
    i = int(distances.norms().argmax())
    distances.add(i)
    return [i]


def frank_wolfe(pool: Tensor, train: Tensor | None, n: int) -> Tensor:
    """Indices whose weighted features come closest to the sum of all features (ACS-FW).

    Each step takes the point whose direction has the largest inner product with the residual of the sum, and moves
    towards it by line search. No point is taken twice.

    Args:
        pool: Features of m points, with shape (m, p).
        train: Features of labelled points, which are part of the sum and come first (mode TP), or None.
        n: Number of points, in 1..m.

    Returns:
        At most n distinct indices, fewer if all remaining features are zero, in O(m n p) operations.

    References:
        Pinsler et al. (2019), arXiv:1908.02144.
    """
    known = pool[:0] if train is None else train
    length, known_length = (torch.linalg.vector_norm(x, dim=1) for x in (pool, known))
    radius = length.sum() + known_length.sum()
    target = pool.sum(0) + known.sum(0)
    current = torch.zeros_like(target)
    for x, size in zip(known, known_length, strict=True):
        if float(size) > 0:
            current = _line_search(current, target, radius * x / size)
    closed = length <= 0
    inverse = 1.0 / length.clamp(min=torch.finfo(pool.dtype).tiny)
    chosen: list[int] = []
    for _ in range(min(n, int((~closed).sum()))):
        scores = (pool @ (target - current)).mul_(inverse).masked_fill_(closed, -torch.inf)
        i = int(scores.argmax())
        current = _line_search(current, target, radius * inverse[i] * pool[i])
        closed[i] = True
        chosen.append(i)
    return torch.tensor(chosen, dtype=torch.int64, device=pool.device)


def _line_search(current: Tensor, target: Tensor, vertex: Tensor) -> Tensor:
    """The point between ``current`` and ``vertex`` nearest to the target."""
    step = vertex - current
    square = step @ step
    return current + step * ((step @ (target - current)) / square) if float(square) > 0 else current
