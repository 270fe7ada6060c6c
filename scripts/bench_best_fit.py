"""Measures `result.maximum` and `result.profile` beside a direct optimiser of the true likelihood.

    scripts/bench_best_fit.py --seeds 1-3 > best_fit.md

Each problem is a target of this package. A run of `surrogate.infer` with default settings comes first; further calls
are those after it. The direct optimiser is Nelder-Mead from the ten best of 4,000 exact draws, or of the chain where a
target has none, restarted where it ended, without a limit on calls.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench_posterior import seeds

import surrogate
from likelihoods import TARGETS, Target

PROBLEMS = ("banana", "twisted4", "himmelblau", "lognormal4", "student3", "rosenbrock3", "cliff3", "desi_w0wacdm")
PROFILED = {"banana": "x0", "twisted4": "x1", "lognormal4": "x0", "student3": "x0", "desi_w0wacdm": "H0"}
STARTS = 10
LIMITS = {"maximum": (0.05, 10), "profile": (0.1, 40)}  # nats, further calls


class Counted:
    """A likelihood that counts its calls."""

    def __init__(self, target: Target) -> None:
        self.target, self.calls = target, 0

    def __call__(self, x: np.ndarray) -> float:
        """Value at one point."""
        self.calls += 1
        return self.target.log_likelihood(x)


def value(target: Target, x: np.ndarray) -> float:
    """The log-likelihood, -inf outside of the box."""
    inside = ((x >= target.bounds[:, 0]) & (x <= target.bounds[:, 1])).all()
    return float(target.log_likelihood(x)) if inside else -np.inf


def highest(function: Callable[[np.ndarray], float], starts: np.ndarray, scale: np.ndarray) -> float:
    """The highest value that Nelder-Mead finds from any of the starts, in units of the scale."""
    best = -np.inf
    for start in starts:
        for _ in range(3):
            found = minimize(
                lambda z, at=start: min(-function(at + z * scale), 1e10),
                np.zeros(len(start)),
                method="Nelder-Mead",
                options={"xatol": 1e-6, "fatol": 1e-9, "maxfev": 4000, "maxiter": 4000},
            )
            start = start + found.x * scale
        best = max(best, -float(found.fun))
    return best


def direct(target: Target, draws: np.ndarray, fixed: tuple[int, float] | None = None) -> float:
    """The maximum of the true log-likelihood, with one parameter held if one is given."""
    scale = draws.std(0)
    free = np.arange(target.d) if fixed is None else np.delete(np.arange(target.d), fixed[0])

    def full(part: np.ndarray) -> np.ndarray:
        x = np.empty(target.d)
        x[free] = part
        if fixed is not None:
            x[fixed[0]] = fixed[1]
        return x

    near = draws
    if fixed is not None:
        near = draws[np.argsort(np.abs(draws[:, fixed[0]] - fixed[1]))[:400]]
    heights = np.array([value(target, full(x[free])) for x in near])
    starts = near[np.argsort(-heights)[:STARTS]][:, free]
    return highest(lambda part: value(target, full(part)), starts, scale[free])


def row(name: str, seed: int) -> list[str]:
    """The lines of a table for one run: of the maximum and, for some problems, of a profile."""
    target = TARGETS[name]()
    function = Counted(target)
    result = surrogate.infer(function, target.prior, seed=seed, progress=False)
    draws = target.draw(4000, np.random.default_rng(0)) if target.draw else result.samples[:4000]
    ran, start = function.calls, time.process_time()
    found = result.maximum("likelihood")
    seconds, calls = time.process_time() - start, function.calls - ran
    short = direct(target, draws) - found.log_likelihood
    good = abs(short) < LIMITS["maximum"][0] and calls <= LIMITS["maximum"][1]
    lines = [
        f"| {name} | {target.d} | {seed} | {ran} | maximum | {calls} | {short:.2g} | "
        f"{'yes' if found.confirmed else 'no'} | {seconds:.1f} | {'met' if good else 'MISSED'} |"
    ]
    if name in PROFILED:
        before, start = function.calls, time.process_time()
        profile = result.profile(PROFILED[name])
        seconds, calls = time.process_time() - start, function.calls - before
        j = target.names.index(PROFILED[name])
        shorts = [direct(target, draws, (j, v)) - h for v, h in zip(profile.values, profile.heights, strict=True)]
        worst = max(shorts, key=abs)
        good = abs(worst) < LIMITS["profile"][0] and calls <= LIMITS["profile"][1]
        lines.append(
            f"| {name} | {target.d} | {seed} | {ran} | profile of {PROFILED[name]} | {calls} | {worst:.2g} | "
            f"{int(profile.confirmed.sum())} of {len(shorts)} | {seconds:.1f} | {'met' if good else 'MISSED'} |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="names between commas")
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3])
    found = parser.parse_args(arguments)
    print("| problem | d | seed | calls of the run | | further calls | nats short | confirmed | CPU s | bar |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in found.problems.split(","):
        for seed in found.seeds:
            print("\n".join(row(name, seed)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
