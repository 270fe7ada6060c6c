"""The posterior of flat w0waCDM from DESI DR2 distances, chronometers and nucleosynthesis, found twice.

Once by `surrogate.infer`, which calls the likelihood some dozens or hundreds of times, and once by emcee on the
likelihood itself, which can only be afforded because this one takes microseconds. Both are put side by side; the exit
code says whether they agree.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import emcee
import matplotlib
import numpy as np
from getdist import MCSamples, chains, plots

import surrogate
from likelihoods.desi import desi_w0wacdm
from likelihoods.target import Target

matplotlib.use("Agg")

MEAN_LIMIT = 0.15  # in standard deviations
SD_LIMIT = 0.10  # relative
LENGTH = 100  # autocorrelation times of the emcee chain, which leaves its own error well below the limits
WALKERS = 64
BLOCK = 1000
CEILING = 100_000  # steps


@dataclass(frozen=True, eq=False)
class Posterior:
    """Weighted draws with shapes (n, d) and (n,), and what they cost."""

    samples: np.ndarray
    weights: np.ndarray
    calls: int
    seconds: float

    @property
    def mean(self) -> np.ndarray:
        """Means, with shape (d,)."""
        return np.average(self.samples, axis=0, weights=self.weights)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, with shape (d,)."""
        return np.sqrt(np.average((self.samples - self.mean) ** 2, axis=0, weights=self.weights))


def by_surrogate(target: Target, folder: Path, seed: int) -> Posterior:
    parameters = {
        name: surrogate.Parameter(name, tuple(bounds), label)
        for name, bounds, label in zip(target.names, target.bounds.tolist(), target.labels, strict=True)
    }
    start = time.perf_counter()
    result = surrogate.infer(target.log_likelihood, parameters, output=folder, seed=seed, resume=False)
    seconds = time.perf_counter() - start
    print(result.summary())
    return Posterior(result.samples, result.weights, result.n_evaluations, seconds)


def by_emcee(target: Target, seed: int) -> Posterior:
    low, high = target.bounds.T
    rng = np.random.default_rng(seed)
    calls = 0

    def log_posterior(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        inside = ((x >= low) & (x <= high)).all(1)
        calls += int(inside.sum())
        values = np.full(len(x), -np.inf)
        values[inside] = target.log_likelihood(x[inside])
        return values

    start = time.perf_counter()
    candidates = rng.uniform(low, high, (100 * WALKERS, target.d))
    # The best corner of the prior is a fair start: emcee forgets it in the burn-in.
    best = np.argsort(-log_posterior(candidates))[:WALKERS]
    sampler = emcee.EnsembleSampler(WALKERS, target.d, log_posterior, vectorize=True)
    sampler.random_state = np.random.RandomState(seed).get_state()
    state, length = candidates[best], np.inf
    while sampler.iteration < CEILING and sampler.iteration < (LENGTH + 10) * length:
        state = sampler.run_mcmc(state, BLOCK)
        length = float(np.max(sampler.get_autocorr_time(tol=0)))
    chain = sampler.get_chain(discard=int(10 * length), thin=max(1, int(length / 2)), flat=True)
    print(f"emcee: {sampler.iteration / length:.0f} autocorrelation times of {length:.0f} steps, {WALKERS} walkers")
    return Posterior(chain, np.ones(len(chain)), calls, time.perf_counter() - start)


def compare(target: Target, ours: Posterior, theirs: Posterior) -> bool:
    """Prints both tables side by side and says whether they agree."""
    difference = (ours.mean - theirs.mean) / theirs.sd
    ratio = ours.sd / theirs.sd
    print(f"\n{'':10s} {'surrogate':>22s} {'emcee':>22s} {'difference':>12s} {'ratio of sds':>13s}")
    for i, name in enumerate(target.names):
        cells = [f"{p.mean[i]:11.5f} +- {p.sd[i]:.5f}" for p in (ours, theirs)]
        print(f"{name:10s} {cells[0]:>22s} {cells[1]:>22s} {difference[i]:+6.3f} sigma {ratio[i]:13.3f}")
    print(f"\n{'calls':10s} {ours.calls:22,d} {theirs.calls:22,d} {theirs.calls / ours.calls:8,.0f} times as many")
    print(f"{'seconds':10s} {ours.seconds:22.1f} {theirs.seconds:22.1f}")
    hours = [f"{posterior.calls / 60:,.1f} h" for posterior in (ours, theirs)]
    print(f"{'at a minute a call':18s} {hours[0]:>14s} {hours[1]:>22s}")
    return bool(np.all(np.abs(difference) < MEAN_LIMIT) and np.all(np.abs(ratio - 1) < SD_LIMIT))


def draw(target: Target, ours: Posterior, theirs: Posterior, path: Path) -> None:
    """Corner plot of both."""
    ranges = dict(zip(target.names, target.bounds.tolist(), strict=True))
    chains.print_load_details = False
    both = [
        MCSamples(
            samples=posterior.samples,
            weights=posterior.weights,
            names=list(target.names),
            labels=list(target.labels),
            ranges=ranges,
            label=f"{name}: {posterior.calls:,d} likelihood calls",
        )
        for name, posterior in (("emcee", theirs), ("surrogate", ours))
    ]
    plotter = plots.get_subplot_plotter(width_inch=8)
    plotter.triangle_plot(both, filled=[True, False], contour_colors=["#9db4c0", "#c1121f"])
    plotter.export(str(path))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder of the run and the picture")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    target = desi_w0wacdm()
    ours = by_surrogate(target, arguments.output, arguments.seed)
    theirs = by_emcee(target, arguments.seed)
    agree = compare(target, ours, theirs)
    picture = arguments.output / "desi_demo.png"
    draw(target, ours, theirs, picture)
    print(f"\n{picture}\n" + ("they agree" if agree else "THEY DO NOT AGREE"))
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
