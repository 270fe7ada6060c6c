"""`surrogate.infer` with its defaults, told of angles and of declared noise where a problem has them.

The environment variable SURROGATE_BENCH_FEASIBILITY names another classifier of feasibility, and
SURROGATE_BENCH_EXPLORE how long further modes are looked for.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from common import Counted, Outcome, work
from threadpoolctl import threadpool_limits

import surrogate


def prior_of(problem: Any) -> Any:
    """The problem's own prior, or bounds, or parameters where some of them are periodic."""
    if hasattr(problem, "prior"):
        turns = problem.periodic
        return {name: surrogate.Parameter(name, prior, periodic=name in turns) for name, prior in problem.prior.items()}
    periodic = getattr(problem, "periodic", ())
    if not any(periodic):
        return problem.bounds
    pairs = enumerate(zip(problem.bounds, periodic, strict=True))
    return [surrogate.Parameter(f"x{i}", tuple(bounds), periodic=turns) for i, (bounds, turns) in pairs]


def outcome_of(result: surrogate.Result) -> Outcome:
    """What is judged of a result."""
    return Outcome(
        samples=result.samples,
        weights=result.weights,
        log_evidence=result.log_evidence,
        log_evidence_error=result.log_evidence_error,
        converged=bool(result.converged),
        hidden_mode=result.check.get("hidden_mode"),
        status=result.status,
    )


def run(problem: Any, log_likelihood: Counted, seed: int, max_evaluations: int | None) -> Outcome:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        result = surrogate.infer(
            log_likelihood,
            prior_of(problem),
            seed=seed,
            noise=getattr(problem, "noise", None),
            max_evaluations=max_evaluations,
            feasibility=os.environ.get("SURROGATE_BENCH_FEASIBILITY", "process"),
            explore=os.environ.get("SURROGATE_BENCH_EXPLORE", "normal"),
            progress=False,
        )
    return outcome_of(result)


if __name__ == "__main__":
    work(run)
