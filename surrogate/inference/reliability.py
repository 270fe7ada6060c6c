"""Reliability of a run's result: uncertainty of the surrogate, and quality of its predictions."""

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

__all__ = [
    "UNSEEN_INFLATION",
    "largest_stated_error",
    "path_shape",
    "self_check",
    "stated_error",
    "surrogate_error",
    "unseen_share",
]


UNSEEN_INFLATION = 4.0
"""Factor on the variance of the surrogate in the errors of a result.

A final surrogate underestimates its uncertainty between points: in 17 runs on ten non-Gaussian targets its errors at
independent draws of the true posterior were 1.5 to 2 of its standard deviations, but one at the last batches, which
were chosen where it was uncertain.
"""

_CHECKED_BATCHES = 2  # last batches in the self-check, because a single one has few points in the bulk
_DRAWS, _PATHS = 400, 32  # draws and paths of a self-check: a Pareto shape needs a tail of about 40 draws
_EQUAL = 0.9  # effective fraction above which weights are nearly equal
_QUANTILE = 0.9  # quantile of the Pareto shapes over paths
_CANDIDATES = 4000  # points of the prior; four of them fall into a share of 0.1 %
_SDS = 3.0  # sds above the mean of a surrogate with a constant mean, as the best value that a point could have


def largest_stated_error(view: View) -> float:
    """The largest error of the log evidence due to the surrogate with which a run that learns outputs may end.

    It is twice the limit on the sd over paths, because ``surrogate_error`` doubles that sd where the log evidence is
    linear in the errors of the surrogate.
    """
    return float(np.sqrt(UNSEEN_INFLATION)) * view.setup.thresholds.log_evidence


def stated_error(view: View) -> tuple[Array, Array, float]:
    """The errors that a result with this surrogate would state, by ``surrogate_error`` from the draws of the view."""
    return surrogate_error(view, view.sample)


def surrogate_error(view: View, sample: ImportanceSample) -> tuple[Array, Array, float]:
    """Errors of the posterior due to the surrogate: how far it moves over paths.

    Returns:
        The sd over paths of the mean, in scaled coordinates, and of the relative change of the sd, each with shape
        (d,); and the sd of the log evidence.
    """
    spread = spread_of_paths(view.model, sample, view.rng("surrogate error"), inflate=UNSEEN_INFLATION * view.inflation)
    return spread.mean.std(0), spread.sd.std(0), float(np.hypot(spread.log_evidence, label_error(view, sample)))


def self_check(view: View, sample: ImportanceSample) -> dict[str, float]:
    """A self-check: how well the run predicted its last evaluations, and how reliable its draws are.

    Returns:
        A dict of ``points``, the number of evaluations in the typical set in the last two batches; ``largest_error``,
        the largest error of their predictions, in nats; and ``k_hat``, the 90 % quantile over paths of the Pareto shape
        of importance weights from the surrogate's mean to the path. If it is below 0.7, re-weighting can reach the
        posterior of nearly every path.
    """
    state, rng = view.state, view.rng("self-check")
    recent = state.recent_rows(_CHECKED_BATCHES)
    recent &= state.data.y_max - state.data.y < near_depth(view.d)
    errors = np.abs(state.data.y - state.predicted[:, 0])[recent]
    told = state.column("k_hat")  # the value that the run itself has computed, if any
    return {
        "points": float(len(errors)),
        "largest_error": float(errors.max()) if len(errors) else np.nan,
        "k_hat": float(told[-1]) if len(told) and np.isfinite(told[-1]) else path_shape(view, sample, rng),
    }


def path_shape(view: View, sample: ImportanceSample, rng: np.random.Generator) -> float:
    """The 90 % quantile over paths of the Pareto shape of importance weights from the surrogate's mean to a path.

    If the weights of a path are nearly equal its shape counts as at most 0, because the tail is then meaningless.
    """
    x = sample.x[rng.choice(len(sample.x), _DRAWS, p=sample.weights)]
    paths = view.model.deviations(x, _PATHS, rng, inflate=view.inflation)
    shapes = [_shape(path) if np.isfinite(path).any() else np.inf for path in paths]
    return float(np.quantile(shapes, _QUANTILE, method="higher"))


def _shape(path: Array) -> float:
    found = smooth_weights(path)
    return found.k_hat if found.ess < _EQUAL * len(path) else min(found.k_hat, 0.0)


def unseen_share(view: View, *, n: int = _CANDIDATES) -> float:
    """Fraction of the prior that may contain posterior mass unknown to the run.

    It is estimated with a second surrogate whose mean is a constant, which excludes nothing far from the data, unlike a
    trend. Points count where its mean plus three sds is above the bulk depth, while the actual surrogate lies below
    twice that depth.
    """
    t = candidates(view, n, view.model)
    if len(t) == 0:
        return 0.0
    mean, sd = open_minded(view).predict(t)
    bulk = bulk_depth(view.d)
    could = (mean + _SDS * sd > view.state.data.y_max - bulk) & (view.model.if_feasible(t) < -2.0 * bulk)
    return float(could.sum()) / n
