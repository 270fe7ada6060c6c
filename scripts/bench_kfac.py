"""K-FAC beside Adam: iterations and CPU seconds to the same training loss, full batches, double precision, one thread.

    python scripts/bench_kfac.py FOLDER [--seeds 0 1 2] [--steps 100] [--adam-steps 1000]

Two problems: 2,048 rows of kin40k (FOLDER holds kin40k.csv.gz without header, the target in the last column) with a
tanh network 8-64-64-64-1 and the mean square error; and the autoencoder 64-32-8-32-64 of scikit-learn's 1,797 digits
with tanh units and the binary cross-entropy, less its minimum, the entropy of the pixels. Adam has the best of three
constant rates: the one that is first at the loss that K-FAC has after its steps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from surrogate.optim import KFAC

RATES = (1e-3, 3e-3, 1e-2)


def kin40k(folder):
    table = np.loadtxt(folder / "kin40k.csv.gz", delimiter=",")
    table = table[np.random.default_rng(0).permutation(len(table))[:2048]]
    table = torch.from_numpy((table - table.mean(0)) / table.std(0))
    return table[:, :-1], table[:, -1:], (8, 64, 64, 64, 1), "mse", 0.0


def digits(_folder):
    from sklearn.datasets import load_digits

    x = torch.from_numpy(load_digits().data / 16.0)
    entropy = -float((torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).mean())
    return x, x, (64, 32, 8, 32, 64), "binary-cross-entropy", entropy


def network(widths, seed):
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        layers = [part for a, b in zip(widths[:-1], widths[1:], strict=True) for part in (nn.Linear(a, b), nn.Tanh())]
        return nn.Sequential(*layers[:-1]).double()


def curve(optimizer, model, problem, steps):
    """Losses before each step and after the last, and the CPU seconds until then."""
    x, y, _, loss, floor = problem
    criterion = {"mse": nn.MSELoss(), "binary-cross-entropy": nn.BCEWithLogitsLoss()}[loss]

    def closure():
        optimizer.zero_grad()
        value = criterion(model(x), y)
        value.backward()
        return value

    start, losses, seconds = time.process_time(), [], []
    for _ in range(steps):
        losses.append(float(optimizer.step(closure).detach()) - floor)
        seconds.append(time.process_time() - start)
    losses.append(float(closure().detach()) - floor)
    return np.array(losses), np.array([0.0, *seconds])


def reached(losses, level):
    below = np.flatnonzero(losses <= level)
    return int(below[0]) if len(below) else None


def compare(name, problem, seed, steps, adam_steps):
    model = network(problem[2], seed)
    generator = torch.Generator().manual_seed(seed)
    losses, seconds = curve(KFAC(model, loss=problem[3], generator=generator), model, problem, steps)
    marks = " | ".join(f"{losses[k]:.5f}" for k in (10, 25, 50, steps))
    level, best = losses[-1], None
    for rate in RATES:
        model = network(problem[2], seed)
        other, spent = curve(torch.optim.Adam(model.parameters(), lr=rate), model, problem, adam_steps)
        at = reached(other, level)
        if at is not None and (best is None or at < best[0]):
            best = at, spent[at], rate
        print(f"  {name} {seed}: Adam {rate:g}: {other[steps]:.5f} after {steps}, {other[-1]:.5f} after {adam_steps}")
    adam = f"{best[0]} | {best[1]:.1f} | {best[2]:g}" if best else f"> {adam_steps} | > {spent[-1]:.1f} | any"
    print(f"| {name} | {seed} | {marks} | {seconds[-1]:.1f} | {adam} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--adam-steps", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| problem | seed | 10 | 25 | 50 | {args.steps} iterations | CPU s | Adam's iterations | CPU s | rate |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, load in (("kin40k", kin40k), ("digits", digits)):
        problem = load(args.folder)
        for seed in args.seeds:
            compare(name, problem, seed, args.steps, args.adam_steps)


if __name__ == "__main__":
    main()
