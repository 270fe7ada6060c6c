"""Exact importance re-weighting: true evaluations at draws of a finished surrogate."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.executors.evaluate import evaluate_batch
from surrogate.executors.interruption import StopRequest
from surrogate.inference.result import Result
from surrogate.output.record import Evidence, Reweighting
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior
from surrogate.samplers.psis import smooth_weights
from surrogate.storage.journal import Entry, Journal

if TYPE_CHECKING:
    from surrogate.samplers.psis import SmoothedWeights

__all__ = ["reweighted"]


def reweighted(
    result: Result,
    posterior: Posterior,
    executor: Executor,
    n: int,
    rng: np.random.Generator,
    *,
    journal: Journal | None = None,
    call: Callable[[Array], Evaluation] | None = None,
    stop: StopRequest | None = None,
) -> Result:
    """The result re-weighted: n of its draws with true log-posteriors, derived values and importance weights.

    The weights are the ratios of the true to the surrogate's posterior, with a Pareto-smoothed tail; a draw whose
    evaluation is -inf or failed has no weight. The evidence is corrected by the mean ratio.

    Args:
        result: Result of the surrogate.
        posterior: Target of the surrogate.
        executor: Executor of the evaluations.
        n: Number of draws.
        rng: Random numbers for choosing them.
        journal: Journal of the evaluations; those that it already has for the same draws are not repeated.
        call: Function used instead of ``posterior.evaluate``.
        stop: Tells whether the run should end.

    Raises:
        Interrupted: If ``stop`` requests it.
        ValueError: If there are fewer than n draws, or no evaluation is finite.
    """
    if n > len(result.weights):
        msg = f"reweight must be at most the number of draws, {len(result.weights)}, got {n}"
        raise ValueError(msg)
    rows = rng.choice(len(result.weights), n, replace=False, p=result.weights)
    x = result.samples[rows]
    evaluations = _evaluate(posterior, x, executor, journal, call=call, stop=stop)
    y = np.array([e.y if e.status == "ok" else -np.inf for e in evaluations])
    if not np.isfinite(y).any():
        reason = next((e.reason for e in evaluations if e.reason), "all are -inf")
        msg = f"none of {n} evaluations at draws of the surrogate is finite: {reason}"
        raise ValueError(msg)
    log_posterior = y + result.draws.log_prior[rows]
    log_ratios = log_posterior - result.log_posterior[rows]
    return _with_weights(result, rows, log_posterior, log_ratios, evaluations)


def _evaluate(
    posterior: Posterior, x: Array, executor: Executor, journal: Journal | None, **options: Any
) -> list[Evaluation]:
    records = [] if journal is None else journal.read()
    done = {r.index: r.evaluation for r in records if r.index < len(x) and np.array_equal(r.x, x[r.index])}
    if journal is not None and records and not done:  # the journal is of another chain
        journal.path.unlink()

    def record(index: int, evaluation: Evaluation) -> None:
        if journal is not None:
            journal.append(Entry(0, index, x[index], evaluation))

    return evaluate_batch(posterior, x, executor, done=done, record=record, **options)


def _with_weights(
    result: Result, rows: Indices, log_posterior: Array, log_ratios: Array, evaluations: list[Evaluation]
) -> Result:
    smooth = smooth_weights(log_ratios)
    names = tuple(dict.fromkeys([*result.draws.derived_names, *(name for e in evaluations for name in e.derived)]))
    derived = np.array([[e.derived.get(name, np.nan) for name in names] for e in evaluations], dtype=np.float64)
    n, failed = len(rows), sum(e.status == "failed" for e in evaluations)
    summary = Reweighting(n, smooth.k_hat, smooth.ess, smooth.reliable, failed, log_ratios)
    finite = np.isfinite(log_posterior)  # draws without weight are dropped
    draws = replace(
        result.draws,
        x=result.samples[rows][finite],
        weights=smooth.weights[finite] / smooth.weights[finite].sum(),
        log_posterior=log_posterior[finite],
        log_prior=result.draws.log_prior[rows][finite],
        derived=derived.reshape(n, len(names))[finite],
        derived_names=names,
        derived_error=np.zeros(len(names)),
    )
    record = replace(
        result.record,
        n_evaluations=result.n_evaluations + n,
        status=f"{result.status}; {summary}",
        reweighting=summary,
    )
    return replace(result, draws=draws, evidence=_evidence(result, log_ratios, smooth), record=record)


def _evidence(result: Result, log_ratios: Array, smooth: SmoothedWeights) -> Evidence:
    """The log evidence corrected by the mean ratio.

    The surrogate's own error is corrected and therefore not included, unless the weights are unreliable.
    """
    n, top = len(log_ratios), float(log_ratios.max())
    shift = top + float(np.log(np.mean(np.exp(log_ratios - top))))
    integral = 1.0 / max(result.record.sampler.get("importance_ess", np.inf), 1.0)
    error = float(np.sqrt(integral + max(1.0 / smooth.ess - 1.0 / n, 0.0)))
    error = error if smooth.reliable else float(np.hypot(error, result.log_evidence_error))
    check = result.evidence.check
    return Evidence(result.log_evidence + shift, error, check and check.shifted(shift))
