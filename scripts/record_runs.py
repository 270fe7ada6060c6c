"""Records what whole runs return, so that a change of the code can be shown to change nothing, or how much.

    scripts/record_runs.py FOLDER --suite SUITE --data DATA [--only gauss,regression] [--jobs 2]
    scripts/record_runs.py NEW --compare OLD

Each run is a process of its own with one thread. It writes FOLDER/NAME.npz, the arrays that it returned, and
FOLDER/NAME.json: a SHA-256 of its evaluations, of its trace and verdict, and of its summary, and its CPU seconds.
SUITE is a folder with `problems.py`, as `scripts/bench_posterior.py` takes it; DATA is a folder of gzipped CSV files
without header, the target in the last column. Runs that need a folder which is not given are left out, and this is
printed. With --compare no run is made: the table says which hashes agree, and the largest relative difference of
the arrays of those that do not.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from peers.common import load_module
from virtual_time import VirtualExecutor

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
SETS = ("kin40k", "protein", "pol", "elevators")
SIZES = (500, 1500, 5000)
NEW_ROWS = 500


# Posterior runs


def posterior_arrays(result):
    """Evaluations, trace, verdict and summary of a run."""
    rows = result.trace
    trace = np.array([[row[name] for name in sorted(row)] for row in rows]) if rows else np.empty((0, 0))
    return {
        "evaluations": np.column_stack([result.data.x, result.data.y, result.data.step]),
        "verdict": np.array([result.status]),
        "trace": trace,
        "summary": np.array([result.log_evidence, result.log_evidence_error, float(result.converged)]),
        "samples": result.samples,
        "weights": result.weights,
    }


def suite_run(suite, name, seed):
    from surrogate import infer

    problem = load_module(Path(suite) / "problems.py").get(name)

    def log_likelihood(x):
        values = problem.loglike(x[None]) if getattr(problem.loglike, "vec", False) else problem.loglike(x)
        return float(np.ravel(values)[0])

    return posterior_arrays(infer(log_likelihood, problem.bounds, seed=seed, progress=False))


def target_run(name, seed, **options):
    import surrogate
    from likelihoods import TARGETS

    target = TARGETS[name]()
    answer = target.log_likelihood(target.bounds.mean(1))
    noise = target.noise if isinstance(answer, tuple) else None
    prior = [
        surrogate.Parameter(f"x{i}", tuple(bounds), periodic=turns)
        for i, (bounds, turns) in enumerate(zip(target.bounds, target.periodic, strict=True))
    ]
    return posterior_arrays(
        surrogate.infer(target.log_likelihood, prior, seed=seed, noise=noise, progress=False, **options)
    )


def gradient_run(name, seed):
    from surrogate import infer

    functions = {"gaussian4": correlated_gaussian, "banana2": banana}
    d = int(name[-1])
    return posterior_arrays(infer(functions[name], [(-5.0, 5.0)] * d, seed=seed, gradient=True, progress=False))


def mixed_run(seed):
    from surrogate import Parameter, infer

    def log_likelihood(kind, n, x):
        return -0.5 * ((x - 0.3 * n) / 0.2) ** 2 - 0.4 * (n - 2) ** 2 + (0.7 if kind == "a" else -0.1 * x**2)

    prior = [Parameter("kind", categories=("a", "b")), Parameter("n", integers=(1, 3)), Parameter("x", (-2.0, 2.0))]
    return posterior_arrays(infer(log_likelihood, prior, seed=seed, progress=False))


def observables_run(seed):
    import surrogate

    times = np.linspace(0.0, 4.0, 30)

    def curve(rate, amplitude):
        return amplitude * np.exp(-rate * times)

    measured = curve(0.7, 2.0) + 0.05 * np.random.default_rng(1).standard_normal(30)
    target = surrogate.Observables(curve, surrogate.GaussianData(measured, np.full(30, 0.05**2)))
    prior = {"rate": (0.1, 2.0), "amplitude": (0.5, 5.0)}
    return posterior_arrays(surrogate.infer(target, prior, seed=seed, progress=False))


def correlated_gaussian(x):
    """Log density and its gradient."""
    precision = np.linalg.inv(0.6 * np.ones((len(x), len(x))) + 0.4 * np.eye(len(x)))
    offset = x - np.linspace(-1.0, 1.0, len(x))
    return float(-0.5 * offset @ precision @ offset), -precision @ offset


def banana(x):
    """Log density and its gradient."""
    bend = x[1] - x[0] ** 2
    value = -0.5 * (x[0] ** 2 + (bend / 0.5) ** 2)
    return float(value), np.array([-x[0] + 2.0 * x[0] * bend / 0.25, -bend / 0.25])


def asynchronous_run(seed):
    from likelihoods import TARGETS
    from surrogate import infer

    target = TARGETS["gaussian8"]()

    def seconds(x):
        rng = np.random.default_rng(zlib.crc32(x.tobytes()))
        return float(rng.lognormal(-0.5, 1.0))

    virtual = VirtualExecutor(4, seconds, overhead=0.0)
    with virtual.installed():
        result = infer(target.log_likelihood, target.bounds, seed=seed, executor=virtual, mode="async", progress=False)
    return posterior_arrays(result)


# Labelling and regression


def table(data, name):
    with gzip.open(Path(data) / f"{name}.csv.gz") as file:
        values = np.loadtxt(file, delimiter=",")
    rows = np.random.default_rng(0).permutation(len(values))
    return values[rows]


def labelling_run(data, name, seed):
    import surrogate

    values = table(data, name)[:1500]
    x, y = values[:, :-1], values[:, -1]
    answers = {row.tobytes(): float(value) for row, value in zip(x, y, strict=True)}
    run = surrogate.label(
        x, oracle=lambda row: answers[np.ascontiguousarray(row).tobytes()], budget=120, batch_size=30, seed=seed,
        progress=False,
    )  # fmt: skip
    found = run.predict()
    stages = np.array([[stage.n_labels, stage.rmse, stage.rmse_error] for stage in run.stages])
    return {
        "evaluations": np.flatnonzero(np.isfinite(run.state.y)),
        "verdict": np.array([run.ending().reason]),
        "trace": stages,
        "summary": np.stack([found.mean, found.low, found.high]),
    }


def regression_run(data, name, n):
    from surrogate import GPRegressor

    values = table(data, name)[: n + NEW_ROWS]
    train = values[:n]
    spread = train.std(0)
    values = (values - train.mean(0)) / np.where(spread > 0.0, spread, 1.0)
    model = GPRegressor().fit(values[:n, :-1], values[:n, -1])
    mean, sd = model.predict(values[n:, :-1], return_std=True)
    return {"summary": np.stack([mean, sd]), "verdict": np.array([f"{model.kernel_} {model.solver_}"])}


# The table of runs


def runs(suite, data):
    """Names of all runs, each with the function and arguments that make it."""
    found = {}
    if suite is None:
        print("no --suite: the runs of its problems are left out")
    else:
        names = load_module(Path(suite) / "problems.py").PUBLIC
        found |= {f"suite-{name}-{seed}": (suite_run, str(suite), name, seed) for name in names for seed in (1, 2)}
    found |= {f"gradient-{name}": (gradient_run, name, 1) for name in ("gaussian4", "banana2")}
    found["noisy"] = (target_run, "noisy_gaussian4", 1)
    found["mixed"] = (mixed_run, 1)
    found["observables"] = (observables_run, 1)
    found["periodic"] = (target_run, "angle3", 1)
    found["asynchronous"] = (asynchronous_run, 1)
    if data is None:
        print("no --data: labelling and regression are left out")
        return found
    found |= {f"labelling-{name}": (labelling_run, str(data), name, 1) for name in SETS}
    found |= {f"regression-{name}-{n}": (regression_run, str(data), name, n) for name in SETS for n in SIZES}
    return found


def digest(array):
    """SHA-256 of the bytes of an array and of its shape."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.tobytes()).hexdigest()


def record(folder, name, function, *arguments):
    import torch

    torch.set_num_threads(1)
    start = time.process_time()
    arrays = function(*arguments)
    seconds = time.process_time() - start
    np.savez(folder / f"{name}.npz", **arrays)
    answer = {"cpu": seconds, "hashes": {key: digest(value) for key, value in arrays.items()}}
    if "evaluations" in arrays:
        answer["evaluations"] = len(arrays["evaluations"])
    (folder / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")


def start(arguments, name):
    """One run in a process of its own; a run that fails is printed with its last line, and the others go on."""
    command = [sys.executable, __file__, str(arguments.folder), "--one", name]
    for option in ("suite", "data"):
        if getattr(arguments, option) is not None:
            command += [f"--{option}", str(getattr(arguments, option))]
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    print(f"{name}: {'done' if done.returncode == 0 else f'FAILED: {last}'}", flush=True)
    return done.returncode == 0


def difference(old, new):
    """Largest difference of numbers relative to the largest of the old ones; a word where shapes or texts differ."""
    if old.dtype.kind not in "fi":
        return "text"
    if old.shape != new.shape:
        return f"shape {old.shape} {new.shape}"
    both = np.isfinite(old) & np.isfinite(new)
    scale = np.abs(old[both]).max() if both.any() else 1.0
    return f"{np.abs(old - new)[both].max() / max(scale, 1e-300):.1e}" if both.any() else "0"


def compare(old, new):
    """A row for each run that both folders hold."""
    same = 0
    names = sorted(path.stem for path in new.glob("*.json") if (old / path.name).exists())
    for name in names:
        a, b = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for folder in (old, new))
        differing = [key for key in a["hashes"] if a["hashes"][key] != b["hashes"].get(key)]
        same += not differing
        words = "same"
        if differing:
            with np.load(old / f"{name}.npz") as before, np.load(new / f"{name}.npz") as after:
                words = ", ".join(f"{key} {difference(before[key], after[key])}" for key in differing)
        counts = f"{a.get('evaluations', '')} -> {b.get('evaluations', '')}" if "evaluations" in a else ""
        print(f"{name:28s} CPU {a['cpu']:7.1f} -> {b['cpu']:7.1f} s  {counts:14s} {words}")
    print(f"{same} of {len(names)} runs are identical")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suite", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="", help="words, separated by commas; a run is made if its name holds one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--compare", type=Path, metavar="OLD")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compare is not None:
        compare(arguments.compare, arguments.folder)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    table_of_runs = runs(arguments.suite, arguments.data)
    if arguments.one:
        record(arguments.folder, arguments.one, *table_of_runs[arguments.one])
        return
    words = arguments.only.split(",")
    names = [name for name in table_of_runs if any(word in name for word in words)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = list(pool.map(lambda name: start(arguments, name), names))
    if not all(done):
        sys.exit(1)


if __name__ == "__main__":
    main()
