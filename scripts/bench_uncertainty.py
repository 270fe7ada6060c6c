"""How good the error bars of networks are, beside a Gaussian process and gradient boosting of quantiles.

    python scripts/bench_uncertainty.py FOLDER [--sets kin40k,protein] [--models last-layer,kfac] [--seeds 0,1,2]
        [--rows 1024] [--hidden 128,128] [--results results.jsonl] [--report]

FOLDER holds gzipped CSV files without header, the target in the last column (kin40k, protein, pol, keggundirected);
"kegg25" is column 25 of keggundirected, "diamonds" comes from the package plotnine and is left out without it. A
seed draws the training rows and 4,000 test rows; the target is standardised over the table. Networks have two hidden
layers of 256 (64 for "mcmc"), or those of --hidden, and the estimators' defaults otherwise: the labels that choose the
epoch and size the error bars are among the training rows.

Regression: NLL is the mean negative log-density that the model gives the targets (networks: Student t; a process:
normal), in standard deviations of the target. "normal" is that of a normal variable with the model's mean and standard
deviation, CRPS its continuous ranked probability score; coverage is that of the model's own intervals; rho is
Spearman's correlation of |error| and standard deviation. "constant" is the network of the row above with one size for
all errors, fitted to the same held-out errors in the same way. Classification ("digits", "waves": 54 columns, 7 classes
of unequal size, made by scikit-learn in the likeness of covertype): accuracy, NLL and the expected calibration error
over 15 bins. CPU seconds on one thread. Every result is written at once, and what is there is not computed again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

TEST = 4000
SETS = ("kin40k", "protein", "pol", "kegg25", "diamonds")
CLASSES = ("digits", "waves")
KINDS = ("last-layer", "kfac", "swag", "ensemble", "mcmc")
LEVELS = (0.5, 0.9, 0.95)


@dataclass
class Answer:
    """Predictions of the test rows."""

    mean: np.ndarray
    sd: np.ndarray
    intervals: dict
    log_density: Callable | None = None  # of targets; None for a normal one
    constant: Answer | None = None  # the same mean with one size for all errors


def table(name, folder):
    """Inputs and target, or why there are none."""
    if name == "diamonds":
        try:
            from plotnine.data import diamonds
        except ImportError:
            return "plotnine, which has the table, is not installed"
        frame = diamonds.copy()
        y = np.log(frame.pop("price").to_numpy(float))
        for column in ("cut", "color", "clarity"):
            frame[column] = frame[column].astype("category").cat.codes
        return frame.to_numpy(float), (y - y.mean()) / y.std()
    path = folder / f"{'keggundirected' if name == 'kegg25' else name}.csv.gz"
    if not path.exists():
        return f"{path} is not there"
    with gzip.open(path) as file:
        values = np.loadtxt(file, delimiter=",")
    column = 25 if name == "kegg25" else values.shape[1] - 1
    y = values[:, column]
    return np.delete(values, column, 1), (y - y.mean()) / y.std()


def classes(name):
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    from sklearn.datasets import make_classification

    weights = [0.365, 0.488, 0.062, 0.005, 0.016, 0.03, 0.034]  # shares of the kinds of forest
    return make_classification(
        20_000, 54, n_informative=12, n_classes=7, n_clusters_per_class=2, weights=weights, flip_y=0.02, random_state=0
    )


def network(kind, seed, hidden):
    from surrogate import NetworkRegressor

    hidden = hidden or ((64, 64) if kind == "mcmc" else (256, 256))
    return NetworkRegressor(hidden=hidden, uncertainty=kind, random_state=seed)


def by_network(kind, seed, x, y, new, hidden=None):
    model = network(kind, seed, hidden).fit(x, y)
    yield
    mean, sd = model.predict(new, return_std=True)
    intervals = {level: model.predict_interval(new, level) for level in LEVELS}
    yield Answer(mean, sd, intervals, lambda y: model.log_predictive_density(new, y), constant(model, mean))


def constant(model, mean):
    """The same mean, with one size for all errors, from the errors of the same networks on the same unseen rows."""
    from surrogate.networks.uncertainty import calibrate

    none = np.empty((len(model.calibration_.errors), 0))
    fitted = calibrate(model.calibration_.errors, none)
    size = model.target_scale_ * fitted.size(np.empty((len(mean), 0))) * np.ones(len(mean))
    half = {level: fitted.quantile(level) * size for level in LEVELS}
    intervals = {level: (mean - half[level], mean + half[level]) for level in LEVELS}
    return Answer(mean, half[0.9] / stats.norm.ppf(0.95), intervals, lambda y: fitted.log_density(y - mean, size))


def by_process(_kind, seed, x, y, new):
    from surrogate import GPRegressor

    model = GPRegressor(random_state=seed).fit(x, y)
    yield
    mean, sd = (np.asarray(part) for part in model.predict(new, return_std=True))
    half = {level: stats.norm.ppf(0.5 + level / 2) * sd for level in LEVELS}
    yield Answer(mean, sd, {level: (mean - half[level], mean + half[level]) for level in LEVELS})


def by_boosting(_kind, seed, x, y, new):
    from sklearn.ensemble import HistGradientBoostingRegressor

    ends = sorted({0.5, *(0.5 + side * level / 2 for level in LEVELS for side in (-1, 1))})
    models = {
        end: HistGradientBoostingRegressor(loss="quantile", quantile=end, random_state=seed).fit(x, y) for end in ends
    }
    yield
    quantiles = dict(zip(ends, np.sort([models[end].predict(new) for end in ends], 0), strict=True))
    intervals = {level: (quantiles[0.5 - level / 2], quantiles[0.5 + level / 2]) for level in LEVELS}
    sd = np.maximum((intervals[0.9][1] - intervals[0.9][0]) / (2 * stats.norm.ppf(0.95)), 1e-6)
    yield Answer(quantiles[0.5], sd, intervals)


def timed(steps):
    start = time.process_time()
    next(steps)
    fitted = time.process_time()
    answer = next(steps)
    return answer, fitted - start, time.process_time() - fitted


def scores(answer, y):
    mean, sd = answer.mean, answer.sd
    error = y - mean
    z = error / sd
    crps = sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - np.pi**-0.5)
    normal = float(-stats.norm.logpdf(error, scale=sd).mean())
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "nll": normal if answer.log_density is None else float(-answer.log_density(y).mean()),
        "normal": normal,
        "crps": float(crps.mean()),
        **{
            f"cover{100 * level:g}": float(np.mean((low <= y) & (y <= high)))
            for level, (low, high) in answer.intervals.items()
        },
        "rho": None if np.allclose(sd, sd[0]) else float(stats.spearmanr(np.abs(error), sd)[0]),
    }


def regress(name, kind, seed, rows, folder, hidden):
    found = table(name, folder)
    if isinstance(found, str):
        return {"skipped": found}
    x, y = found
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:rows], order[-TEST:]
    run = {"gp": by_process, "boosting": by_boosting}.get(kind, partial(by_network, hidden=hidden))
    answer, fit, predict = timed(run(kind, seed, x[train], y[train], x[test]))
    row = {**scores(answer, y[test]), "fit": fit, "predict": predict}
    if answer.constant is not None:
        row["constant"] = scores(answer.constant, y[test])
    return row


def classify(name, kind, seed, rows, hidden):
    from surrogate import NetworkClassifier

    x, y = classes(name)
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:rows], order[rows:][:TEST]
    if kind == "boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(random_state=seed)
    else:
        hidden = hidden or ((32,) if kind == "mcmc" else (256, 256))
        model = NetworkClassifier(hidden=hidden, uncertainty=kind, random_state=seed, epochs=128)
    start = time.process_time()
    model.fit(x[train], y[train])
    fitted = time.process_time()
    p = np.zeros((len(test), len(np.unique(y))))
    p[:, model.classes_] = model.predict_proba(x[test])
    sure, right = p.max(1), p.argmax(1) == y[test]
    part = np.minimum((15 * sure).astype(int), 14)
    ece = sum(abs(right[part == k].sum() - sure[part == k].sum()) for k in range(15)) / len(test)
    nll = -np.log(np.maximum(p[np.arange(len(test)), y[test]], 1e-12)).mean()
    return {
        "accuracy": float(right.mean()),
        "nll": float(nll),
        "ece": float(ece),
        "fit": fitted - start,
        "predict": time.process_time() - fitted,
    }


def report(results):
    lines = defaultdict(list)
    for row in results:
        if "skipped" in row:
            print(f"{row['set']}: left out, {row['skipped']}")
            continue
        lines[row["set"], row["model"]].append(row)
        if "constant" in row:
            name = "constant" if row["model"] == "last-layer" else f"constant, {row['model']}"
            lines[row["set"], name].append({**row["constant"], "fit": 0.0, "predict": 0.0})
    for names, columns in (
        (SETS, ("rmse", "nll", "normal", "crps", "cover50", "cover90", "cover95", "rho", "fit", "predict")),
        (CLASSES, ("accuracy", "nll", "ece", "fit", "predict")),
    ):
        print(f"\n| set | model | seeds | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 3)}")
        for (name, model), rows in lines.items():
            if name in names:
                cells = [[row[column] for row in rows] for column in columns]
                text = ["-" if None in cell else f"{np.mean(cell):.3f}" for cell in cells]
                print(f"| {name} | {model} | {len(rows)} | {' | '.join(text)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", default=",".join(SETS + CLASSES))
    parser.add_argument("--models", default=",".join((*KINDS, "gp", "boosting")))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--hidden", help="widths of the networks' hidden layers, such as 128,128")
    parser.add_argument("--results", type=Path, default=Path("uncertainty.jsonl"))
    parser.add_argument("--report", action="store_true", help="only print the tables")
    args = parser.parse_args()
    done = [json.loads(line) for line in args.results.read_text().splitlines()] if args.results.exists() else []
    keys = {(row["set"], row["model"], row["seed"], row["rows"], row.get("hidden")) for row in done}
    hidden = args.hidden and tuple(int(width) for width in args.hidden.split(","))
    plan = [(s, m, int(k)) for k in args.seeds.split(",") for m in args.models.split(",") for s in args.sets.split(",")]
    for name, model, seed in [] if args.report else plan:
        if (name, model, seed, args.rows, args.hidden) in keys or (name in CLASSES and model == "gp"):
            continue
        run = classify(name, model, seed, args.rows, hidden) if name in CLASSES else None
        run = regress(name, model, seed, args.rows, args.folder, hidden) if run is None else run
        done.append({"set": name, "model": model, "seed": seed, "rows": args.rows, "hidden": args.hidden, **run})
        with args.results.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(json.dumps(done[-1]), flush=True)
    report([row for row in done if row["rows"] == args.rows and row.get("hidden") == args.hidden])


if __name__ == "__main__":
    main()
