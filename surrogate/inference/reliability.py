"""How far the result of a run can be trusted: uncertainty of the surrogate, and the quality of its predictions."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.depths import bulk_depth, near_depth
from surrogate.inference.labels import label_error
from surrogate.inference.paths import spread_of_paths
from surrogate.inference.prior_search import candidates, open_minded
from surrogate.inference.view import View
from surrogate.samplers.evidence import ImportanceSample
from surrogate.samplers.psis import smooth_weights

__all__ = ["UNSEEN_INFLATION", "path_shape", "self_check", "surrogate_error", "unseen_share"]


UNSEEN_INFLATION = 4.0
"""Factor on the variance of the surrogate in the errors of a result.

Between its points a finished surrogate is less sure than it says: over 17 runs on ten targets that are not Gaussian the
errors at independent draws of the true posterior were 1.5 to 2 of its standard deviations, while those of the last
batches, which were chosen where it was unsure, were one.
"""

_CHECKED_BATCHES = 2  # batches whose predictions are told: of one alone a few points remain in the bulk
_DRAWS, _PATHS = 400, 32  # of a self-check: a Pareto shape needs a tail of some 40 draws
_EQUAL = 0.9  # share of effective draws from which weights hardly differ
_QUANTILE = 0.9  # of the Pareto shapes over paths
_CANDIDATES = 4000  # points of the prior: a share of 0.1 % is seen by four
_SDS = 3.0  # above the mean of a surrogate with a constant mean: what a place could be at best


def surrogate_error(view: View, sample: ImportanceSample) -> tuple[Array, Array, float]:
    """How far the posterior moves over paths of the surrogate.

    Returns:
        The sd over paths of the mean, in scaled coordinates, and of the relative change of the sd, each with shape
        (d,); and the sd of the log evidence.
    """
    spread = spread_of_paths(view.model, sample, view.rng("surrogate error"), inflate=UNSEEN_INFLATION * view.inflation)
    return spread.mean.std(0), spread.sd.std(0), float(np.hypot(spread.log_evidence, label_error(view, sample)))


def self_check(view: View, sample: ImportanceSample) -> dict[str, float]:
    """How well the run predicted what it saw last, and how far its draws can be trusted.

    Returns:
        ``points``, the number of evaluations of the typical set in the last two batches; ``largest_error``, of their
        predictions from before they were made, in nats; and ``k_hat``, the 90 % quantile over paths of the surrogate of
        the Pareto shape of the importance weights that would turn its draws into theirs: below 0.7 the posterior of
        each path is within reach of re-weighting.
    """
    state, rng = view.state, view.rng("self-check")
    recent = state.recent_rows(_CHECKED_BATCHES)
    recent &= state.data.y_max - state.data.y < near_depth(view.d)
    errors = np.abs(state.data.y - state.predicted[:, 0])[recent]
    told = state.column("k_hat")  # the figure by which the run has judged itself, if it has
    return {
        "points": float(len(errors)),
        "largest_error": float(errors.max()) if len(errors) else np.nan,
        "k_hat": float(told[-1]) if len(told) and np.isfinite(told[-1]) else path_shape(view, sample, rng),
    }


def path_shape(view: View, sample: ImportanceSample, rng: np.random.Generator) -> float:
    """The 90 % quantile over paths of the Pareto shape of the weights that turn draws of the surrogate into theirs.

    A path counts as at most 0 where its weights hardly differ: the shape of the tail then means nothing.
    """
    x = sample.x[rng.choice(len(sample.x), _DRAWS, p=sample.weights)]
    paths = view.model.deviations(x, _PATHS, rng, inflate=view.inflation)
    shapes = [_shape(path) if np.isfinite(path).any() else np.inf for path in paths]
    return float(np.quantile(shapes, _QUANTILE, method="higher"))


def _shape(path: Array) -> float:
    found = smooth_weights(path)
    return found.k_hat if found.ess < _EQUAL * len(path) else min(found.k_hat, 0.0)


def unseen_share(view: View, *, n: int = _CANDIDATES) -> float:
    """Fraction of the prior that may hold posterior mass unknown to the run.

    A surrogate with a constant mean is asked, which unlike a trend denies nothing: places where the mean plus three sds
    reaches the depth of the bulk, and the surrogate itself lies at twice that depth.
    """
    t = candidates(view, n, view.model)
    if len(t) == 0:
        return 0.0
    mean, sd = open_minded(view).predict(t)
    bulk = bulk_depth(view.d)
    could = (mean + _SDS * sd > view.state.data.y_max - bulk) & (view.model.if_feasible(t) < -2.0 * bulk)
    return float(could.sum()) / n
