"""Runs as a user's program would make them: in this process, in one that may be killed, or on the ranks of mpirun.

As a program it prints one line of JSON for each run and rank. The behaviour of the likelihood is chosen by name.
"""

import hashlib
import json
import os
import signal
import sys
import zlib
from pathlib import Path

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


def run(target, *, seconds=0.0, bad=0.0, fail_rank=-1, **options):
    """What a run of one of the targets came to, on this rank; ``options`` are those of `surrogate.infer`."""
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", 0))
    bounds = None if rank == fail_rank else TARGETS[target]().bounds
    options = {"seed": 1, "progress": False, "n_samples": 500} | options
    try:
        result = surrogate.infer(Likelihood(target, seconds, bad), bounds, **options)
    except surrogate.inference.driving.drive.UnfinishedError as error:
        return {"unfinished": str(error), "rank": rank}
    return {
        "sha": hashlib.sha256(result.data.x.tobytes() + result.data.y.tobytes()).hexdigest(),
        "target": target,
        "rank": rank,
        "n": result.n_evaluations,
        "converged": result.converged,
        "interrupted": result.interrupted,
        "status": result.status,
        "mean": result.samples.mean(0).tolist(),
        "predicted": result.predict(result.samples[:2])[0].tolist(),
        "failed": int((result.data.status == 2).sum()),
    }


def run_to_file(file, target, **options):
    """Writes what `run` gives to a file, and ends the process with code 4 if the run came to nothing."""
    facts = run(target, **options)
    Path(file).write_text(json.dumps(facts), encoding="utf-8")
    sys.exit(4 if "unfinished" in facts else 0)


def main():
    """The runs that the arguments describe, one after the other: objects of JSON with the arguments of `run`."""
    for words in sys.argv[1:]:
        facts = run(**json.loads(words))
        print(json.dumps(facts), flush=True)
        if "unfinished" in facts:
            sys.exit(4)


if __name__ == "__main__":
    main()
