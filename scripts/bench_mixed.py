"""Tables with columns of text: models that know categories beside the same models with codes as numbers.

    python scripts/bench_mixed.py FOLDER [--points 500 2000] [--models process network boosting] [--seeds 0 1 2]
        [--process 6000] [--million] [--rows rows.json] [--output benchmarks/mixed.md]

FOLDER holds diamonds.csv: 53,940 rows with the text columns cut, color and clarity, as in the package plotnine
(plotnine/data). The target is the logarithm of the price. 10,000 rows, drawn by the seed, are the test set; the first n
of the others are learned. "Codes" are positions of the words in alphabetical order. The process is ``GPRegressor``, the
network ``NetworkRegressor`` with one column of 0 and 1 for each word; HistGradientBoostingRegressor is printed beside.
With --rows the figures are kept in a file as they come and not computed again: a long benchmark may be made in parts.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np

TEXT = ("cut", "color", "clarity")
TEST_ROWS = 10_000
HEADER = (
    "| seed | rows | model | text as | RMSE | trimmed RMSE | 90 % interval holds | CPU s | how |\n" + 9 * "|---" + "|"
)


def diamonds(folder: Path, seed: int):
    import pandas

    frame = pandas.read_csv(folder / "diamonds.csv")
    order = np.random.default_rng(seed).permutation(len(frame))
    frame = frame.iloc[order].reset_index(drop=True)
    y = np.log(frame.pop("price").to_numpy(dtype=float))
    return frame, y


def as_codes(frame):
    return frame.assign(**{name: frame[name].astype("category").cat.codes.astype(float) for name in TEXT})


def as_columns(frame):
    import pandas

    return pandas.get_dummies(frame, columns=list(TEXT), dtype=float)


def process(kind, frame):
    from surrogate import GPRegressor

    return GPRegressor(), frame if kind == "categories" else as_codes(frame)


def network(kind, frame):
    from surrogate import NetworkRegressor

    return NetworkRegressor(), as_columns(frame) if kind == "categories" else as_codes(frame)


def boosting(kind, frame):
    from sklearn.ensemble import HistGradientBoostingRegressor

    if kind == "codes":
        return HistGradientBoostingRegressor(random_state=0), as_codes(frame)
    model = HistGradientBoostingRegressor(random_state=0, categorical_features=list(TEXT))
    return model, frame.assign(**{name: frame[name].astype("category") for name in TEXT})


MODELS = {"process": process, "network": network, "boosting": boosting}


def row(frame, y, n, name, kind):
    model, x = MODELS[name](kind, frame)
    start = time.process_time()
    model.fit(x[:n], y[:n])
    seconds = time.process_time() - start
    test, truth = x[-TEST_ROWS:], y[-TEST_ROWS:]
    inside = "-"
    if name == "boosting":
        mean = model.predict(test)
    else:
        mean, sd = model.predict(test, return_std=True)
        inside = f"{np.mean(np.abs(truth - mean) < 1.645 * sd):.1%}"
    square = np.sort((truth - mean) ** 2)
    trimmed = np.sqrt(square[: -TEST_ROWS // 200].mean())
    numbers = {"rmse": float(np.sqrt(square.mean())), "trimmed": float(trimmed), "inside": inside, "seconds": seconds}
    return numbers | {"how": str(getattr(model, "solver_", ""))}, model


def explained(model) -> str:
    lines = [f"- {part.name}: {part.share:.4f}" for part in model.components_ if part.share >= 5e-4]
    clarity = model.alike_["clarity"]
    pairs = [
        (clarity.difference[i, j], f"{clarity.words[i]} and {clarity.words[j]}")
        for i in range(len(clarity.words))
        for j in range(i)
    ]
    nearest, farthest = min(pairs), max(pairs)
    words = f"Clarity: {nearest[1]} are most alike (they differ by {nearest[0]:.3f} in log price), "
    return "\n".join([*lines, "", words + f"{farthest[1]} least ({farthest[0]:.3f})."])


def million() -> str:
    """One evaluation of the evidence of basis functions for a million rows."""
    import resource

    import torch

    from surrogate.gp import AdditiveBasis, Component, ZeroSum

    rng, n = np.random.default_rng(0), 1_000_000
    u = torch.as_tensor(np.column_stack([rng.uniform(-1, 1, (n, 2)), rng.integers(0, 3, n), rng.integers(0, 5, n)]))
    y = torch.sin(3.0 * u[:, 0]) + 0.3 * u[:, 2] * u[:, 1] + 0.1 * torch.as_tensor(rng.standard_normal(n))
    three, five = {2: ZeroSum(3)}, {3: ZeroSum(5)}
    parts = [Component.of(u, numbers=[j], functions=22) for j in (0, 1)]
    parts += [Component.of(u, numbers=[j], categories=three, functions=22) for j in (0, 1)]
    parts += [Component.of(u, categories=three), Component.of(u, categories=five)]
    parts += [Component.of(u, numbers=[0], categories=five, functions=15)]
    start = time.process_time()
    basis = AdditiveBasis.of(parts, u, y - y.mean())
    built, vector = time.process_time() - start, basis.process.vector()
    start = time.process_time()
    for _ in range(5):
        basis.objective(vector)
    each = (time.process_time() - start) / 5
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    size = sum(part.size for part in parts)
    return (
        f"One evaluation of evidence and gradient with {size} basis functions takes {each:.3f} CPU s for a million "
        f"rows, after {built:.1f} CPU s for their sums, at {memory:.2f} GB in all (two numbers, categories of 3 and 5 "
        "words)."
    )


def table(rows: dict) -> list[str]:
    lines = [HEADER]
    for key, row in rows.items():
        seed, n, name, kind = key.split(":")
        numbers = f"{row['rmse']:.4f} | {row['trimmed']:.4f} | {row['inside']} | {row['seconds']:.0f}"
        lines.append(f"| {seed} | {n} | {name} | {kind} | {numbers} | {row['how']} |")
    return lines


def verdicts(rows: dict) -> list[str]:
    """For each model and number of rows how often categories are better than codes, and by how much."""
    groups: dict = {}
    for key, row in rows.items():
        seed, n, name, kind = key.split(":")
        groups.setdefault((name, int(n)), {}).setdefault(seed, {})[kind] = row
    lines = []
    for (name, n), seeds in sorted(groups.items()):
        pairs = [pair for pair in seeds.values() if len(pair) == 2]
        if pairs:
            words = []
            for what, text in (("rmse", "RMSE"), ("trimmed", "trimmed RMSE")):
                better = sum(pair["categories"][what] < pair["codes"][what] for pair in pairs)
                means = [np.mean([pair[kind][what] for pair in pairs]) for kind in ("categories", "codes")]
                words.append(
                    f"{text} {means[0]:.4f} and {means[1]:.4f}, lower with words for {better} of {len(pairs)} seeds"
                )
            lines.append(f"- {name}, {n} rows, with words and with codes: " + "; ".join(words) + ".")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--process", type=int, help="rows of one more process, with words")
    parser.add_argument("--million", action="store_true", help="the cost of basis functions for a million rows")
    parser.add_argument("--rows", type=Path, help="file that keeps the figures")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not (options.folder / "diamonds.csv").exists():
        parser.error(f"{options.folder} lacks diamonds.csv: it is in the folder data of the package plotnine")
    kept = json.loads(options.rows.read_text()) if options.rows and options.rows.exists() else {}
    rows, notes = kept.setdefault("rows", {}), kept.setdefault("notes", {})
    wanted = [
        f"{seed}:{n}:{name}:{kind}"
        for seed in options.seeds
        for n in options.points
        for name in options.models
        for kind in ("categories", "codes")
    ]
    wanted += [f"{options.seeds[0]}:{options.process}:process:categories"] if options.process else []
    for key in wanted:
        if key in rows:
            continue
        seed, n, name, kind = key.split(":")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows[key], model = row(*diamonds(options.folder, int(seed)), int(n), name, kind)
        print(key, rows[key], flush=True)
        if name == "process" and kind == "categories":
            notes[f"components of {n} rows"] = explained(model)
        if options.rows:
            options.rows.write_text(json.dumps(kept, indent=1))
    if options.million and "million" not in notes:
        notes["million"] = million()
        if options.rows:
            options.rows.write_text(json.dumps(kept, indent=1))
    text = page(rows, notes)
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


def page(rows: dict, notes: dict) -> str:
    facts = (
        "Written by `scripts/bench_mixed.py`, whose docstring describes the measurement. Diamonds: RMSE of the\n"
        "logarithm of the price; the trimmed RMSE leaves out the worst 0.5 % of the 10,000 test rows, some of which\n"
        "have impossible sizes."
    )
    lines = ["# Tables with columns of text", "", facts, "", *table(rows), "", *verdicts(rows)]
    for name, text in notes.items():
        title = "" if name == "million" else f"\n{name.capitalize()}, with shares in the variance:\n"
        lines += [title, text] if title else ["", text]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
