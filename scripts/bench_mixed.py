"""Tables with columns of text: models that know categories beside the same models with codes as numbers.

    python scripts/bench_mixed.py FOLDER [--points 500 2000] [--models process network boosting] [--seed 0]
        [--output benchmarks/mixed.md]

FOLDER holds diamonds.csv: 53,940 rows with the text columns cut, color and clarity, as in the package plotnine
(plotnine/data). The target is the logarithm of the price. 10,000 rows, drawn by the seed, are the test set; the first n
of the others are learned. "Codes" are positions of the words in alphabetical order. The process is ``GPRegressor``, the
network ``NetworkRegressor`` with one column of 0 and 1 for each word; HistGradientBoostingRegressor is printed beside.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np

TEXT = ("cut", "color", "clarity")
TEST_ROWS = 10_000
HEADER = "| rows | model | text as | RMSE | trimmed RMSE | 90 % interval holds | CPU s | how |\n" + 8 * "|---" + "|"


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
    how = getattr(model, "solver_", "")
    return (
        f"| {n} | {name} | {kind} | {np.sqrt(square.mean()):.4f} | {trimmed:.4f} | {inside} | {seconds:.0f} | {how} |",
        model,
    )


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not (options.folder / "diamonds.csv").exists():
        parser.error(f"{options.folder} lacks diamonds.csv: it is in the folder data of the package plotnine")
    frame, y = diamonds(options.folder, options.seed)
    lines, explanation = [HEADER], ""
    print(HEADER, flush=True)
    for n in options.points:
        for name in options.models:
            for kind in ("categories", "codes"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    line, model = row(frame, y, n, name, kind)
                print(line, flush=True)
                lines.append(line)
                if name == "process" and kind == "categories":
                    explanation = f"\nComponents of the additive model of {n} rows, with shares in the variance:\n\n"
                    explanation += explained(model)
    print(explanation)
    if options.output:
        title = "# Tables with columns of text"
        facts = (
            f"Written by `scripts/bench_mixed.py FOLDER --seed {options.seed}`, which says how. Diamonds: RMSE of the "
        )
        facts += "logarithm of the price; the trimmed one leaves out the worst 0.5 % of the test rows."
        options.output.write_text("\n".join([title, "", facts, "", *lines, explanation, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
