"""Maximum a posteriori fits of the hyperparameters of any process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.gp.evidence.marginal import negative_log_evidence
from surrogate.gp.optimise import Fit, Objective, best, maximise
from surrogate.gp.parameters import Priors
from surrogate.gp.process import Data, Process

__all__ = ["fit", "merged", "objective"]


def fit(
    process: Process,
    data: Data,
    *,
    starts: Sequence[Array] = (),
    given: Data | None = None,
    order: Indices | None = None,
    max_evaluations: int = 60,
) -> Fit:
    """The best maximum of evidence times priors reached from several starts.

    Args:
        process: Process, with priors of its hyperparameters.
        data: The data.
        starts: Initial vectors of log-hyperparameters, each with shape (size,); by default that of the process.
        given: Subset of the data on which to condition.
        order: Order of entries in the fit and its starts, with shape (size,): entry i is entry order[i] of the
            process's vector. None for the same order.
        max_evaluations: Limit per start.

    Returns:
        The fit, with the rescues of all starts.

    Raises:
        FloatingPointError: If some covariance cannot be factored with any nugget.
    """
    index = np.arange(process.size) if order is None else order
    priors, function = Priors.of(process.priors).in_order(index), objective(process, data, given=given, order=index)
    begins = starts or (process.vector()[index],)
    return merged([maximise(function, start, priors, max_evaluations=max_evaluations) for start in begins])


def objective(process: Process, data: Data, *, given: Data | None, order: Indices) -> Objective:
    """The negative log evidence as a function of reordered log-hyperparameters and of a factor on the nugget.

    The arguments are those of ``fit``.
    """

    def function(vector: Array, factor: float) -> tuple[float, Array]:
        """Value and gradient."""
        own = np.empty(len(vector))
        own[order] = vector
        raised = process if factor == 1.0 else process.raised(factor)
        value, gradient = negative_log_evidence(raised, data, own, given=given)
        return value, gradient[order]

    return function


def merged(fits: Sequence[Fit]) -> Fit:
    """The best of several fits, with the total evaluations and rescues.

    Raises:
        ValueError: If there are none.
    """
    evaluations, rescues = sum(fit.n_evaluations for fit in fits), sum((fit.rescues for fit in fits), ())
    return replace(best(fits), n_evaluations=evaluations, rescues=rescues)
