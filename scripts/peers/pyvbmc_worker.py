"""PyVBMC with its defaults: https://acerbilab.github.io/pyvbmc. Written for 1.5.

The plausible box is the middle of the prior.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import Counted, Outcome, work
from pyvbmc import VBMC

SAMPLES = 20_000


def run(problem: Any, log_likelihood: Counted, seed: int, max_evaluations: int | None) -> Outcome:
    low, high = problem.bounds.T
    options: dict[str, Any] = {"display": "off"}
    if max_evaluations is not None:
        options["max_fun_evals"] = max_evaluations
    vbmc = VBMC(
        lambda x: log_likelihood(x) - problem.logvol,  # the joint density, so that the bound is on the evidence
        np.random.default_rng(seed).uniform(low, high)[None],
        low[None],
        high[None],
        (low + 0.1 * (high - low))[None],
        (high - 0.1 * (high - low))[None],
        options=options,
        seed=seed,
    )
    posterior, results = vbmc.optimize()
    samples, _ = posterior.sample(SAMPLES)
    return Outcome(
        samples=samples,
        log_evidence=float(results["elbo"]),
        log_evidence_error=float(results["elbo_sd"]),
        converged=bool(results["success_flag"]),
        status=str(results["message"]),
    )


if __name__ == "__main__":
    work(run)
