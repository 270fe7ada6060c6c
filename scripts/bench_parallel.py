"""Wall time, utilisation and evaluations of synchronous and asynchronous runs against the number of workers.

The likelihood sleeps for log-normal times (mean 1 s, sigma 1 unless given), so that workers need no cores. Beside them
"equal split": each batch holds as many points as there are workers and waits for the slowest, as GPry does; its wall
time is computed from the same distribution of call times, with no overhead at all.

    python scripts/bench_parallel.py --target gauss8 --workers 1 8 --modes sync async equal
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import surrogate
from likelihoods.analytic import gaussian


class Sleeping:
    """A log-likelihood that takes its time, and notes when it began and ended."""

    def __init__(self, log_likelihood, mean, sigma):
        self.log_likelihood, self.mean, self.sigma, self.log = log_likelihood, mean, sigma, []

    def seconds(self, x):
        """Time of the call at x."""
        rng = np.random.default_rng(zlib.crc32(x.tobytes()))
        return self.mean * rng.lognormal(-0.5 * self.sigma**2, self.sigma)

    def __call__(self, x):
        """The log-likelihood at x, after that time."""
        start = time.monotonic()
        time.sleep(self.seconds(x))
        y = float(self.log_likelihood(x))
        self.log.append((start, time.monotonic()))
        return y


def measured(target, workers, mode, options):
    """One run: what it took and how good it is."""
    slow = Sleeping(target.log_likelihood, options.mean, options.sigma)
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = surrogate.infer(
            slow,
            target.bounds,
            seed=options.seed,
            executor=f"threads:{workers}" if workers > 1 else None,
            mode=mode,
            progress=False,
            n_samples=2000,
        )
    log = np.array(slow.log)
    ends = log[:, 1].max()
    n_design = int((result.data.step == 0).sum())
    after = np.sort(log[:, 1])[min(n_design, len(log)) - 1]
    busy = np.clip(log[:, 1] - np.maximum(log[:, 0], after), 0.0, None).sum()
    steps = result.data.step
    regular = np.sort(log[:, 1])[-1 - int((steps == steps.max()).sum())]  # before the last fit's answers
    begun = np.clip(np.minimum(log[:, 1], regular) - np.maximum(log[:, 0], after), 0.0, None).sum()
    return {
        "evaluations": result.n_evaluations,
        "wall": ends - start,
        "total": time.monotonic() - start,
        "utilisation": busy / workers / max(ends - after, 1e-9),
        "until_last_fit": begun / workers / max(regular - after, 1e-9),
        **quality(target, result),
    }


def equal_split(target, workers, options):
    """Batches of as many points as workers, each waited for; the wall time is that of the calls alone."""
    result = surrogate.infer(
        target.log_likelihood,
        target.bounds,
        seed=options.seed,
        batch_size=max(workers, 1),
        progress=False,
        n_samples=2000,
    )
    slow = Sleeping(target.log_likelihood, options.mean, options.sigma)
    wall = busy = 0.0
    for step in range(int(result.data.step.max()) + 1):
        times = np.array([slow.seconds(x) for x in result.data.x[result.data.step == step]])
        shares = [times[i::workers].sum() for i in range(workers)]
        wall += max(shares)
        busy += sum(shares) if step else 0.0
        if step == 0:
            design = wall
    return {
        "evaluations": result.n_evaluations,
        "wall": wall,
        "total": wall,
        "utilisation": busy / workers / max(wall - design, 1e-9),
        "until_last_fit": math.nan,
        **quality(target, result),
    }


def quality(target, result):
    sd = np.sqrt(np.diag(target.covariance))
    mean = np.average(result.samples, axis=0, weights=result.weights)
    spread = np.sqrt(np.average((result.samples - mean) ** 2, axis=0, weights=result.weights))
    return {
        "mean_error": np.abs((mean - target.mean) / sd).max(),
        "sd_error": np.abs(spread / sd - 1.0).max(),
        "log_evidence_error": result.log_evidence - target.log_evidence,
        "converged": result.converged,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="gauss8", help="gaussN")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--modes", nargs="+", default=["sync", "async", "equal"], choices=["sync", "async", "equal"])
    parser.add_argument("--mean", type=float, default=1.0, help="mean call time in seconds")
    parser.add_argument("--sigma", type=float, default=1.0, help="sd of its logarithm")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    target = gaussian(int(options.target.removeprefix("gauss")))
    print("mode   workers evals  wall/s total/s util  util*  mean-err sd-err logZ-err converged")
    for workers in options.workers:
        for mode in options.modes if workers > 1 else ["sync"]:
            row = equal_split(target, workers, options) if mode == "equal" else measured(target, workers, mode, options)
            words = [f"{mode:6} {workers:7d} {row['evaluations']:5d} {row['wall']:7.1f} {row['total']:7.1f}"]
            words += [f"{row['utilisation']:5.2f} {row['until_last_fit']:5.2f}  {row['mean_error']:8.3f}"]
            words += [f"{row['sd_error']:6.3f} {row['log_evidence_error']:8.3f} {row['converged']}"]
            print(" ".join(words), flush=True)
    print("util: share of the workers' time spent in calls after the initial design; util*: up to the last fit")


if __name__ == "__main__":
    main()
