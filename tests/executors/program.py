"""A program with one run, as a user would write it; started with and without mpirun by the tests.

Prints one line of JSON per rank. The behaviour of the likelihood is chosen by name.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import zlib

import numpy as np

import surrogate
from likelihoods import analytic
from tests.executors import functions_for_workers as functions

TARGETS = {
    "gauss4": lambda: analytic.gaussian(4),
    "gauss2": lambda: analytic.gaussian(2),
    "ring": analytic.ring,
    "forbidden4": lambda: analytic.forbidden(4),
}


class Likelihood:
    """One of the targets, which takes its time or misbehaves at a share of the points."""

    def __init__(self, name, seconds=0.0, bad=0.0):
        self.name, self.seconds, self.bad = name, seconds, bad

    def __call__(self, x):
        functions.nap(self.seconds)
        lot = np.random.default_rng(zlib.crc32(x.tobytes())).random()
        if lot < 5 * self.bad:
            return self.misbehave(int(lot / self.bad))
        return TARGETS[self.name]().log_likelihood(x)

    def misbehave(self, kind):
        if kind == 0:
            msg = "it failed"
            raise RuntimeError(msg)
        if kind == 1:
            return np.nan
        if kind == 2:
            functions.nap(3600)
        if kind == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        os._exit(7)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--bad", type=float, default=0.0)
    parser.add_argument("--fail-rank", type=int, default=-1)
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    likelihood = Likelihood(arguments.target, arguments.seconds, arguments.bad)
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", 0))
    options = {"seed": 1, "progress": False, "n_samples": 500} | arguments.options
    bounds = TARGETS[arguments.target]().bounds
    if rank == arguments.fail_rank:
        bounds = None
    try:
        result = surrogate.infer(likelihood, bounds, **options)
    except surrogate.inference.driving.drive.UnfinishedError as error:
        print(json.dumps({"unfinished": str(error), "rank": rank}), flush=True)
        sys.exit(4)
    digest = hashlib.sha256(result.data.x.tobytes() + result.data.y.tobytes()).hexdigest()
    facts = {
        "sha": digest,
        "rank": rank,
        "n": result.n_evaluations,
        "converged": result.converged,
        "interrupted": result.interrupted,
        "status": result.status,
        "mean": result.samples.mean(0).tolist(),
        "predicted": result.predict(result.samples[:2])[0].tolist(),
        "failed": int((result.data.status == 2).sum()),
    }
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
