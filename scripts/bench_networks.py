"""What structured and re-parametrised networks bring: a table for each subcommand.

    python scripts/bench_networks.py repriorised [--widths 32 128] [--draws 400] [--leapfrog 8]

Chains of a Bayesian network of one hidden layer (GELU, 4 inputs, 64 rows of a smooth function, noise 0.1), in its own
parameters and repriorised, by the same sampler: 8 chains, by default 8 leapfrog steps, 150 draws of warm-up, and the
effective sample size of the worst of 20 predictions. CPU seconds of sampling on one thread.

    python scripts/bench_networks.py butterfly FOLDER [--seeds 3]

CPU milliseconds of a forward and backward pass of 256 rows by width, dense and with blocks of 32, 4 factors and rank
width / 16. Then kin40k (FOLDER/kin40k.csv.gz, without header, the target last): 4,096 rows, two hidden layers of 512,
48 epochs, root mean square error on 4,000 others in standard deviations of the target, for the layer between the two
dense, of low rank, and as butterflies.

    python scripts/bench_networks.py export FOLDER [--sets protein] [--rows 8192] [--epochs 64]

A NetworkRegressor on rows of the sets, saved, and smaller files of it: bytes, error on rows that nothing was fitted to,
in standard deviations of the target, and milliseconds of a prediction of 1000 rows by the reader of each kind of file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from surrogate import NetworkRegressor
from surrogate.networks.architecture import Architecture
from surrogate.networks.butterfly import BlockButterflyLinear
from surrogate.networks.ensemble import Stack
from surrogate.networks.export import export_network, load_network, save_network
from surrogate.networks.recipes import Recipe
from surrogate.networks.repriorised import RepriorisedBNN, WideNetwork
from surrogate.networks.scaling import InputScaling
from surrogate.networks.training import Schedule, train
from surrogate.rng import torch_generator
from surrogate.samplers.diagnostics import bulk_ess, rank_rhat, tail_ess
from surrogate.samplers.hamiltonian import hmc

CHAINS, WARMUP = 8, 150


def smooth_rows(n, seed):
    stream = torch_generator(seed, "rows")
    x = torch.randn(n, 4, dtype=torch.float64, generator=stream)
    noise = 0.1 * torch.randn(n, dtype=torch.float64, generator=stream)
    return x, torch.sin(2.0 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + noise


def plain_chains(model, options):
    stream = torch_generator(0, "plain")
    start = torch.randn(CHAINS, model.n_parameters, dtype=torch.float64, generator=stream)
    return hmc(
        model.energy_of_parameters,
        start,
        n_draws=options.draws,
        n_warmup=WARMUP,
        n_leapfrog=options.leapfrog,
        generator=stream,
    )


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
                chains = plain_chains(model, options)
                parameters = chains.x
            else:
                drawn = model.sample(n_draws=options.draws, n_warmup=WARMUP, n_chains=CHAINS, n_steps=options.leapfrog)
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


def passes(layer, width, repeats=9):
    """Median CPU milliseconds of forward and backward, by inputs and parameters."""
    x = torch.randn(256, width, generator=torch_generator(0, "rows")).requires_grad_()
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        layer(x).square().sum().backward()
        times.append(1000 * (time.process_time() - started))
    return float(np.median(times[1:]))


class LowRank(nn.Module):
    """y = U V' x + b; starts as the butterfly layer's low-rank term does, at the whole variance."""

    def __init__(self, width, rank, scale, generator):
        super().__init__()
        self.sd = (scale / rank**0.5) ** 0.5
        self.left = nn.Parameter(self.sd * torch.randn(width, rank, generator=generator))
        self.right = nn.Parameter(self.sd * torch.randn(width, rank, generator=generator))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        """Outputs, with shape (n, width)."""
        return x @ self.right @ self.left.T + self.bias


def with_layer(architecture, kind, seed):
    """A network, and the constants that its steps are scaled by, with the layer between the hidden ones replaced."""
    stream = torch_generator(seed, "weights")
    model, constants = architecture.build(stream), architecture.scales()
    scale, bias = constants[1]
    if kind.startswith("butterfly"):
        factors, rank = (int(word) for word in kind.split()[1:])
        layer = BlockButterflyLinear(512, 512, n_factors=factors, rank=rank)
        layer.reset_parameters(stream, scale=scale)
        constants[1] = (*layer.parameter_scales(scale)[:-1], bias)
        model[2] = layer
    elif kind.startswith("low rank"):
        layer = LowRank(512, int(kind.split()[-1]), scale, stream)
        constants[1] = (layer.sd, layer.sd, bias)
        model[2] = layer
    return model, constants


def kin40k(folder, kind, seed, rows=4096, epochs=48):
    table = np.loadtxt(folder / "kin40k.csv.gz", delimiter=",")
    order = np.random.default_rng(seed).permutation(len(table))
    test, train_rows = table[order[:4000]], table[order[4000 : 4000 + rows]]
    scaling = InputScaling.of(train_rows[:, :-1])
    mean, sd = train_rows[:, -1].mean(), train_rows[:, -1].std()
    x, new = (scaling.tensor(part[:, :-1], torch.device("cpu")) for part in (train_rows, test))
    y = torch.from_numpy(((train_rows[:, -1] - mean) / sd).astype(np.float32))
    model, constants = with_layer(Architecture(x.shape[1]), kind, seed)
    stack = Stack.of([model])
    started = time.process_time()
    train(
        stack,
        x,
        y,
        torch.arange(rows)[None],
        scales=constants,
        schedule=Schedule(epochs=epochs),
        generators=[torch_generator(seed, "batches")],
    )
    seconds = time.process_time() - started
    with torch.no_grad():
        error = stack(new[None])[0].numpy() - (test[:, -1] - mean) / sd
    return float(np.sqrt(np.mean(error**2))), sum(p.numel() for p in model[2].parameters()), seconds


def butterfly(options):
    print("| width | dense, ms | blocks, ms | blocks and low rank, ms | ratio |\n|---|---|---|---|---|")
    for width in (256, 512, 1024, 2048):
        dense = passes(nn.Linear(width, width), width)
        sizes = {"n_factors": min(4, (width // 32 - 1).bit_length())}
        blocks = passes(BlockButterflyLinear(width, width, rank=0, **sizes), width)
        both = passes(BlockButterflyLinear(width, width, rank=width // 16, **sizes), width)
        print(f"| {width} | {dense:.1f} | {blocks:.1f} | {both:.1f} | {both / dense:.2f} |", flush=True)
    print("\n| layer | parameters | of dense | RMSE, each seed | mean | CPU s |\n|---|---|---|---|---|---|")
    full = 512 * 512 + 512
    for kind in ("dense", "butterfly 2 32", "butterfly 3 16", "butterfly 1 48", "low rank 80"):
        rows = [kin40k(options.folder, kind, seed) for seed in range(options.seeds)]
        errors = [row[0] for row in rows]
        each = ", ".join(f"{error:.4f}" for error in errors)
        print(
            f"| {kind} | {rows[0][1]:,} | {rows[0][1] / full:.0%} | {each} | {np.mean(errors):.4f} "
            f"| {np.mean([row[2] for row in rows]):.1f} |",
            flush=True,
        )


RECIPES = {
    "single precision": ("npz", Recipe("float32")),
    "bf16": ("npz", Recipe("bf16")),
    "int8": ("npz", Recipe("int8")),
    "int8, 80 % pruned": ("npz", Recipe("int8", prune=0.8)),
    "int8, 80 % pruned, aware": ("npz", Recipe("int8", prune=0.8, aware=True)),
    "int8, 90 % pruned": ("npz", Recipe("int8", prune=0.9)),
    "int8, 80 % in units": ("npz", Recipe("int8", prune=0.8, structured=True)),
    "bf16 program": ("pt2", Recipe("bf16")),
    "int8 program": ("pt2", Recipe("int8")),
    "int8 program, dynamic": ("pt2", Recipe("int8", activations="dynamic")),
    "int8 program, static": ("pt2", Recipe("int8", activations="static")),
    "int8 program, static, aware": ("pt2", Recipe("int8", activations="static", aware=True)),
    "int8 program, dynamic, 80 % in units": ("pt2", Recipe("int8", activations="dynamic", prune=0.8, structured=True)),
}


def export(options):
    for name in options.sets:
        table = np.loadtxt(options.folder / f"{name}.csv.gz", delimiter=",")
        table = table[np.random.default_rng(0).permutation(len(table))]
        fit, rest = table[: options.rows], table[options.rows : options.rows + 6000]
        spread = fit[:, -1].std()
        network = NetworkRegressor(epochs=options.epochs, validation="holdout:0.1", calibration=None)
        network.fit(fit[:, :-1], fit[:, -1])
        print(f"\n{name}, {options.rows:,} rows\n\n| | bytes | of single precision | error | change | ms | of those |")
        print("|---|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            save_network(network, Path(folder) / "model.npz")
            model = load_network(Path(folder) / "model.npz")
            for title, (suffix, recipe) in RECIPES.items():
                path = Path(folder) / f"small.{suffix}"
                report = export_network(model, path, rest[:, :-1], rest[:, -1], recipe, tolerance=np.inf)
                size, ms = report.bytes, report.milliseconds_many
                print(
                    f"| {title} | {size[1]:,} | {size[1] / size[0]:.1%} | {report.errors[1] / spread:.4f} "
                    f"| {report.change:+.2%} | {ms[1]:.1f} | {ms[1] / ms[0]:.0%} |",
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
    chains.add_argument("--leapfrog", type=int, default=8)
    layers = commands.add_parser("butterfly")
    layers.set_defaults(command=butterfly)
    layers.add_argument("folder", type=Path)
    layers.add_argument("--seeds", type=int, default=3)
    files = commands.add_parser("export")
    files.set_defaults(command=export)
    files.add_argument("folder", type=Path)
    files.add_argument("--sets", nargs="+", default=["protein"])
    files.add_argument("--rows", type=int, default=8192)
    files.add_argument("--epochs", type=int, default=64)
    options = parser.parse_args()
    options.command(options)


if __name__ == "__main__":
    main()
