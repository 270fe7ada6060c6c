"""Regression on tables, side by side: GPRegressor, gpytorch's ExactGP, scikit-learn's regressor and an SVGP.

    python scripts/bench_regression.py FOLDER [--sets protein kin40k] [--points 1000 3000 9000 36000]
        [--models surrogate gpytorch sklearn svgp] [--seconds 3600] [--prefix "taskset -c 1"]
    python scripts/bench_regression.py FOLDER --options [--sets protein kin40k] [--points 2000] [--kernel rbf]

The second form compares the options of GPRegressor instead: solvers, evidences, noise and precisions (``OPTIONS``).

FOLDER holds NAME.csv.gz without header, the target in the last column. 4,000 rows, drawn by seed 0, are the test set
of every row of the table; the first n of the others are the training set. Inputs and outputs are standardised by the
training rows for everybody; RMSE and NLL (mean negative log density of a test value, noise included) are in those
units. Each fit and prediction runs in a process of its own, on one thread; CPU seconds without
imports, and peak memory of that process. One that takes more CPU seconds than given is ended, and its row says so.
scikit-learn is left out beyond 4,000 points, and gpytorch beyond 12,000, where its matrices do not fit into 16 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

TEST_ROWS = 4000
LIMITS = {"sklearn": 4000, "gpytorch": 12_000}


def load(folder: Path, name: str, n: int) -> tuple[np.ndarray, ...]:
    table = np.loadtxt(folder / f"{name}.csv.gz", delimiter=",")
    order = np.random.default_rng(0).permutation(len(table))
    test, train = table[order[:TEST_ROWS]], table[order[TEST_ROWS : TEST_ROWS + n]]
    spread = train.std(0)
    train, test = ((part - train.mean(0)) / np.where(spread > 0, spread, 1.0) for part in (train, test))
    return train[:, :-1], train[:, -1], test[:, :-1], test[:, -1]


def surrogate_regressor(x, y, new, **options):
    from surrogate import GPRegressor

    model = GPRegressor(**options).fit(x, y)
    return *model.predict(new, return_std=True), f"{model.kernel_}, {model.solver_}, residual {model.residual_:.1e}"


def sklearn_regressor(x, y, new):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    d = x.shape[1]
    kernel = ConstantKernel(1.0, (1e-3, 1e4)) * RBF([d**0.5] * d, (1e-2, 1e4)) + WhiteKernel(0.1, (1e-8, 10.0))
    model = GaussianProcessRegressor(kernel).fit(x, y)
    return *model.predict(new, return_std=True), "rbf"


def _gpytorch_parts(x, model_class):
    import gpytorch
    import torch

    class Model(model_class):
        def __init__(self, *data):
            super().__init__(*data)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=x.shape[1]))

        def forward(self, points):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(points), self.covar_module(points))

    return gpytorch, torch, Model


def gpytorch_exact(x, y, new):
    """The library's defaults, its tutorial's optimiser: Adam, 100 steps, rate 0.1; float32."""
    import gpytorch

    gpytorch, torch, model_class = _gpytorch_parts(x, gpytorch.models.ExactGP)
    x, y, new = (torch.as_tensor(part, dtype=torch.float32) for part in (x, y, new))
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    model = model_class(x, y, likelihood)
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        loss = -objective(model(x), y)
        loss.backward()
        optimiser.step()
    model.eval(), likelihood.eval()
    with torch.no_grad():
        prediction = likelihood(model(new))
        return prediction.mean.double().numpy(), prediction.variance.double().sqrt().numpy(), "rbf"


def svgp(x, y, new):
    """512 inducing points, whitened, minibatches of 512, Adam with rate 0.01, 20 passes but at least 1,000 steps."""
    import gpytorch

    gpytorch, torch, _ = _gpytorch_parts(x, gpytorch.models.ExactGP)
    x, y, new = (torch.as_tensor(part, dtype=torch.float32) for part in (x, y, new))
    generator = torch.Generator().manual_seed(0)
    inducing = x[torch.randperm(len(x), generator=generator)[:512]].clone()

    class Model(gpytorch.models.ApproximateGP):
        def __init__(self):
            distribution = gpytorch.variational.CholeskyVariationalDistribution(len(inducing))
            super().__init__(gpytorch.variational.VariationalStrategy(self, inducing, distribution))
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=x.shape[1]))

        def forward(self, points):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(points), self.covar_module(points))

    model, likelihood = Model(), gpytorch.likelihoods.GaussianLikelihood()
    objective = gpytorch.mlls.VariationalELBO(likelihood, model, num_data=len(y))
    optimiser = torch.optim.Adam([*model.parameters(), *likelihood.parameters()], lr=0.01)
    for _ in range(max(1000, 20 * len(y) // 512)):
        rows = torch.randint(len(y), (512,), generator=generator)
        optimiser.zero_grad()
        loss = -objective(model(x[rows]), y[rows])
        loss.backward()
        optimiser.step()
    model.eval(), likelihood.eval()
    with torch.no_grad():
        prediction = likelihood(model(new))
        return prediction.mean.double().numpy(), prediction.variance.double().sqrt().numpy(), "rbf"


# Options of GPRegressor, each row with its name in the table.
OPTIONS = {
    "defaults": {},
    "solver=cg": {"solver": "cg"},
    "solver=cg, precision=float64": {"solver": "cg", "precision": "float64"},
    "solver=cg, precision=float16": {"solver": "cg", "precision": "float16"},
    "solver=local": {"solver": "local"},
    "solver=local, rank=64": {"solver": "local", "rank": 64},
    "solver=computation-aware": {"solver": "computation-aware"},
    "solver=basis": {"solver": "basis"},
    "solver=basis, evidence=neighbours": {"solver": "basis", "evidence": "neighbours"},
    "evidence=exact": {"evidence": "exact"},
    "evidence=iterative": {"evidence": "iterative"},
    "evidence=minibatch": {"evidence": "minibatch"},
    "noise=profile": {"noise": "profile"},
}
MODELS = {"surrogate": surrogate_regressor, "gpytorch": gpytorch_exact, "sklearn": sklearn_regressor, "svgp": svgp}


def measure(folder: Path, name: str, n: int, model: str, kernel: str) -> dict[str, object]:
    import gpytorch  # noqa: F401  # imports are not timed
    import sklearn.gaussian_process  # noqa: F401
    import torch

    import surrogate.estimators.gp  # noqa: F401
    from surrogate.linalg import LowPrecisionError

    torch.set_num_threads(1)
    x, y, new, truth = load(folder, name, n)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            given = OPTIONS.get(model)
            mean, sd, note = (
                MODELS[model](x, y, new) if given is None else surrogate_regressor(x, y, new, kernel=kernel, **given)
            )
        except LowPrecisionError as error:
            return {"set": name, "n": len(y), "model": model, "refused": str(error).split(":")[0]}
    seconds = time.process_time() - start
    z = (truth - mean) / sd
    return {
        "set": name,
        "n": len(y),
        "model": model,
        "rmse": float(np.sqrt(np.mean((mean - truth) ** 2))),
        "nll": float(np.mean(0.5 * np.log(2 * np.pi * sd**2) + 0.5 * z**2)),
        "coverage": float(np.mean(np.abs(z) < 1.96)),
        "seconds": seconds,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "note": note,
    }


def in_a_process(arguments: list[str], seconds: int) -> dict[str, object] | str:
    """What it measured, or why it measured nothing."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    single["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, **single},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10)),
    )
    if done.returncode == -signal.SIGXCPU:
        return f"ended after {seconds:,} CPU seconds"
    if done.returncode != 0:
        print(f"{' '.join(arguments)}\n{done.stderr[-2000:]}", file=sys.stderr)
        return f"failed with status {done.returncode}"
    return json.loads(done.stdout.splitlines()[-1])


def line(row: dict[str, object]) -> str:
    if "refused" in row:
        return f"| {row['set']} | {row['n']:,} | {row['model']} | | | | | | refused: {row['refused']} |"
    return (
        f"| {row['set']} | {row['n']:,} | {row['model']} | {row['rmse']:.4f} | {row['nll']:.4f} | "
        f"{row['coverage']:.3f} | {row['seconds']:.1f} | {row['gigabytes']:.2f} | {row['note']} |"
    )


def fill(options: argparse.Namespace, name: str) -> None:
    """Prints the lines of one set."""
    for n in options.points:
        for model in options.models:
            if n > LIMITS.get(model, n):
                continue
            given = [str(options.folder), "--sets", name, "--points", str(n), "--models", model, "--one"]
            given += ["--kernel", options.kernel]
            row = in_a_process(given, options.seconds)
            empty = f"| {name} | {n:,} | {model} | | | | | | {row} |"
            print(line(row) if isinstance(row, dict) else empty, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["protein", "kin40k"])
    parser.add_argument("--points", nargs="+", type=int)
    parser.add_argument("--models", nargs="+", choices=[*MODELS, *OPTIONS])
    parser.add_argument("--options", action="store_true", help="compare the options of GPRegressor")
    parser.add_argument("--kernel", default="auto", help="of GPRegressor with --options")
    parser.add_argument("--seconds", type=int, default=3600, help="CPU seconds that a fit may take")
    parser.add_argument("--prefix", type=shlex.split, default=[], help="command that runs all fits of a set")
    parser.add_argument("--one", action="store_true", help="in this process, and print a line of JSON")
    parser.add_argument("--lines", action="store_true", help="the lines of the table without its head")
    options = parser.parse_args()
    options.models = options.models or list(OPTIONS if options.options else MODELS)
    options.points = options.points or ([2000] if options.options else [1000, 3000, 9000, 36_000])
    if options.one:
        print(
            json.dumps(measure(options.folder, options.sets[0], options.points[0], options.models[0], options.kernel))
        )
        return
    if not options.lines:
        head = "| set | n | model | RMSE | NLL | 95 % covers | CPU s | GB | |\n|---|---|---|---|---|---|---|---|---|"
        print(head, flush=True)
    for name in options.sets:
        if options.prefix:
            again = ["--points", *map(str, options.points), "--models", *options.models]
            command = [sys.executable, __file__, str(options.folder), "--sets", name, *again, "--lines"]
            subprocess.run([*options.prefix, *command, "--seconds", str(options.seconds)], check=True)
        else:
            fill(options, name)


if __name__ == "__main__":
    main()
