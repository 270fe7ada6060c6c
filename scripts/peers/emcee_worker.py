"""emcee on the likelihood itself, until the chain is fifty autocorrelation times long."""

from __future__ import annotations

from typing import Any

import emcee
import numpy as np
from common import Counted, Outcome, Prior, work

LENGTH = 50  # autocorrelation times, emcee's own advice
BLOCK = 500
CEILING = 5_000_000  # calls


def run(problem: Any, log_likelihood: Counted, seed: int, max_evaluations: int | None) -> Outcome:
    prior = Prior(problem)
    rng = np.random.default_rng(seed)
    walkers = max(32, 4 * problem.d)
    start = prior.sample(walkers, rng)

    def log_posterior(x: np.ndarray) -> np.ndarray:
        values = prior.log_density(x)
        inside = np.isfinite(values)
        values[inside] += log_likelihood.many(x[inside])
        return values

    sampler = emcee.EnsembleSampler(walkers, problem.d, log_posterior, vectorize=True)
    sampler.random_state = np.random.RandomState(seed).get_state()
    time = np.inf
    while log_likelihood.calls < (max_evaluations or CEILING):
        start = sampler.run_mcmc(start, BLOCK)
        time = float(np.max(sampler.get_autocorr_time(tol=0)))
        if sampler.iteration > (LENGTH + 5) * time:
            break
    burn = int(min(5 * time, sampler.iteration // 2)) if np.isfinite(time) else sampler.iteration // 2
    return Outcome(
        samples=sampler.get_chain(discard=burn, flat=True),
        converged=bool(sampler.iteration > (LENGTH + 5) * time),
        status=f"{sampler.iteration / time:.0f} autocorrelation times",
    )


if __name__ == "__main__":
    work(run)
