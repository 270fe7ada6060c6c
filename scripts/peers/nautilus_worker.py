"""nautilus 1.0 with its defaults, https://nautilus-sampler.readthedocs.io: nested sampling with neural networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from common import Counted, Outcome, Prior, work
from nautilus import Sampler


def run(problem: Any, log_likelihood: Counted, seed: int, max_evaluations: int | None) -> Outcome:
    sampler = Sampler(
        Prior(problem).quantile,
        lambda x: np.maximum(log_likelihood.many(x), -1e300),  # it refuses -inf
        n_dim=problem.d,
        vectorized=True,
        pass_dict=False,
        seed=seed,
    )
    done = sampler.run(n_like_max=max_evaluations or np.inf, verbose=False)
    points, log_weights, _ = sampler.posterior()
    return Outcome(
        samples=points,
        weights=np.exp(log_weights - log_weights.max()),
        log_evidence=float(sampler.log_z),
        log_evidence_error=float(1.0 / np.sqrt(sampler.n_eff)),
        converged=bool(done),
        status=f"{sampler.n_eff:.0f} effective draws",
    )


if __name__ == "__main__":
    work(run)
