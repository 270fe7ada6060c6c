"""Cost of an iteration, memory and end of a run that has thousands of noisy evaluations, in eight parameters.

The run starts with a table of evaluations of a curved posterior, with noise of one nat, as if it had made them itself,
and goes on for a few batches. With ``--walltime`` it shows how late a run ends.

    python scripts/bench_endurance.py --points 3000 --more 400
    python scripts/bench_endurance.py --points 3000 --more 1200 --walltime 22
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import surrogate
from surrogate.inference.loop import PosteriorLoop

D = 8
FACTOR = 0.1 * np.linalg.cholesky(0.5 * np.eye(D) + 0.5)  # equal sds of 0.1 and correlations of 0.5
NOISE = 1.0
BEND = 0.15
WIDTHS = (0.7, 2.2)  # of the table, in sds of the posterior: near the mode and in its tails


def log_likelihood(x):
    """The log-likelihood without noise, at x with shape (8,)."""
    u = np.linalg.solve(FACTOR, x - 0.5)
    u[1] -= BEND * (u[0] ** 2 - 1.0)
    return -0.5 * float(u @ u)


def table(n):
    """Points with shape (n, 8), and noisy values."""
    rng = np.random.default_rng(0)
    x = 0.5 + rng.standard_normal((n, D)) * rng.uniform(*WIDTHS, (n, 1)) @ FACTOR.T
    x = np.clip(x, 1e-3, 1.0 - 1e-3)
    return x, np.array([log_likelihood(point) for point in x]) + NOISE * rng.standard_normal(n)


def memory():
    """The largest memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def timed(name, start):
    """A method of the loop that prints what it took."""
    original = getattr(PosteriorLoop, name)

    def method(self, *args, **kwargs):
        cpu = time.process_time()
        out = original(self, *args, **kwargs)
        took, wall = time.process_time() - cpu, time.monotonic() - start
        print(f"{name}: {took:.1f} CPU s; {wall:.0f} s since the start, {memory()} MB", flush=True)
        return out

    return method


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=3000, help="evaluations at the start")
    parser.add_argument("--more", type=int, default=400, help="further evaluations")
    parser.add_argument("--walltime", type=float, help="seconds after which the run should end")
    options = parser.parse_args()
    start, rng = time.monotonic(), np.random.default_rng(1)
    methods = {name: timed(name, start) for name in ("init", "ask", "tell")}
    with mock.patch.multiple(PosteriorLoop, **methods):
        result = surrogate.infer(
            lambda x: (log_likelihood(x) + NOISE * rng.standard_normal(), NOISE),
            [(0.0, 1.0)] * D,
            initial=table(options.points),
            noise=NOISE,
            seed=1,
            max_evaluations=options.more,
            max_walltime=options.walltime,
            progress=False,
        )
    print(f"end: {time.monotonic() - start:.0f} s since the start, {time.process_time():.0f} CPU s, {memory()} MB")
    print(f"{len(result.data)} evaluations; sds relative to a normal {np.round(result.sd / 0.1, 3)}; {result.status}")


if __name__ == "__main__":
    main()
