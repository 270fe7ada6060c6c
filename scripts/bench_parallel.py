"""Wall time, utilisation and evaluations of synchronous and asynchronous runs against the number of workers.

The likelihood sleeps for log-normal times (mean 1 s, sigma 1 unless given), so that workers need no cores. Beside them
"equal split": each batch holds as many points as there are workers and waits for the slowest, as GPry does; its wall
time is computed from the same distribution of call times, with no overhead at all.

    python scripts/bench_parallel.py --target gauss8 --workers 1 8 --modes sync async equal

With ``--virtual`` nobody sleeps: the clock goes on by the CPU time of the loop times ``--overhead`` and jumps from one
answer to the next, so that the figures do not depend on what else the machine does, and cost CPU time alone.

    python scripts/bench_parallel.py --virtual --target gauss16 --workers 1 16 --modes sync async --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from likelihoods.analytic import gaussian
from scripts.virtual_time import VirtualExecutor
from surrogate import infer  # loads torch before any clock runs


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


def measured(target, workers, mode, options, seed):
    """One run: what it took and how good it is."""
    slow = Sleeping(target.log_likelihood, options.mean, options.sigma)
    virtual = VirtualExecutor(workers, slow.seconds, options.overhead) if options.virtual else None
    clock = time.monotonic if virtual is None else virtual.clock
    told, start, cpu = [], clock(), time.process_time()
    with warnings.catch_warnings(), contextlib.nullcontext() if virtual is None else virtual.installed():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = infer(
            slow if virtual is None else target.log_likelihood,
            target.bounds,
            seed=seed,
            executor=virtual or (f"threads:{workers}" if workers > 1 else None),
            mode=mode,
            progress=False,
            n_samples=2000,
            callback=lambda row: told.append(clock()),  # noqa: ARG005  # of interest is when
        )
        total = clock() - start
    log, end = np.array(slow.log if virtual is None else virtual.log), told[-1]
    n_design = int((result.data.step == 0).sum())
    after = np.sort(log[:, 1])[n_design - 1]
    busy = np.clip(np.minimum(log[:, 1], end) - np.maximum(log[:, 0], after), 0.0, None).sum()
    return {
        "evaluations": result.n_evaluations,
        "wall": end - start,
        "total": total,
        "cpu": time.process_time() - cpu,
        "utilisation": busy / workers / max(end - after, 1e-9),
        **quality(target, result),
    }


def equal_split(target, workers, options, seed):
    """Batches of as many points as workers, each waited for; the wall time is that of the calls alone."""
    cpu = time.process_time()
    result = infer(
        target.log_likelihood,
        target.bounds,
        seed=seed,
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
        "cpu": time.process_time() - cpu,
        "utilisation": busy / workers / max(wall - design, 1e-9),
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--virtual", action="store_true", help="virtual time instead of sleeping")
    parser.add_argument("--overhead", type=float, default=1.0, help="virtual seconds per CPU second of the loop")
    options = parser.parse_args()
    target = gaussian(int(options.target.removeprefix("gauss")))
    print("mode   workers  seed evals  wall/s total/s  cpu/s util  mean-err sd-err logZ-err converged")
    for workers in options.workers:
        for mode in options.modes if workers > 1 else ["sync"]:
            run = equal_split if mode == "equal" else functools.partial(measured, mode=mode)
            rows = [run(target, workers, options=options, seed=seed) for seed in options.seeds]
            for seed, row in zip(options.seeds, rows, strict=True):
                print(line(mode, workers, seed, row), flush=True)
            if len(rows) > 1:
                print(line(mode, workers, "mean", {name: np.mean([row[name] for row in rows]) for name in rows[0]}))
    print("wall: until the verdict; total: with the final chain; util: share of the workers' time in calls, from the")
    print("last answer of the initial design that the first fit had to the verdict")


def line(mode, workers, seed, row):
    words = [f"{mode:6} {workers:7d} {seed!s:>5} {row['evaluations']:5.4g} {row['wall']:7.1f} {row['total']:7.1f}"]
    words += [f"{row['cpu']:6.1f} {row['utilisation']:4.2f}  {row['mean_error']:8.3f}"]
    return " ".join([*words, f"{row['sd_error']:6.3f} {row['log_evidence_error']:8.3f} {float(row['converged']):.3g}"])


if __name__ == "__main__":
    main()
