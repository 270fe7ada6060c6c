"""GPry with its defaults: https://gpry.readthedocs.io. Written for 4.1.

The final sample is its default nested one, which needs `pip install gpry ultranest h5py`.
"""

from __future__ import annotations

from typing import Any

from common import Counted, Outcome, work
from gpry import Runner


def run(problem: Any, log_likelihood: Counted, seed: int, max_evaluations: int | None) -> Outcome:
    options = {} if max_evaluations is None else {"max_total": max_evaluations}
    runner = Runner(
        lambda x: log_likelihood(x),  # a signature of one argument, which GPry looks at
        [list(pair) for pair in problem.bounds],
        options=options,
        seed=seed,
        plots=False,
        verbose=1,
    )
    runner.run()
    runner.generate_mc_sample()
    sample = runner.last_mc_samples()
    log_evidence, error = runner.last_mc_logZ() or (None, None)
    # GPry's evidence integrates the likelihood times the density of the prior, as here.
    return Outcome(
        samples=sample["X"],
        weights=sample["w"],
        log_evidence=log_evidence,
        log_evidence_error=error,
        converged=bool(runner.has_converged),
    )


if __name__ == "__main__":
    work(run)
