"""Measures both classifiers of feasibility on problems with forbidden regions.

    scripts/bench_feasibility.py FOLDER --seeds 1-3 --output feasibility.csv

FOLDER is a folder of problems, as `scripts/bench_posterior.py` takes it, that has `unphysical4`; the other problems are
targets of this package. Every run is a process of its own with one thread; the table goes to standard output.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench_posterior import OWN, TARGETS, Run, Setting, Suite, Task, chosen, keep, line, measure, seeds, table

KINDS = ("process", "svm")
PROBLEMS = ("unphysical4", "forbidden3", "cliff3", "truncated_gaussian4", "crescent", "corridor")
OPTIONS = "SURROGATE_BENCH_FEASIBILITY"


def measured(kind: str, setting: Setting, task: Task) -> Run:
    """A run with one of the classifiers, named after it."""
    os.environ[OPTIONS] = kind
    return replace(measure(setting, task), tool=kind)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="*")
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="names between commas")
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3])
    parser.add_argument("--output", type=Path)
    found = parser.parse_args(arguments)
    suites = [Suite.of(folder) for folder in (*found.suite, TARGETS)]
    setting = Setting({OWN: sys.executable}, None, None)
    runs = []
    for suite, problem in chosen(suites, found.problems.split(",")):
        for kind in KINDS:
            for seed in found.seeds:
                runs.append(measured(kind, setting, Task(suite, problem, OWN, seed)))
                print(line(runs[-1]), file=sys.stderr, flush=True)
                if found.output is not None:
                    keep(found.output, runs)
    print(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
