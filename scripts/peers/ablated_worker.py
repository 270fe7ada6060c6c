"""`surrogate` with one of its parts left out, through `init`, `ask` and `tell`; "nothing" leaves all in."""

from __future__ import annotations

import os
from typing import Any

import torch
from common import Counted, Outcome, work
from surrogate_worker import outcome_of, prior_of
from threadpoolctl import threadpool_limits

from surrogate.inference.ablation import without
from surrogate.inference.conclusion import conclude
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.setup import Setup
from surrogate.problem.target import Posterior

WITHOUT = "SURROGATE_BENCH_WITHOUT"


def run(problem: Any, log_likelihood: Counted, seed: int, max_evaluations: int | None) -> Outcome:
    torch.set_num_threads(1)
    name = os.environ[WITHOUT]
    posterior = Posterior(log_likelihood, prior_of(problem), noise=getattr(problem, "noise", None))
    loop = PosteriorLoop(Setup(posterior.prior))
    loop = loop if name == "nothing" else without(loop, name)
    budget = max_evaluations or int(70 * problem.d**1.5)
    with threadpool_limits(1):
        state = loop.init(seed)
        while not state.verdict.stop and len(state.data) < budget:
            x = loop.ask(state)
            state = loop.tell(state, x, posterior.evaluate_many(x))
        result = conclude(loop, state, state.verdict.reason, 10_000)
    return outcome_of(result)


if __name__ == "__main__":
    work(run)
