"""Networks trained in large batches: test error by batch size, with and without the policy that follows the batch size.

    python scripts/bench_large_batch.py FOLDER [--sets kin40k protein pol elevators] [--rows 4096] [--epochs 128]
        [--hidden 128] [--batches 256 1024 2048] [--settings none policy] [--seeds 2]

FOLDER holds NAME.csv.gz without header, the target in the last column ("kegg25" is column 25 of keggundirected). The
regressor's network (ReLU, tangent parametrisation) with two hidden layers, trained on so many rows; 1,024 others
choose the epoch, and the root mean square error is that of 4,000 more, in standard deviations of the target. Batches
of 64 take half of the step size that is tuned for 256, which is better there than the whole. The gap is the mean over
the seeds of the logarithm of the error over that at 64. CPU seconds of the training, one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from surrogate.networks.architecture import Architecture
from surrogate.networks.ensemble import Stack
from surrogate.networks.large_batch import BatchPolicy
from surrogate.networks.scaling import InputScaling
from surrogate.networks.training import HeldOut, Schedule, train
from surrogate.rng import torch_generator

HELD_OUT, TEST = 1024, 4000
NOTHING = BatchPolicy(power=0.0, warmup=0.0, least_steps=0.0)
POLICIES = {
    "none": NOTHING,
    "square root": BatchPolicy(power=0.5, least_steps=0.0),
    "linear": BatchPolicy(power=1.0, least_steps=0.0),
    "policy": BatchPolicy(),
    "policy, LAMB": BatchPolicy(optimizer="lamb"),
    "policy, bf16": BatchPolicy(precision="bf16"),
}


def split(folder, name, rows, seed):
    """Training, held-out and test rows, scaled by the training rows."""
    table = np.loadtxt(folder / f"{'keggundirected' if name == 'kegg25' else name}.csv.gz", delimiter=",")
    if name == "kegg25":
        table = np.column_stack([np.delete(table, 25, 1), table[:, 25]])
    table = table[np.random.default_rng(seed).permutation(len(table))]
    parts = table[TEST + HELD_OUT :][:rows], table[TEST : TEST + HELD_OUT], table[:TEST]
    scaling = InputScaling.of(parts[0][:, :-1])
    mean, spread = parts[0][:, -1].mean(), parts[0][:, -1].std()
    for part in parts:
        target = torch.from_numpy(((part[:, -1] - mean) / spread).astype(np.float32))
        yield scaling.tensor(part[:, :-1], torch.device("cpu")), target


def error(parts, batch, policy, options, seed):
    """Test error and CPU seconds."""
    (x, y), (held_x, held_y), (test_x, test_y) = parts
    architecture = Architecture(x.shape[1], (options.hidden, options.hidden))
    stack = Stack.of([architecture.build(torch_generator(seed, "weights"))])
    rate = architecture.activation.learning_rate * (0.5 if batch == 64 else 1.0)
    started = time.process_time()
    train(
        stack,
        x,
        y,
        torch.arange(len(x))[None],
        scales=architecture.scales(),
        schedule=Schedule(options.epochs, batch, rate, policy),
        generators=[torch_generator(seed, "batches")],
        held_out=HeldOut(held_x[None], held_y[None]),
    )
    with torch.no_grad():
        return float((stack(test_x[None])[0] - test_y).square().mean().sqrt()), time.process_time() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["kin40k", "protein", "pol", "elevators"])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024, 2048])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--settings", nargs="+", choices=[*POLICIES], default=[*POLICIES], help="at 2,048")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| set | batch | settings | RMSE | gap to 64 | CPU s |\n|---|---|---|---|---|---|")
    for name in options.sets:
        splits = [list(split(options.folder, name, options.rows, seed)) for seed in range(options.seeds)]
        base = None
        for batch in (64, *options.batches):
            titles = ["none"] if batch <= 256 else options.settings if batch == 2048 else ["none", "policy"]
            chosen = {title: POLICIES[title] for title in titles}
            for title, policy in chosen.items():
                found = [error(parts, batch, policy, options, seed) for seed, parts in enumerate(splits)]
                errors = np.log([row[0] for row in found])
                base = errors if base is None else base
                gap = np.expm1((errors - base).mean())
                print(
                    f"| {name} | {batch} | {title} | {np.exp(errors.mean()):.4f} | {gap:+.1%} "
                    f"| {np.mean([row[1] for row in found]):.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
