"""Measures posterior runs with categories and integers against exact answers.

    scripts/bench_mixed_runs.py --only peaks,radial_velocities --seeds 1-5 --apart

The targets are those of `likelihoods.mixed`, and `fifty`: a category of fifty in two dimensions, most of which lie far
below the best. For each run the table has the evaluations, whether it claims to know the posterior, the largest error
of a probability, the largest error of a continuous mean in units of its sd, and the error of the log evidence. With
--apart each category (or integer) gets a run of its own, too: the sum of their evaluations stands beside.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import surrogate
from likelihoods import mixed
from surrogate.problem.discrete import Discrete
from surrogate.problem.prior import Prior

TARGETS = {"peaks": mixed.peaks, "backgrounds": mixed.backgrounds, "radial_velocities": mixed.radial_velocities}
TARGETS["fifty"] = mixed.fifty


def numbers(text: str) -> list[int]:
    """Seeds such as 1-5 or 1,3."""
    if "-" in text:
        first, last = text.split("-")
        return list(range(int(first), int(last) + 1))
    return [int(part) for part in text.split(",")]


def row(target: mixed.MixedTarget, seed: int, most: int | None) -> list[str]:
    """The cells of one run."""
    start = time.process_time()
    result = surrogate.infer(target.log_likelihood, target.prior, seed=seed, max_evaluations=most, progress=False)
    worst, stated = 0.0, 0.0
    for name, exact in target.probabilities.items():
        found = result.probabilities(name)
        worst = max(worst, *(abs(found[value][0] - p) for value, p in exact.items()))
        stated = max(stated, *(found[value][1] for value in exact))
    shift = "-"
    if target.mean is not None:
        shift = f"{np.abs((result.mean[result.draws.continuous] - target.mean) / target.sd).max():.3f}"
    known = target.log_evidence is not None
    error = f"{result.log_evidence - target.log_evidence:+.3f}" if known else "-"
    cells = [f"{result.n_evaluations}", "yes" if result.converged else "no", f"{worst:.3f}", f"{stated:.3f}", shift]
    return [*cells, f"{error} (±{result.log_evidence_error:.3f})", f"{time.process_time() - start:.0f}"]


def apart(target: mixed.MixedTarget, seed: int) -> str:
    """Evaluations of one run for each value of the first discrete parameter, and their sum."""
    prior = Prior.of(target.prior)
    name, kind = next((p.name, p.prior) for p in prior.parameters if isinstance(p.prior, Discrete))
    counts = []
    for value in kind.values:
        if not any(p.name != name and dict(p.only).get(name, [value]).count(value) for p in prior.parameters):
            counts.append(1)  # nothing acts
            continue
        rest = prior.given({name: value})
        idle = {p.name: float(p.prior[0]) if isinstance(p.prior, tuple) else 0.0 for p in prior.parameters}
        fixed = {other: idle[other] for other in prior.names if other not in (*rest.names, name)}
        answer = _Fixed(target.log_likelihood, {**fixed, name: value})
        counts.append(surrogate.infer(answer, rest, seed=seed, progress=False).n_evaluations)
    return f"{sum(counts)} ({', '.join(map(str, counts))})"


class _Fixed:
    """A likelihood with some parameters fixed."""

    def __init__(self, function, fixed):
        self.function, self.fixed = function, fixed

    def __call__(self, **parameters):
        return self.function(**self.fixed, **parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(TARGETS))
    parser.add_argument("--seeds", type=numbers, default=[1])
    parser.add_argument("--most", type=int, help="evaluations at most")
    parser.add_argument("--apart", action="store_true")
    asked = parser.parse_args()
    head = ["target", "seed", "evaluations", "claim", "error of p", "stated", "mean / sd", "log evidence", "CPU s"]
    head += ["one run each"] if asked.apart else []
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|", flush=True)
    for name in asked.only.split(","):
        target = TARGETS[name]()
        for seed in asked.seeds:
            cells = [name, f"{seed}", *row(target, seed, asked.most)]
            cells += [apart(target, seed)] if asked.apart else []
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
