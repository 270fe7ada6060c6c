"""A person labels batches of a table (here a function gives the labels); a killed run can be continued.

The same from the command line:

    surrogate label init mushrooms.csv --target weight --budget 60 -o runs/mushrooms
    surrogate label ask runs/mushrooms -n 20 > batch.csv      (fill in the column weight)
    surrogate label tell runs/mushrooms batch.csv
    surrogate label status runs/mushrooms
"""

import csv
import sys

import numpy as np

import surrogate


def write_table(path):
    """500 mushrooms, of which 20 have a weight already."""
    rng = np.random.default_rng(1)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["cap", "stem", "kind", "weight"])
        for i in range(500):
            row = [round(rng.uniform(2, 12), 2), round(rng.uniform(3, 9), 2), rng.choice(["bolete", "chanterelle"])]
            writer.writerow([*row, f"{weigh(*row):.2f}" if i < 60 and i % 3 == 0 else ""])


def weigh(cap, stem, kind):
    """What the scales say."""
    return 0.5 * float(cap) ** 2 + (2.0 if kind == "bolete" else 0.8) * float(stem)


def main(path="mushrooms.csv", folder="runs/mushrooms"):
    write_table(path)
    while True:
        with surrogate.label(path, "weight", output=folder, budget=60) as run:  # goes on where it was
            batch = run.ask(20)
            if not len(batch):
                break
            names, cells = run.original(batch.rows)
            run.tell(batch.rows, [weigh(*cells[row][: names.index("weight")]) for row in batch.rows])
    print(f"{run.state.n_labels} labels; {run.ending().reason}")
    for name, words in run.facts():
        print(f"{name:14}{words}")
    run.report(f"{folder}/report.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
