"""Error bars of labelling runs with networks, for each posterior of the networks.

    python scripts/bench_labelling.py FOLDER [--sets kin40k protein pol] [--seeds 0 1] [--labels 100 200 300]
        [--posteriors last-layer kfac swag] [--pool 5000] [--results labelling.jsonl]

FOLDER as in ``bench_uncertainty.py``. A run of ``surrogate.label`` with ``model="network"`` and its defaults on a pool
of rows drawn at random; 2,000 others test it after each batch. The posterior shapes error bars alone: networks and rows
are the same for all posteriors, and are computed once. Columns: share of test rows within intervals of 90 % at each
number of labels, one figure a seed; mean negative logarithm of the density that the calibration gives the test rows,
width of the intervals, in standard deviations of the target, and Spearman's correlation of |error| and standard
deviation, means over the stages. "constant": one size for all rows, from the same errors. "ambiguity": sizes times
sqrt(1 - v / e), where e is the mean squared error of single networks on held-out rows and v the mean variance between
networks on rows of the pool: the mean squared error of their mean is less than that of single networks by v (Krogh &
Vedelsby 1994, https://papers.nips.cc/paper/1001).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_uncertainty import table
from scipy import stats

TEST = 2000
POOL = 400  # rows of the pool on which the variance between networks is taken


def shared_networks():
    """Makes posteriors share the networks of equal rows and seed."""
    from surrogate.networks import fitting

    train, kept = fitting.learn, {}

    def learn(task, splits, **options):
        key = (task.seed, len(task.y), float(task.y.sum()), float(task.x.sum()))
        if key not in kept:
            kept.clear()
            kept[key] = train(task, splits, **options)
        return kept[key]

    fitting.learn = learn


def calibrations(kind, model, y, pool):
    """The model with its own sizes of errors and with others, see the module."""
    from surrogate.networks.uncertainty import calibrate

    judged = model.held_out.judged
    error, variance = model.held_out.error[judged], model.held_out.variance[judged, None]
    yield kind, replace(model, calibration=calibrate(error, variance))
    yield f"{kind}, noise by prediction", replace(model, calibration=calibrate(error, variance, y[judged] - error))
    own, share = model.calibration, 1.0 - ambiguity(model, pool) / np.mean(error**2)
    smaller = replace(own, noise=share * own.noise, weights=share * own.weights)
    yield f"{kind}, ambiguity", replace(model, calibration=smaller)
    one = calibrate(error, variance[:, :0])
    yield "constant", replace(model, calibration=replace(one, weights=np.zeros(1)))


def ambiguity(model, x):
    """Mean variance between the networks."""
    return float(np.var([member.predict(x)[0] for member in model.members], axis=0).mean())


def row(model, x, y):
    found = model.predict(x)
    size, error = found.sd / model.sd_scale, found.mean - y
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "inside": float(np.mean((found.low <= y) & (y <= found.high))),
        "nll": float(-model.calibration.log_density(error, size).mean()),
        "width": float(np.mean(found.high - found.low)),
        "rho": 0.0 if np.allclose(size, size[0]) else float(stats.spearmanr(np.abs(error), size)[0]),
    }


def run(folder, name, seed, options):
    """Results at each number of labels."""
    from surrogate import label
    from surrogate.labelling.loop import distinct_labelled, fit
    from surrogate.labelling.recipe import encoded

    x, y = table(name, folder)
    order = np.random.default_rng(seed).permutation(len(y))
    test, rows = order[:TEST], order[TEST:][: options.pool]
    target = y[rows]
    with label(x[rows], seed=seed, model="network", progress=False) as labelling:
        new, pool = (encoded(labelling.recipe, labelling.pool, x[some]) for some in (test, rows[:POOL]))
        for count in options.labels:
            batch = labelling.ask(count - labelling.state.n_labels)
            labelling.tell(batch.rows, target[batch.rows])
            labels = labelling.state.y[distinct_labelled(labelling.pool, labelling.state)]
            for kind in options.posteriors:
                settings = replace(labelling.settings, uncertainty=kind)
                model = fit(labelling.pool, labelling.state, settings)
                for title, one in calibrations(kind, model, labels, pool):
                    if title != "constant" or kind == options.posteriors[0]:
                        yield {"set": name, "seed": seed, "labels": count, "posterior": title, **row(one, new, y[test])}


def report(rows):
    print("| set | posterior | seeds | RMSE at the end | inside 90 %, each stage | NLL | width | rho |\n|" + "---|" * 8)
    for name, title in dict.fromkeys((row["set"], row["posterior"]) for row in rows):
        some = [row for row in rows if (row["set"], row["posterior"]) == (name, title)]
        last = max(row["labels"] for row in some)
        stages = [
            [row["inside"] for row in some if row["labels"] == n] for n in sorted({row["labels"] for row in some})
        ]
        inside = ", ".join("/".join(f"{value:.3f}" for value in stage) for stage in stages)
        rmse = np.mean([row["rmse"] for row in some if row["labels"] == last])
        nll, width, rho = (np.mean([row[column] for row in some]) for column in ("nll", "width", "rho"))
        seeds = len({row["seed"] for row in some})
        print(f"| {name} | {title} | {seeds} | {rmse:.3f} | {inside} | {nll:.3f} | {width:.2f} | {rho:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["kin40k", "protein", "pol"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--labels", nargs="+", type=int, default=[100, 200, 300])
    parser.add_argument("--posteriors", nargs="+", default=["last-layer", "kfac", "swag"])
    parser.add_argument("--pool", type=int, default=5000)
    parser.add_argument("--results", type=Path, default=Path("labelling.jsonl"))
    options = parser.parse_args()
    shared_networks()
    rows = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    done = {(row["set"], row["seed"]) for row in rows}
    for name, seed in [(name, seed) for seed in options.seeds for name in options.sets]:
        if (name, seed) in done:
            continue
        new = list(run(options.folder, name, seed, options))
        rows += new
        with options.results.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in new)
    report(rows)


if __name__ == "__main__":
    main()
