"""Writes the table of posteriors from public collections out of the runs that bench_posterior.py has kept.

scripts/bench_posterior.py FOLDER/third_party.py --seeds 1-5 --max-evaluations 300 --output third_party.csv
scripts/report_third_party.py FOLDER/third_party.py third_party.csv benchmarks/third_party.md
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from peers.common import load_module

_HEAD = ["problem", "parameters", "hard", "seeds", "calls", "gskl", "log Z off, in errors", "CPU s", "claims", "result"]


def number(text: str) -> float | None:
    """The number in a cell, None if it is empty."""
    return float(text) if text else None


def middle(runs: Sequence[dict[str, str]], name: str, form: str) -> str:
    """Median of the size of a column over the runs that have it."""
    values = [abs(value) for run in runs if (value := number(run[name])) is not None]
    return format(median(values), form) if values else "-"


def calls(runs: Sequence[dict[str, str]]) -> str:
    """Median and range of the number of calls."""
    counts = sorted(int(run["evaluations"]) for run in runs if run["evaluations"])
    if not counts:
        return "-"
    return f"{median(counts):g}" + (f" ({counts[0]}-{counts[-1]})" if counts[0] < counts[-1] else "")


def verdict(runs: Sequence[dict[str, str]]) -> str:
    """How many of the runs are solved, and what the others are."""
    solved, false = sum(run["solved"] == "True" for run in runs), sum(map(is_false, runs))
    words = [f"solved {solved}/{len(runs)}"] + ([f"**{false} false**"] if false else [])
    words += sorted({run["status"] for run in runs if not run["evaluations"]})
    return ", ".join(words)


def is_false(run: dict[str, str]) -> bool:
    """Whether a run claims to have converged on a posterior that is wrong."""
    return run["converged"] == "True" and run["solved"] != "True"


def row(problem: Any, runs: Sequence[dict[str, str]]) -> list[str]:
    """The cells of a problem."""
    claims = sum(run["converged"] == "True" for run in runs)
    seeds = ", ".join(run["seed"] for run in runs)
    figures = [calls(runs), middle(runs, "gskl", ".3g"), middle(runs, "pull", ".1f"), middle(runs, "cpu", ".0f")]
    hard = problem.hard.replace("|", r"\|")
    return [problem.name, str(problem.d), hard, seeds, *figures, f"{claims}/{len(runs)}", verdict(runs)]


def page(problems: Any, runs: Sequence[dict[str, str]]) -> str:
    """The page in markdown."""
    names = [name for name in problems.ALL if any(run["problem"] == name for run in runs)]
    rows = [row(problems.get(name), [run for run in runs if run["problem"] == name]) for name in names]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (_HEAD, ["---"] * len(_HEAD), *rows))
    solved, claims = sum(run["solved"] == "True" for run in runs), [run for run in runs if run["converged"] == "True"]
    return f"""# Posteriors of public collections

Posteriors of posteriordb and sbibm that nobody here wrote, with the collections' own reference draws, by
`surrogate.infer` with its defaults. A run is solved when the symmetrised Gaussian divergence gskl of its samples from
the reference draws is below 0.05; a claim of convergence that is not solved is false. Figures are medians over seeds.
Written by `scripts/report_third_party.py`. A run that was cut off, as the table says, counts as not solved; problems
that are not in the table were not run. The runs were made over two hours of development on a busy machine: their
versions differ by a few commits, and their times are rough.

**Solved {solved} of {len(runs)} runs; {sum(map(is_false, runs))} of {len(claims)} claims false.**

{table}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the runs and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("page", type=Path)
    found = parser.parse_args(arguments)
    with found.runs.open(newline="", encoding="utf-8") as file:
        runs = list(csv.DictReader(file))
    found.page.write_text(page(load_module(found.problems), runs), encoding="utf-8")


if __name__ == "__main__":
    main()
