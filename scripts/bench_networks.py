"""What structured and re-parametrised networks bring: a table for each subcommand.

    python scripts/bench_networks.py repriorised [--widths 32 128] [--draws 400]

Chains of a Bayesian network of one hidden layer (GELU, 4 inputs, 64 rows of a smooth function, noise 0.1), in its own
parameters and repriorised, by the same sampler: 8 chains, 8 leapfrog steps, 150 draws of warm-up, and the effective
sample size of the worst of 20 predictions. CPU seconds of sampling on one thread.
"""

from __future__ import annotations

import argparse
import time

import torch

from surrogate.networks.repriorised import RepriorisedBNN, WideNetwork
from surrogate.rng import torch_generator
from surrogate.samplers.diagnostics import bulk_ess, rank_rhat, tail_ess
from surrogate.samplers.hmc import hmc

CHAINS, LEAPFROG, WARMUP = 8, 8, 150


def smooth_rows(n, seed):
    stream = torch_generator(seed, "rows")
    x = torch.randn(n, 4, dtype=torch.float64, generator=stream)
    noise = 0.1 * torch.randn(n, dtype=torch.float64, generator=stream)
    return x, torch.sin(2.0 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + noise


def plain_chains(model, draws, seed):
    stream = torch_generator(seed, "plain")
    start = torch.randn(CHAINS, model.n_parameters, dtype=torch.float64, generator=stream)
    return hmc(model.energy_of_parameters, start, n_draws=draws, n_warmup=WARMUP, n_leapfrog=LEAPFROG, generator=stream)


def repriorised(options):
    x, y = smooth_rows(64, 0)
    new = smooth_rows(20, 1)[0]
    titles = "width | coordinates | acceptance | min bulk ESS | min tail ESS | max R-hat | CPU s"
    print(f"| {titles} | ESS / 1000 gradients | ESS / s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for width in options.widths:
        for name in ("own", "primal", "dual"):
            model = RepriorisedBNN(WideNetwork(4, width), x, y, 0.1, "auto" if name == "own" else name)
            started = time.process_time()
            if name == "own":
                chains = plain_chains(model, options.draws, 0)
                parameters = chains.x
            else:
                drawn = model.sample(n_draws=options.draws, n_warmup=WARMUP, n_chains=CHAINS, n_steps=LEAPFROG)
                chains, parameters = drawn.chains, drawn.parameters
            seconds = time.process_time() - started
            values = torch.func.vmap(lambda theta, model=model: model.outputs(theta, new))(parameters.flatten(0, 1))
            values = values.view(options.draws, CHAINS, len(new)).numpy()
            ess, tail, rhat = bulk_ess(values).min(), tail_ess(values).min(), rank_rhat(values).max()
            print(
                f"| {width} | {name} | {float(chains.acceptance.mean()):.2f} | {ess:.0f} | {tail:.0f} "
                f"| {rhat:.3f} | {seconds:.1f} | {1000 * ess / (CHAINS * chains.n_evaluations):.2f} "
                f"| {ess / seconds:.2f} |",
                flush=True,
            )


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    chains = commands.add_parser("repriorised")
    chains.set_defaults(command=repriorised)
    chains.add_argument("--widths", type=int, nargs="+", default=[32, 128])
    chains.add_argument("--draws", type=int, default=400)
    options = parser.parse_args()
    options.command(options)


if __name__ == "__main__":
    main()
