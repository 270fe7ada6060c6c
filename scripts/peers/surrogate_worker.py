"""`surrogate.infer` with its defaults."""

from __future__ import annotations

from typing import Any

import torch
from common import Counted, Outcome, work
from threadpoolctl import threadpool_limits

import surrogate


def run(problem: Any, log_likelihood: Counted, seed: int, max_evaluations: int | None) -> Outcome:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        result = surrogate.infer(
            log_likelihood, problem.bounds, seed=seed, max_evaluations=max_evaluations, progress=False
        )
    return Outcome(
        samples=result.samples,
        weights=result.weights,
        log_evidence=result.log_evidence,
        log_evidence_error=result.log_evidence_error,
        converged=bool(result.converged),
        status=result.status,
    )


if __name__ == "__main__":
    work(run)
