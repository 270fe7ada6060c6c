"""PyVBMC with its defaults: https://acerbilab.github.io/pyvbmc. Written for 1.5.

The plausible box is the middle of the prior; where its support has no end the box ends at a probability of 0.001, since
there are no parameters with one end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import Counted, Outcome, Prior, work
from pyvbmc import VBMC

SAMPLES = 20_000
BEYOND = 1e-3  # the plausible box must keep a distance from the ends, in units of the width


def run(problem: Any, log_likelihood: Counted, seed: int, max_evaluations: int | None) -> Outcome:
    prior, rows = Prior(problem), np.ones((2, problem.d))
    ends = prior.quantile(np.array([[BEYOND], [1.0 - BEYOND]]) * rows)
    low, high = np.where(np.isfinite(problem.bounds.T), problem.bounds.T, ends)
    middle = prior.quantile(np.array([[0.1], [0.9]]) * rows)
    options: dict[str, Any] = {"display": "off"}
    if max_evaluations is not None:
        options["max_fun_evals"] = max_evaluations
    vbmc = VBMC(
        lambda x: log_likelihood(x) + float(prior.log_density(np.atleast_2d(x))[0]),  # its bound is on the evidence
        prior.sample(1, np.random.default_rng(seed)),
        low[None],
        high[None],
        middle[:1],
        middle[1:],
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
