#!/usr/bin/env python
"""Simulator calls with outputs learned and with the log-likelihood alone, side by side, on ready targets.

    scripts/bench_observables.py linear desi spectrum:5 --seeds 1 2 3 [--scalar] [--output benchmarks/observables.md]

A row is solved where the run claims convergence and the Gaussian divergence of its draws from the exact posterior is
below 0.05 nats; a claim with a divergence above 0.1 is false. Overhead is in CPU seconds, the simulator's own time
included, which is negligible for these targets.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import surrogate
from likelihoods.simulators import SIMULATORS, SimulatorTarget, spectrum

HEADER = (
    "| target | seed | way | calls | solved | divergence | log Z - exact | its error | CPU s |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def target_of(name: str) -> SimulatorTarget:
    """A target by name; ``spectrum:5`` has five nuisance templates."""
    kind, _, number = name.partition(":")
    return spectrum(int(number)) if number else SIMULATORS[kind]()


def divergence(result: Any, target: SimulatorTarget) -> float:
    """Mean of both Gaussian divergences between the draws and the exact posterior, in nats."""
    k = len(target.mean)
    shift, found, exact = result.mean[:k] - target.mean, result.covariance[:k, :k], target.covariance
    inverse, exact_inverse = np.linalg.inv(found), np.linalg.inv(exact)
    trace = float(np.trace(inverse @ exact) + np.trace(exact_inverse @ found)) - 2 * k
    return 0.25 * (trace + float(shift @ (inverse + exact_inverse) @ shift))


def row(name: str, seed: int, *, scalar: bool, budget: int) -> str:
    """One line of the table."""
    target, start = target_of(name), time.process_time()
    function: Any = target.log_likelihood if scalar else target.target
    result = surrogate.infer(function, target.prior, seed=seed, progress=False, max_evaluations=budget)
    seconds, distance = time.process_time() - start, divergence(result, target)
    solved = "yes" if result.converged and distance < 0.05 else "false claim" if result.converged else "no claim"
    return (
        f"| {name} | {seed} | {'log-likelihood' if scalar else 'outputs'} | {result.n_evaluations} | {solved} | "
        f"{distance:.4f} | {result.log_evidence - target.log_evidence:+.3f} | {result.log_evidence_error:.3f} | "
        f"{seconds:.0f} |"
    )


def main() -> None:
    """Prints the table as it comes, and writes it to a file if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=["linear", "desi", "predator_prey", "spectrum:0", "spectrum:20"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--scalar", action="store_true", help="the log-likelihood alone as well")
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    lines = [HEADER]
    print(HEADER, flush=True)
    for name in asked.targets:
        for seed in asked.seeds:
            for scalar in (False, True)[: 1 + asked.scalar]:
                lines.append(row(name, seed, scalar=scalar, budget=asked.budget))
                print(lines[-1], flush=True)
    if asked.output:
        asked.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
