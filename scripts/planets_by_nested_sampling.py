"""Evidences of none, one and two planets by nested sampling, beside the exact ones: figures of `likelihoods.mixed`.

    python scripts/planets_by_nested_sampling.py [--seed 0] [--live 800]

Needs dynesty (3.1.0 for the figures). Each number of planets is a run of its own over the parameters that act.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import logsumexp

from likelihoods.mixed import radial_velocities
from surrogate.problem.prior import Prior


def log_evidence(target, planets: int, live: int, seed: int) -> tuple[float, float, int]:
    """The log evidence, its error and the number of calls."""
    from dynesty import NestedSampler

    star, prior = target.log_likelihood, Prior.of(target.prior).given({"n_planets": planets})
    idle = {name: 1.0 for name in ("a1", "b1", "P1", "a2", "b2", "P2")}

    def log_likelihood(x):
        return star(planets, **{**idle, **dict(zip(prior.names, x, strict=True))})

    rng = np.random.default_rng(seed)
    transform = lambda u: prior.quantile(u[None])[0]  # noqa: E731
    sampler = NestedSampler(log_likelihood, transform, prior.d, nlive=live, rstate=rng)
    sampler.run_nested(dlogz=0.05, print_progress=False)
    found = sampler.results
    return float(found.logz[-1]), float(found.logzerr[-1]), int(np.sum(found.ncall))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of nested sampling")
    parser.add_argument("--live", type=int, default=800)
    asked = parser.parse_args()
    target = radial_velocities()
    star = target.log_likelihood
    exact = star.log_evidences()
    runs = [log_evidence(target, planets, asked.live, asked.seed) for planets in (1, 2)]
    found = np.array([exact[0], *(run[0] for run in runs)])  # none has no parameter: its evidence is its likelihood
    shares = [np.exp(values - logsumexp(values)) for values in (exact, found)]
    head = "| planets | exact log evidence | nested sampling | probability | nested sampling | calls |"
    print(head + "\n" + 6 * "|---" + "|")
    for n in range(3):
        words = "-" if n == 0 else f"{runs[n - 1][0]:.3f} (±{runs[n - 1][1]:.3f})"
        calls = 1 if n == 0 else runs[n - 1][2]
        print(f"| {n} | {exact[n]:.3f} | {words} | {shares[0][n]:.3f} | {shares[1][n]:.3f} | {calls} |")


if __name__ == "__main__":
    main()
