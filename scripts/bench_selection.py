"""Speed and memory of batch selection, beside bmdal_reg where an interpreter that has it is given.

    python scripts/bench_selection.py --peer-python ENVIRONMENT/bin/python --output table.md

Gradients of a 512-512 ReLU network of 20 inputs, sketched to 512 features, 1000 labelled points, batches of 256. Each
measurement is a process of its own on one thread: CPU seconds of the features (sketch, and posterior where the method
takes one) and of the selection, and how much the peak memory grew. Of several repeats the fastest counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

from surrogate.selection.batch import select_batch
from surrogate.selection.gradients import GradientFeatures
from surrogate.selection.transforms import PoolAndTrain, posterior, sketch

HERE = Path(__file__).resolve().parent
METHODS = {"lcmd-tp": False, "maxdist-tp": False, "maxdet-p": True, "bait-f-p": True}  # whether given the labelled
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def problem(n_pool: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The network, the pool and the labelled points."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))
    return net, torch.randn(n_pool, 20), torch.randn(1000, 20)


def worker(method: str, n_pool: int, batch: int) -> dict[str, float]:
    """One batch, timed."""
    torch.set_num_threads(1)
    net, pool, train = problem(n_pool)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    split = PoolAndTrain(GradientFeatures.of(net, pool), GradientFeatures.of(net, train))
    split = sketch(512, generator=torch.Generator().manual_seed(0))(split)
    if METHODS[method]:
        split = posterior(1e-3)(split)
    middle = time.process_time()
    chosen = select_batch(split.pool, batch, train=split.train, method=method, transforms=()).indices
    end = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "features": middle - start,
        "selection": end - middle,
        "megabytes": peak / 1024,
        "chosen": len(set(chosen.tolist())),
    }


def measure(command: list[str], repeats: int) -> dict[str, float]:
    """The fastest of several runs of a worker."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, **ONE_THREAD}, cwd=HERE.parent
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(runs, key=lambda run: run["features"] + run["selection"])


def row(method: str, n_pool: int, batch: int, repeats: int, peer: str | None) -> str:
    """One line of the table."""
    sizes = [method, str(n_pool), str(batch)]
    ours = measure([sys.executable, str(HERE / "bench_selection.py"), "--worker", *sizes], repeats)
    cells = [method, f"{n_pool:,}", str(int(ours["chosen"])), *_numbers(ours)]
    if peer is None:
        return "| " + " | ".join([*cells, "", "", "", ""]) + " |"
    theirs = measure([peer, str(HERE / "peers" / "bmdal_worker.py"), *sizes], repeats)
    ratio = (theirs["features"] + theirs["selection"]) / (ours["features"] + ours["selection"])
    alone = theirs["selection"] / ours["selection"]
    return "| " + " | ".join([*cells, *_numbers(theirs), f"**{ratio:.1f}** ({alone:.1f})"]) + " |"


def _numbers(run: dict[str, float]) -> list[str]:
    return [f"{run['features']:.2f}", f"{run['selection']:.2f}", f"{run['megabytes']:.0f}"]


HEADER = """| method | pool | batch | features s | selection s | MB | bmdal_reg features | selection s | MB | faster |
|---|---|---|---|---|---|---|---|---|---|"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="interpreter of an environment with bmdal_reg 3.0.2")
    parser.add_argument("--pools", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument(
        "--large", type=int, default=1_000_000, help="pool for lcmd-tp alone, without the peer; 0 for none"
    )
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", type=Path, help="file for the table")
    parser.add_argument("--worker", nargs=3, metavar=("METHOD", "POOL", "BATCH"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.worker:
        method, n_pool, batch = arguments.worker
        print(json.dumps(worker(method, int(n_pool), int(batch))))
        return
    lines = [HEADER]
    print(HEADER)
    for n_pool in arguments.pools:
        for method in arguments.methods:
            lines.append(row(method, n_pool, arguments.batch, arguments.repeats, arguments.peer_python))
            print(lines[-1], flush=True)
    if arguments.large:
        lines.append(row("lcmd-tp", arguments.large, arguments.batch, 1, None))
        print(lines[-1], flush=True)
    if arguments.output:
        machine = f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread"
        arguments.output.write_text("\n".join([*lines, "", f"Measured on {machine}.", ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
