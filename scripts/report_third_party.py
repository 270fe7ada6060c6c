"""Writes the table of posteriors from public collections out of the runs that bench_posterior.py has kept.

scripts/bench_posterior.py FOLDER/third_party.py --seeds 1-5 --max-evaluations 250 --output third_party.jsonl
scripts/report_third_party.py FOLDER/third_party.py third_party.jsonl benchmarks/third_party.md

Of several records of one problem, tool and seed the last one counts. Runs of peers make a second table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

from peers.common import load_module

Run = dict[str, Any]

OWN = "surrogate"
_HEAD = ["problem", "parameters", "hard", "seeds", "calls", "gskl", "log Z off, in errors", "CPU s", "claims", "result"]


def latest(runs: Sequence[Run]) -> list[Run]:
    """The last record of each problem, tool and seed."""
    return list({(run["problem"], run["tool"], run["seed"]): run for run in runs}.values())


def middle(runs: Sequence[Run], name: str, form: str) -> str:
    """Median of the size of a column over the runs that have it."""
    values = [abs(run[name]) for run in runs if run[name] is not None]
    return format(median(values), form) if values else "-"


def calls(runs: Sequence[Run]) -> str:
    """Median and range of the number of calls."""
    counts = sorted(run["evaluations"] for run in runs if run["evaluations"] is not None)
    if not counts:
        return "-"
    return f"{median(counts):g}" + (f" ({counts[0]}-{counts[-1]})" if counts[0] < counts[-1] else "")


def verdict(runs: Sequence[Run]) -> str:
    """How many of the runs are solved, and what the others are."""
    solved, false = sum(run["solved"] for run in runs), sum(map(is_false, runs))
    words = [f"solved {solved}/{len(runs)}"] + ([f"**{false} false**"] if false else [])
    words += sorted({run["status"] for run in runs if run["evaluations"] is None})
    spent = [run["evaluations"] for run in runs if run["evaluations"] is not None and run["converged"] is False]
    words += [f"{len(spent)} without a claim after {' or '.join(map(str, sorted(spent)))} calls"] if spent else []
    return ", ".join(words)


def is_false(run: Run) -> bool:
    """Whether a run claims to have converged on a posterior that is wrong."""
    return bool(run["converged"]) and not run["solved"]


def conditions(runs: Sequence[Run]) -> str:
    """A sentence on how the runs were made, from their records."""
    days, commits = (sorted({run[name] for run in runs if run[name]}) for name in ("day", "commit"))
    when = f"on {days[0]}" if len(days) == 1 else f"between {days[0]} and {days[-1]}" if days else "on unknown days"
    of = f"{len(commits)} commits ({', '.join(commits)})" if len(commits) > 1 else f"commit {', '.join(commits) or '?'}"
    limits = sorted({run["max_evaluations"] for run in runs if run["max_evaluations"] is not None})
    words = f"The runs were made {when} with {of}"
    if limits:
        words += f", with at most {' or '.join(map(str, limits))} calls each"
    cut = sum("cut off" in run["status"] for run in runs)
    return f"{words}; {cut} of {len(runs)} were cut off before, and count as not solved." if cut else f"{words}."


def row(problem: Any, runs: Sequence[Run]) -> list[str]:
    """The cells of a problem."""
    claims = sum(bool(run["converged"]) for run in runs)
    seeds = ", ".join(str(run["seed"]) for run in sorted(runs, key=lambda run: int(run["seed"])))
    figures = [calls(runs), middle(runs, "gskl", ".3g"), middle(runs, "pull", ".1f"), middle(runs, "cpu", ".0f")]
    hard = problem.hard.replace("|", r"\|")
    return [problem.name, str(problem.d), hard, seeds, *figures, f"{claims}/{len(runs)}", verdict(runs)]


def wrapped(text: str) -> str:
    """A paragraph in lines of at most 120 characters."""
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def peer_table(names: Sequence[str], runs: Sequence[Run]) -> str:
    """Calls, divergence and verdict of other tools beside ours; empty without any."""
    tools = [OWN, *sorted({run["tool"] for run in runs} - {OWN})]
    if len(tools) == 1:
        return ""
    rows = []
    for name in names:
        groups = {tool: [run for run in runs if run["problem"] == name and run["tool"] == tool] for tool in tools}
        if any(groups[tool] for tool in tools[1:]):
            rows += [
                [name, tool, calls(group), middle(group, "gskl", ".3g"), middle(group, "cpu", ".0f"), verdict(group)]
                for tool, group in groups.items()
                if group
            ]
    head = ["problem", "tool", "calls", "gskl", "CPU s", "result"]
    words = wrapped(f"On the problems that were run with them. {conditions([r for r in runs if r['tool'] != OWN])}")
    return f"\n## Other tools beside it\n\n{words}\n\n{markdown(head, rows)}\n"


def page(problems: Any, runs: Sequence[Run]) -> str:
    """The page in markdown."""
    runs = latest(runs)
    own = [run for run in runs if run["tool"] == OWN]
    names = [name for name in problems.ALL if any(run["problem"] == name for run in own)]
    table = markdown(_HEAD, [row(problems.get(name), [run for run in own if run["problem"] == name]) for name in names])
    solved, claims = sum(run["solved"] for run in own), [run for run in own if run["converged"]]
    whole = sum(all(run["solved"] for run in own if run["problem"] == name) for name in names)
    missing = [name for name in problems.ALL if name not in names]
    words = f" Not run: {', '.join(missing)}." if missing else ""
    return f"""# Posteriors of public collections

Posteriors of posteriordb and sbibm written by others, with the collections' own reference draws, by
`surrogate.infer` with its defaults. A run is solved when the symmetrised Gaussian divergence gskl of its samples from
the reference draws is below 0.05; a claim of convergence that is not solved is false. Figures are medians over seeds.
Written by `scripts/report_third_party.py` from the records of `scripts/bench_posterior.py`.

{wrapped(conditions(own) + words)}

**Solved {solved} of {len(own)} runs; {sum(map(is_false, own))} of {len(claims)} claims false; {whole} of {len(names)}
problems solved with every seed.**

{table}
{peer_table(names, runs)}"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the runs and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("page", type=Path)
    found = parser.parse_args(arguments)
    runs = [json.loads(line) for line in found.runs.read_text(encoding="utf-8").splitlines()]
    found.page.write_text(page(load_module(found.problems), runs), encoding="utf-8")


if __name__ == "__main__":
    main()
