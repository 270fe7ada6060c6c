"""Batches for posterior inference: greedy max-det of the uncertainty of the posterior density."""

from __future__ import annotations

import numpy as np
import torch

from surrogate.arrays import Array, Indices
from surrogate.linalg.composed import PosteriorAccess, Scaled, Summed, conditioned, scaled
from surrogate.linalg.lowrank import ColumnAccess
from surrogate.linalg.operators import DenseOperator
from surrogate.log_density.feasibility.protocol import Feasibility
from surrogate.log_density.protocol import LogDensity
from surrogate.selection.selection import max_det

__all__ = ["uncertain_batch", "uncertainty_gram"]


_INDEPENDENT = 1e-9  # smallest variance given the data; below it correlations of feasibility are rounding errors
_LIKELY = 0.5  # probability of being feasible above which a point may be chosen for its mean
_OPEN = 0.25  # share of its variance that a point must keep given pending ones to be chosen for its mean


def uncertainty_gram(model: LogDensity, t: Array, weights: Array, *, doubt: bool = True) -> ColumnAccess:
    """Weighted kernel of the relative uncertainty of the posterior density at candidates t.

    The density is feasible(x) exp(f(x)); to first order its relative variance is p sd_f^2 + p (1 - p), with p the
    probability of being feasible. Both parts keep their correlations given the data. If the log-likelihood is known and
    only feasibility is uncertain, points along its boundary are chosen.

    Args:
        model: Surrogate.
        t: Candidates, with shape (m, d).
        weights: Positive weights, with shape (m,).
        doubt: Whether to include the uncertainty of feasibility.

    Returns:
        Access to the kernel, after O(m n (n + p)) operations.
    """
    values = model.covariance(t, weights)
    if model.feasibility.everywhere:
        return values
    u, device = model.whiten(t), model.device
    p = model.feasibility.probability(u)
    known = scaled(values, torch.as_tensor(np.sqrt(p), device=device))
    if not doubt:
        return known
    doubtful = torch.as_tensor(weights * np.sqrt(model.feasibility.doubt(u)), device=device)
    return Summed((known, Scaled(_feasibility_gram(model.feasibility, u, device), doubtful)))


def _feasibility_gram(feasibility: Feasibility, u: Array, device: torch.device) -> Scaled:
    """Correlations of feasibility at u given the data."""
    prior, half = (torch.as_tensor(part, device=device) for part in feasibility.correlated(u))
    gram = PosteriorAccess(DenseOperator(prior), half, half.new_zeros(1, len(u)))
    return Scaled(gram, gram.diag().clamp(min=_INDEPENDENT).rsqrt())


def _condition_on_pending(
    pending: Array | None, model: LogDensity, t: Array, weights: Array, *, doubt: bool
) -> tuple[ColumnAccess, Array | None]:
    """The kernel over candidates given pending points, and the fraction of its diagonal that remains."""
    if pending is None or len(pending) == 0:
        return uncertainty_gram(model, t, weights, doubt=doubt), None
    # Weights of pending points affect only rounding.
    weights = np.concatenate([np.ones(len(pending)), weights])
    joint = uncertainty_gram(model, np.concatenate([pending, t]), weights, doubt=doubt)
    gram = conditioned(joint, len(pending))
    return gram, (gram.diag() / joint.diag()[len(pending) :].clamp(min=1e-300)).cpu().numpy()


def uncertain_batch(
    model: LogDensity,
    t: Array,
    log_prior: Array,
    n: int,
    *,
    zeta: float,
    caution: float | None = None,
    pending: Array | None = None,
    doubt: bool = True,
) -> Indices:
    """Indices of the next batch among candidates.

    Greedy max-det of the uncertainty kernel with weights exp(2 zeta (mu - max mu)): the first point maximises 2 zeta mu
    + log sd as in Gammal et al. (2023), arXiv:2211.02045, and the joint covariance replaces their Kriging-believer
    steps.

    Args:
        model: Surrogate.
        t: Candidates, with shape (m, d).
        log_prior: Log prior density there, with shape (m,).
        n: Size of the batch.
        zeta: Weight of the log-posterior against the uncertainty.
        caution: If given, the first point of the batch is the one with the highest mean - caution * sd among those that
            are probably feasible. Where the likelihood rises towards a forbidden region, a point beyond the boundary
            would teach nothing about the values. Recent prediction errors in units of the sd are a good value: after
            large errors the surrogate takes short steps, as in a trust region.
        pending: Points being evaluated, with shape (k, d). Candidates are judged by the uncertainty that remains given
            these points, which does not depend on their values.
        doubt: Whether to include the uncertainty of feasibility.

    Returns:
        n indices, or fewer if the candidates have less independent uncertainty.
    """
    height = model.if_feasible(t) + log_prior / model.temperature
    weights = np.exp(np.maximum(2.0 * zeta * (height - height.max()), -300.0))
    gram, open_share = _condition_on_pending(pending, model, t, weights, doubt=doubt)
    if caution is None:
        return max_det(gram, n).cpu().numpy()
    _, sd = model.predict(t)
    likely = model.feasibility.probability(model.whiten(t)) >= _LIKELY
    least = height - caution * sd / model.temperature
    first = int(np.where(likely | ~likely.any(), least, -np.inf).argmax())
    if open_share is not None and open_share[first] < _OPEN:  # a pending point already gives its information
        return max_det(gram, n).cpu().numpy()
    others = max_det(gram, min(n + 1, len(t))).cpu().numpy()
    return np.concatenate([[first], others[others != first][: n - 1]]).astype(np.int64)
