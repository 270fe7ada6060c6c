"""Labels that batch active learning saves against random rows, on tables, beside bmdal_reg.

    python scripts/bench_active_learning.py FOLDER [--sets kegg25,pol] [--methods random,lcmd-tp] [--seeds 0,1,2]
        [--validation free,cross] [--steps 4] [--results results.csv] [--peer-python /path/to/python]

FOLDER holds gzipped CSV files without header, the target in the last column, as in the repository uci_datasets
(keggundirected, pol, protein, kin40k, elevators). "kegg25" is column 25 of keggundirected, "fried" is generated, and
"diamonds" comes from the package plotnine where it is installed.

The protocol is that of Holzmueller et al. (2023), https://arxiv.org/abs/2203.09410: a split at random, 20 % to test,
1024 rows to choose epochs by, 256 first labels, then batches of 256; the network is trained from scratch each time.
Errors are in standard deviations of the target. In the column "free" the 1024 rows are not counted as labels, as in the
paper; in "cross" and "none" they are not used: the epoch is chosen by folds of the labels, or is the last. Every result
is written at once to the CSV file, and runs that are complete there are not computed again; --report only prints the
table. --peer-python is an interpreter with bmdal_reg 3.0.2, which runs the same splits (methods "random" and "lcmd-tp",
column "free").
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

FREE = 1024
FILES = {"kegg25": ("keggundirected", 25)}  # set -> file, column of the target


@dataclass(frozen=True)
class Row:
    """Errors after one training."""

    program: str
    set: str
    seed: int
    method: str
    validation: str
    labels: int
    mae: float
    rmse: float
    q95: float
    q99: float
    maximum: float
    covered: float  # share of the test rows within 1.645 predicted standard deviations; NaN if there are none
    fit_seconds: float
    select_seconds: float

    def run(self) -> tuple[str, str, int, str, str]:
        """What all trainings of one run have in common."""
        return self.program, self.set, self.seed, self.method, self.validation


@dataclass(frozen=True, eq=False)
class Table:
    """Inputs, target of mean 0 and variance 1, and who is what: indices of rows."""

    x: np.ndarray
    y: np.ndarray
    test: np.ndarray
    valid: np.ndarray
    labelled: np.ndarray
    pool: np.ndarray


def load(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    if name == "fried":
        from sklearn.datasets import make_friedman1

        return make_friedman1(40768, noise=1.0, random_state=0)
    if name == "diamonds":
        return diamonds()
    stem, column = FILES.get(name, (name, -1))
    path = folder / f"{stem}.csv.gz"
    if not path.exists():
        msg = f"{path} is not there: the folder must hold {stem}.csv.gz"
        raise SystemExit(msg)
    with gzip.open(path) as file:
        values = np.loadtxt(file, delimiter=",")
    return np.delete(values, column, axis=1), values[:, column]


def diamonds() -> tuple[np.ndarray, np.ndarray]:
    """Price by carat, depth, table and sizes, and by cut, colour and clarity as indicators."""
    import pandas as pd
    from plotnine.data import diamonds as frame

    y = frame["price"].to_numpy(float)
    return pd.get_dummies(frame.drop(columns="price")).to_numpy(float), y


def split(x: np.ndarray, y: np.ndarray, seed: int, initial: int) -> Table:
    order = np.random.default_rng(seed).permutation(len(y))
    bounds = np.cumsum([len(y) // 5, FREE, initial])
    test, valid, labelled, pool = np.split(order, bounds)
    return Table(x, (y - y.mean()) / y.std(), test, valid, labelled, pool[:200_000])


def network(table: Table, labelled: np.ndarray, pool: np.ndarray, validation: str, seed: int, options):
    from surrogate.estimators.network import NetworkRegressor

    free = (table.x[table.valid], table.y[table.valid]) if validation == "free" else None
    how = "cross" if validation == "cross" else None
    kinds = {"activation": options.activation, "uncertainty": options.uncertainty}
    regressor = NetworkRegressor(**kinds, validation=how, random_state=seed)
    first = None if free else np.arange(len(labelled)) < len(table.labelled)  # drawn at random, all methods alike
    x, y = table.x[labelled], table.y[labelled]
    return regressor.fit(x, y, pool=table.x[pool], validation_data=free, representative=first)


def choose(regressor, table: Table, labelled: np.ndarray, pool: np.ndarray, method: str, n: int, stream) -> np.ndarray:
    """Indices of rows of the pool by gradient features of the network, sketched to 512."""
    from surrogate.selection.batch import select_batch
    from surrogate.selection.gradients import GradientFeatures

    module, scales = regressor.modules_[0], regressor.kernel_scales_
    here, there = (
        GradientFeatures.of(module, regressor.transform_inputs(table.x[rows]), scales=scales)
        for rows in (pool, labelled)
    )
    transforms = ("sketch:512", "posterior:0.1") if method.endswith("-p") or method == "maxdiag" else ("sketch:512",)
    transforms = () if method == "random" else transforms
    selection = select_batch(here, n, train=there, method=method, transforms=transforms, generator=stream)
    if not selection.complete:
        print(f"  {method}: {selection.status}", file=sys.stderr)
    return selection.indices.cpu().numpy()


def measure(table: Table, prediction: np.ndarray, sd: np.ndarray | float = np.nan) -> dict[str, float]:
    error = np.abs(prediction - table.y[table.test])
    covered = float(np.mean(error < 1.645 * sd)) if np.all(np.isfinite(sd)) else np.nan
    error = np.sort(error)
    return {
        "mae": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "q95": float(error[int(0.95 * len(error))]),
        "q99": float(error[int(0.99 * len(error))]),
        "maximum": float(error[-1]),
        "covered": covered,
    }


def learn(table: Table, name: str, seed: int, method: str, validation: str, options: argparse.Namespace, first: dict):
    """Rows of one run; ``first`` keeps the network on the first labels, which all methods share."""
    from surrogate.rng import torch_generator

    labelled, pool, select_seconds = table.labelled, table.pool, 0.0
    for step in range(options.steps + 1):
        start = time.process_time()
        key = (name, seed, validation)
        if step > 0 or key not in first:
            regressor = network(table, labelled, pool, validation, seed, options)
            fit_seconds = time.process_time() - start
        else:
            regressor, fit_seconds = first[key]
        if step == 0:
            first.clear()  # the one in use is enough
            first[key] = regressor, fit_seconds
        errors = measure(table, *regressor.predict(table.x[table.test], return_std=True))
        seconds = {"fit_seconds": fit_seconds, "select_seconds": select_seconds}
        yield Row("surrogate", name, seed, method, validation, len(labelled), **errors, **seconds)
        if step < options.steps:
            start = time.process_time()
            stream = torch_generator(seed, step, method)
            chosen = choose(regressor, table, labelled, pool, method, options.batch, stream)
            select_seconds = time.process_time() - start
            labelled, pool = np.concatenate([labelled, pool[chosen]]), np.delete(pool, chosen)


def peer_rows(python: str, table: Table, name: str, seed: int, method: str, options: argparse.Namespace):
    """Rows of bmdal_reg on the same split, in its own interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "table.npz", **asdict(table))
        command = [python, __file__, "--peer", folder, "--methods", method, "--steps", str(options.steps)]
        command += ["--batch", str(options.batch), "--seeds", str(seed), "--activation", options.activation]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.startswith("{"):
                    yield Row("bmdal_reg", name, seed, method, "free", **json.loads(line))
        if process.returncode:
            msg = f"{python} ended with status {process.returncode}"
            raise SystemExit(msg)


def peer(options: argparse.Namespace) -> None:
    """The same protocol by bmdal_reg, network, training and selection; runs in its interpreter."""
    import torch

    np.Inf, np.int = np.inf, int  # what bmdal_reg 3.0.2 needs of numpy 2
    from bmdal_reg.bmdal.algorithms import select_batch
    from bmdal_reg.bmdal.feature_data import TensorFeatureData
    from bmdal_reg.data import DictDataset
    from bmdal_reg.models import create_tabular_model
    from bmdal_reg.train import fit_model

    seed = int(options.seeds)
    table = Table(**np.load(Path(options.peer) / "table.npz"))
    known = np.concatenate([table.labelled, table.pool])
    x = (table.x - table.x[known].mean(0)) / (table.x[known].std(0) + 1e-30)
    x = torch.as_tensor(5 * np.tanh(x / 5), dtype=torch.float32)
    data = DictDataset({"X": x, "y": torch.as_tensor(table.y[:, None], dtype=torch.float32)})
    weight, bias, rate = {"relu": (0.2, 0.2, 0.375), "silu": (0.5, 1.0, 0.15)}[options.activation]
    config = {"act": options.activation, "weight_gain": weight, "bias_gain": bias, "lr": rate}
    kernel = {"base_kernel": "grad", "kernel_transforms": [("rp", [512])], "sel_with_train": True}
    kernel |= {"selection_method": "lcmd"}
    if options.methods == "random":
        kernel = {"base_kernel": "linear", "kernel_transforms": [], "selection_method": "random"}
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    labelled, pool, seconds = torch.as_tensor(table.labelled), torch.as_tensor(table.pool), 0.0
    for step in range(options.steps + 1):
        start = time.process_time()
        model = create_tabular_model(n_models=1, n_features=x.shape[1], **config)
        fit_model(model, data, 1, labelled, torch.as_tensor(table.valid), **config)
        fit_seconds = time.process_time() - start
        with torch.no_grad():
            prediction = model(x[table.test][None])[0, :, 0].numpy()
        record = {"labels": len(labelled), **measure(table, prediction), "fit_seconds": fit_seconds}
        print("\n" + json.dumps(record | {"select_seconds": seconds}), flush=True)
        if step < options.steps:
            start = time.process_time()
            rows = TensorFeatureData(x)
            given = {"train": rows[labelled], "pool": rows[pool]}
            models, y_train = [model.get_single_model(0)], data.tensors["y"][labelled]
            chosen, _ = select_batch(batch_size=options.batch, models=models, data=given, y_train=y_train, **kernel)
            seconds = time.process_time() - start
            keep = torch.ones(len(pool), dtype=torch.bool)
            keep[chosen] = False
            labelled, pool = torch.cat([labelled, pool[chosen]]), pool[keep]


def stored(path: Path) -> list[Row]:
    if not path.exists():
        return []
    types = {field.name: {"str": str, "int": int, "float": float}[field.type] for field in fields(Row)}
    with path.open(newline="") as file:
        return [Row(**{name: types[name](value) for name, value in line.items()}) for line in csv.DictReader(file)]


def store(path: Path, row: Row) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def curves(rows: list[Row]) -> dict[tuple, dict[int, Row]]:
    found: dict[tuple, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        found[row.run()][row.labels] = row
    return found


def labels_to_reach(curve: dict[int, Row], error: float) -> float:
    """Labels at which the RMSE first is down to ``error``, its logarithm interpolated; infinity if it never is."""
    points = sorted((labels, math.log(row.rmse)) for labels, row in curve.items())
    for (n0, e0), (n1, e1) in itertools.pairwise([(points[0][0], points[0][1]), *points]):
        if e1 <= math.log(error):
            return n1 if e0 <= e1 or n0 == n1 else n0 + (n1 - n0) * (e0 - math.log(error)) / (e0 - e1)
    return math.inf


def saving(curve: dict[int, Row], random: dict[int, Row]) -> float:
    """Share of the labels that random rows need for their lowest RMSE and that this method does not need for the same.

    None saved (0 or below) when the method does not get there with the labels of the run.
    """
    best = min(random.values(), key=lambda row: row.rmse)
    needed = labels_to_reach(curve, best.rmse)
    return 0.0 if math.isinf(needed) else 1.0 - needed / best.labels


def mean_log(curve: dict[int, Row], name: str, labels: set[int]) -> float:
    return float(np.mean([math.log(getattr(curve[n], name)) for n in labels]))


def line(runs: dict[tuple, dict[int, Row]], key: tuple[str, str, str, str]) -> str | None:
    """One line of the table: means over the seeds for which the method and random rows went equally far."""
    program, name, method, validation = key
    pairs = []
    for (a, b, seed, c, d), curve in runs.items():
        random = runs.get((program, name, seed, "random", validation))
        if (a, b, c, d) == key and random is not None and len(curve) > 1 and set(curve) == set(random):
            pairs.append((curve, random))
    if not pairs:
        return None
    last = max(set.intersection(*(set(curve) & set(random) for curve, random in pairs)))
    step = [{n for n in curve if n in random and min(curve) < n <= last} for curve, random in pairs]
    measures = ("rmse", "mae", "q95", "q99", "maximum")
    final = {field: np.mean([getattr(curve[last], field) for curve, _ in pairs]) for field in measures}
    change = {}
    for field in ("rmse", "mae", "q99"):
        paired = zip(pairs, step, strict=True)
        change[field] = np.mean([mean_log(c, field, n) - mean_log(r, field, n) for (c, r), n in paired])
    saved = [saving(curve, random) for curve, random in pairs]
    tail = np.mean([random[min(random)].rmse / random[min(random)].mae for _, random in pairs])
    every = [row for curve, _ in pairs for row in curve.values()]
    seconds = [np.mean([row.fit_seconds for row in every]), np.mean([row.select_seconds for row in every])]
    cells = [name, f"{tail:.2f}", program, method, validation, str(len(pairs)), str(last)]
    cells += [f"{final[field]:.4f}" for field in ("rmse", "mae", "q95", "q99")] + [f"{final['maximum']:.2f}"]
    coverage = [row.covered for row in every]
    cells += ["" if np.isnan(coverage).any() else f"{100 * min(coverage):.0f}-{100 * max(coverage):.0f} %"]
    cells += [f"{change[field]:+.3f}" for field in ("rmse", "mae", "q99")]
    cells += ["" if method == "random" else f"{100 * np.mean(saved):.0f} %"] + [f"{value:.1f}" for value in seconds]
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| set | RMSE/MAE at first | program | method | validation | seeds | labels | RMSE | MAE | 95 % | 99 % | largest "
    "| in 90 % intervals "
    "| log RMSE - random | log MAE - random | log 99 % - random | labels saved | fit s | select s |"
)


def report(rows: list[Row]) -> str:
    runs = curves(rows)
    keys = sorted({(a, b, c, d) for a, b, _, c, d in runs}, key=lambda k: (k[1], k[3], k[0], k[2] != "random", k[2]))
    lines = [text for key in keys if (text := line(runs, key))]
    return "\n".join([HEADER, "|" + "---|" * (HEADER.count("|") - 1), *lines])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--sets", default="kegg25,pol,kin40k,protein")
    parser.add_argument("--methods", default="random,lcmd-tp")
    parser.add_argument("--validation", default="free,cross")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, with commas")
    parser.add_argument("--initial", type=int, default=256)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--activation", default="relu", choices=["relu", "silu"])
    parser.add_argument("--uncertainty", default="last-layer", help="of the intervals; results in a file of their own")
    parser.add_argument("--results", type=Path, default=Path("active_learning.csv"))
    parser.add_argument("--peer-python", help="interpreter with bmdal_reg")
    parser.add_argument("--report", action="store_true", help="print the table of the results that are there")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.peer:
        return peer(options)
    if not options.report:
        run(options)
    print(report(stored(options.results)))
    return None


def run(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(1)
    if options.folder is None:
        msg = "give the folder with the data sets; see --help"
        raise SystemExit(msg)
    seeds, methods = [int(seed) for seed in options.seeds.split(",")], options.methods.split(",")
    loaded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    first: dict = {}
    for seed, name in itertools.product(seeds, options.sets.split(",")):
        loaded[name] = loaded.get(name) or load(name, options.folder)
        table = split(*loaded[name], seed, options.initial)
        jobs = [("surrogate", method, how) for how in options.validation.split(",") for method in methods]
        if options.peer_python:
            jobs += [("bmdal_reg", method, "free") for method in methods if method in {"random", "lcmd-tp"}]
        for program, method, how in jobs:
            done = curves(stored(options.results)).get((program, name, seed, method, how), {})
            if len(done) > options.steps:
                continue
            rows = (
                learn(table, name, seed, method, how, options, first)
                if program == "surrogate"
                else peer_rows(options.peer_python, table, name, seed, method, options)
            )
            for row in rows:
                store(options.results, row)
                seconds = f"{row.fit_seconds:.1f} + {row.select_seconds:.1f} s"
                print(*row.run(), f"{row.labels}: RMSE {row.rmse:.4f}, {seconds}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
