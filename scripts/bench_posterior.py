"""Measures `surrogate.infer`, and peers beside it, on folders of problems with known answers.

A folder holds `problems.py`, with `PUBLIC` (names) and `get(name)` (an object with `bounds`, `loglike` and `logz`),
and `metrics.py`, with `compare(problem, samples, weights, logz)`. A file of such problems may be named in place of the
folder: `FOLDER/third_party.py` holds posteriors of public collections with their reference draws. Such problems have a
`prior` of their own, a `tolerance` of the divergence gskl, which alone decides what is solved, and a `view` in which it
is taken. The package's own targets, `scripts/targets`, are always there too. Every run is a process of its own with one
thread.

    scripts/bench_posterior.py FOLDER --problems gauss4,ring2,needle6 --seeds 1-5 --output results.csv
    scripts/bench_posterior.py --problems angle3,torus3
    scripts/bench_posterior.py scripts/generated --seeds 1 --jobs 2 --output generated.csv
    scripts/bench_posterior.py scripts/generated --problems several-2,warped-4 --seeds 1 --explore thorough
    scripts/bench_posterior.py FOLDER --peer gpry --peer-python other/bin/python
    scripts/bench_posterior.py FOLDER --problems banana2,lognormal4 --seeds 1-2 --ablate
    scripts/bench_posterior.py FOLDER --problems banana2 --ablate probes,holes

With --ablate the parts that `surrogate.inference.ablation` names are left out one at a time; the table
shows what a run without each costs and how often it is right.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
from peers.common import load_module, problems_file

WORKERS = Path(__file__).resolve().parent / "peers"
TARGETS = Path(__file__).resolve().parent / "targets"
PEERS = ("gpry", "pyvbmc", "emcee", "nautilus")
OWN = "surrogate"
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
COSTS = ("evaluations", "cpu")
BINS = (0.0, 0.02, 0.05, 0.1, 1.0)
LIMITS = {"gskl": 0.05, "mmtv": 0.08, "dlogz": 0.2}


@dataclass(frozen=True)
class Run:
    """One tool on one problem with one seed; None where there is no number.

    `pull` is dlogz in units of the error that the tool claims; `size` is the effective size of its sample, below a few
    thousand of which mmtv is mostly noise; `hidden_mode` is the probability of a further mode that the tool states. The
    last four fields say how the run was made: the commit of this checkout, with a + where files were changed, the day,
    and the limits on its calls and on its seconds.
    """

    problem: str
    tool: str
    seed: int
    evaluations: int | None = None
    gskl: float | None = None
    mmtv: float | None = None
    dlogz: float | None = None
    pull: float | None = None
    size: float | None = None
    cpu: float | None = None
    wall: float | None = None
    converged: bool | None = None
    hidden_mode: float | None = None
    solved: bool = False
    status: str = ""
    commit: str = ""
    day: str = ""
    max_evaluations: int | None = None
    timeout: float | None = None

    @property
    def false_claim(self) -> bool:
        """Whether it says to have converged on a posterior that is wrong."""
        return bool(self.converged) and not self.solved


@dataclass(frozen=True, eq=False)
class Suite:
    """A folder or file of problems and how far from the truth a sample of one of them is."""

    folder: Path
    problems: ModuleType
    metrics: ModuleType

    @classmethod
    def of(cls, folder: Path) -> Suite:
        """The suite in a folder, or in a file beside its metrics."""
        problems = problems_file(folder)
        return cls(folder, load_module(problems), load_module(problems.parent / "metrics.py"))

    @property
    def names(self) -> list[str]:
        """Names of its problems."""
        return list(self.problems.PUBLIC if hasattr(self.problems, "PUBLIC") else self.problems.ALL)

    def has(self, name: str) -> bool:
        """Whether it lists a problem, or has a function ``makes`` that says that it can make it."""
        return name in self.names or (hasattr(self.problems, "makes") and self.problems.makes(name))


@dataclass(frozen=True, eq=False)
class Viewed:
    """A problem with reference draws, in the coordinates in which its moments are meant."""

    problem: Any

    @property
    def logz(self) -> float | None:
        """Log-evidence, None if it is unknown."""
        logz: float | None = self.problem.logz
        return logz

    def reference(self, n: int, seed: int) -> np.ndarray:
        """Exact draws with shape (n, k)."""
        return np.asarray(self.problem.view(self.problem.reference(n, seed)))


@dataclass(frozen=True, eq=False)
class Task:
    """A problem of a suite, a tool and a seed; and a part that is left out, "nothing" or none at all."""

    suite: Suite
    problem: Any
    tool: str
    seed: int
    without: str = ""


@dataclass(frozen=True)
class Setting:
    """What each run may use."""

    pythons: dict[str, str]
    max_evaluations: int | None
    timeout: float | None
    explore: str = "normal"

    @cached_property
    def conditions(self) -> Run:
        """A run of which only its conditions are known."""
        day = datetime.now(tz=timezone.utc).date().isoformat()
        limits = {"max_evaluations": self.max_evaluations, "timeout": self.timeout}
        return Run("", "", 0, commit=present_commit(), day=day, **limits)


def present_commit() -> str:
    """Abbreviated commit of this checkout, with a + where files were changed; empty without git."""
    words = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=WORKERS)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def command(setting: Setting, task: Task, output: Path) -> list[str]:
    words = [
        setting.pythons[task.tool],
        str(WORKERS / f"{'ablated' if task.without else task.tool}_worker.py"),
        str(task.suite.folder),
        task.problem.name,
        str(task.seed),
        str(output),
    ]
    return words if setting.max_evaluations is None else [*words, "--max-evaluations", str(setting.max_evaluations)]


def environment(setting: Setting, task: Task) -> dict[str, str]:
    """One thread for everybody; our own worker takes the package from this checkout, installed or not."""
    path = {"PYTHONPATH": str(WORKERS.parents[1])} if task.tool == OWN else {}
    asked = {"SURROGATE_BENCH_WITHOUT": task.without, "SURROGATE_BENCH_EXPLORE": setting.explore}
    return os.environ | ONE_THREAD | path | asked


def is_solved(gskl: float, mmtv: float, dlogz: float | None, tolerance: float | None = None) -> bool:
    """Whether a posterior is right; a tolerance of gskl, where a problem has one, decides alone."""
    if tolerance is not None:
        return gskl < tolerance
    return gskl < LIMITS["gskl"] and mmtv < LIMITS["mmtv"] and (dlogz is None or abs(dlogz) < LIMITS["dlogz"])


def judge(answer: dict[str, Any], arrays: Path, problem: Any, metrics: ModuleType) -> dict[str, Any]:
    """Numbers of a finished run: its answer and its distance from the truth."""
    with np.load(arrays, allow_pickle=False) as sample:
        weights, samples = sample["weights"], sample["samples"]
        if hasattr(problem, "view"):
            samples, viewed = problem.view(samples), Viewed(problem)
        else:
            viewed = problem
        distance = metrics.compare(viewed, samples, weights, answer["log_evidence"])
    gskl, mmtv, dlogz = float(distance["gskl"]), float(distance["mmtv"]), distance["dlogz"]
    error = answer["log_evidence_error"]
    return {
        "evaluations": answer["evaluations"],
        "gskl": gskl,
        "mmtv": mmtv,
        "dlogz": dlogz,
        "pull": dlogz / error if dlogz is not None and error else None,
        "size": float(weights.sum() ** 2 / (weights**2).sum()),
        "cpu": answer["cpu"],
        "wall": answer["wall"],
        "converged": answer["converged"],
        "hidden_mode": answer.get("hidden_mode"),
        "solved": is_solved(gskl, mmtv, dlogz, getattr(problem, "tolerance", None)),
        "status": answer["status"],
    }


def measure(setting: Setting, task: Task) -> Run:
    """One run in a process of its own. What goes wrong there becomes the status of the run."""
    tool = f"- {task.without}" if task.without else task.tool
    run = replace(setting.conditions, problem=task.problem.name, tool=tool, seed=task.seed)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "sample.npz"
        try:
            done = subprocess.run(
                command(setting, task, output),
                capture_output=True,
                text=True,
                check=False,
                timeout=setting.timeout,
                env=environment(setting, task),
            )
        except subprocess.TimeoutExpired:
            return replace(run, status=f"cut off after {setting.timeout:g} s")
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return replace(run, status=f"exit code {done.returncode}: {reason}")
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        try:
            return replace(run, **judge(answer, output, task.problem, task.suite.metrics))
        except np.linalg.LinAlgError:
            words = "its draws are too few, or too much alike, to have a covariance"
            return replace(run, evaluations=answer["evaluations"], cpu=answer["cpu"], status=words)


def number(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def line(run: Run) -> str:
    if run.evaluations is None:
        return f"{run.problem:14s} {run.tool:10s} seed {run.seed}: {run.status}"
    evidence = "" if run.dlogz is None else f", dlogz {run.dlogz:+.3f} ({number(run.pull, '+.1f')} errors)"
    claim = {True: ", claimed", False: ", not claimed", None: ""}[run.converged]
    return (
        f"{run.problem:14s} {run.tool:10s} seed {run.seed}: {run.evaluations:6d} evaluations, "
        f"gskl {number(run.gskl, '.4f')}, mmtv {number(run.mmtv)}{evidence}, CPU {number(run.cpu, '.1f')} s"
        f"{claim}, {'solved' if run.solved else 'NOT SOLVED'}{', FALSE CLAIM' if run.false_claim else ''}"
    )


def middle(runs: Sequence[Run], name: str) -> float | None:
    """Median of a field over the runs that have it; of dlogz and its pull the median size."""
    values = [getattr(run, name) for run in runs if getattr(run, name) is not None]
    return float(median(abs(value) for value in values)) if values else None


def spread(runs: Sequence[Run]) -> str:
    counts = sorted(run.evaluations for run in runs if run.evaluations is not None)
    if not counts:
        return "-"
    return f"{median(counts):g}" if counts[0] == counts[-1] else f"{median(counts):g} ({counts[0]}-{counts[-1]})"


def ratio(runs: Sequence[Run], own: Sequence[Run], name: str) -> str:
    """How many times the tool's median is ours."""
    theirs, ours = middle(runs, name), middle(own, name)
    return "" if theirs is None or not ours else f"{theirs / ours:.2g}"


def table(runs: Sequence[Run]) -> str:
    """Medians over the seeds as a markdown table; with peers, also how many times ours their numbers are."""
    tools = list(dict.fromkeys(run.tool for run in runs))
    head = [
        "problem",
        "tool",
        "evaluations",
        "gskl",
        "mmtv",
        "abs dlogz",
        "in errors",
        "sample",
        "CPU s",
        "claimed",
        "false claims",
        "solved",
    ]
    if len(tools) > 1:
        head += ["evaluations / ours", "CPU / ours"]
    rows = [head, ["---"] * len(head)]
    for problem in dict.fromkeys(run.problem for run in runs):
        own = [run for run in runs if run.problem == problem and run.tool == OWN]
        for tool in tools:
            group = [run for run in runs if run.problem == problem and run.tool == tool]
            if group:
                rows.append(row(problem, tool, group) + (comparison(group, own) if len(tools) > 1 else []))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def worth(runs: Sequence[Run]) -> str:
    """What each part is worth over all problems: evaluations relative to the whole, solved and false claims."""
    whole = {(run.problem, run.seed): run for run in runs if run.tool == "- nothing"}
    rows = [["without", "evaluations / whole", "CPU / whole", "solved", "false claims"], ["---"] * 5]
    for tool in dict.fromkeys(run.tool for run in runs):
        group = [run for run in runs if run.tool == tool]
        shares = [[relative(run, whole.get((run.problem, run.seed)), name) for run in group] for name in COSTS]
        known = [[share for share in column if share is not None] for column in shares]
        means = [number(float(np.exp(np.mean(np.log(column)))), ".2f") if column else "" for column in known]
        solved, false = sum(run.solved for run in group), sum(run.false_claim for run in group)
        rows.append([tool.removeprefix("- "), *means, f"{solved}/{len(group)}", str(false)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def kind(problem: str) -> str:
    """Kind of a generated problem: its name without the number."""
    head, dash, number = problem.rpartition("-")
    return head if dash and number.isdigit() else ""


def by_kind(runs: Sequence[Run]) -> str:
    """Rates over generated problems: how many are solved, and how often a claim or an evidence is wrong."""
    rows = [["kind", "tool", "runs", "evaluations", "CPU s", "solved", "claims", "false claims", "pull below 3"]]
    rows.append(["---"] * len(rows[0]))
    kinds = [*dict.fromkeys(kind(run.problem) for run in runs), "all"]
    for name in kinds:
        for tool in dict.fromkeys(run.tool for run in runs):
            group = [run for run in runs if run.tool == tool and name in (kind(run.problem), "all")]
            claims = [run for run in group if run.converged]
            pulls = [abs(run.pull) < 3.0 for run in group if run.pull is not None]
            counts = [len(group), number(middle(group, "evaluations"), ".0f"), number(middle(group, "cpu"), ".1f")]
            shares = [share(sum(run.solved for run in group), len(group)), len(claims)]
            shares += [share(sum(run.false_claim for run in claims), len(claims)), share(sum(pulls), len(pulls))]
            rows.append([name, tool, *map(str, counts), *map(str, shares)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def calibration(runs: Sequence[Run]) -> str:
    """Claims by the probability of a further mode that they state, with how many of them are false."""
    rows = [["stated", "claims", "stated on average", "false claims"], ["---"] * 4]
    claims = [run for run in runs if run.converged and run.hidden_mode is not None]
    for low, high in zip(BINS, BINS[1:], strict=False):
        group = [run for run in claims if low <= run.hidden_mode < high]
        stated = number(float(np.mean([run.hidden_mode for run in group])), ".1%") if group else "-"
        false = share(sum(run.false_claim for run in group), len(group))
        rows.append([f"{low:.0%} to {high:.0%}", str(len(group)), stated, false])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def share(part: int, whole: int) -> str:
    """A count with its percentage."""
    return f"{part}/{whole} ({part / whole:.1%})" if whole else "-"


def relative(run: Run, whole: Run | None, name: str) -> float | None:
    """A cost of a run in units of that of the whole method on the same problem and seed."""
    mine, base = getattr(run, name), None if whole is None else getattr(whole, name)
    return float(mine / base) if mine and base else None


def row(problem: str, tool: str, runs: Sequence[Run]) -> list[str]:
    claims = [run.converged for run in runs if run.converged is not None]
    return [
        problem,
        tool,
        spread(runs),
        number(middle(runs, "gskl"), ".4f"),
        number(middle(runs, "mmtv")),
        number(middle(runs, "dlogz")),
        number(middle(runs, "pull"), ".1f"),
        number(middle(runs, "size"), ".0f"),
        number(middle(runs, "cpu"), ".1f"),
        f"{sum(claims)}/{len(runs)}" if claims else "",
        f"{sum(run.false_claim for run in runs)}" if claims else "",
        f"{sum(run.solved for run in runs)}/{len(runs)}",
    ]


def comparison(runs: Sequence[Run], own: Sequence[Run]) -> list[str]:
    if not own or runs[0].tool == OWN:
        return ["", ""]
    return [ratio(runs, own, "evaluations"), ratio(runs, own, "cpu")]


def keep(path: Path, runs: Sequence[Run]) -> None:
    """Writes all runs, or adds the last one to a file of lines of JSON, which other commands may have begun."""
    rows = [asdict(run) for run in runs]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        return
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Run)])
        writer.writeheader()
        writer.writerows(rows)


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def seeds(text: str) -> list[int]:
    """Numbers between commas, of which a-b stands for all from a to b."""
    ranges = [[int(end) for end in word.split("-")] for word in words(text)]
    return [seed for ends in ranges for seed in range(ends[0], ends[-1] + 1)]


def chosen(suites: Sequence[Suite], names: Sequence[str] | None) -> list[tuple[Suite, Any]]:
    """The problems of these names, each from the first suite that has it; without names all of the first suite.

    Raises:
        ValueError: If no suite has one of them.
    """
    found = []
    for name in names or suites[0].names:
        owner = next((suite for suite in suites if suite.has(name)), suites[-1])
        found.append((owner, owner.problems.get(name)))
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="*", help="folder with problems.py and metrics.py")
    parser.add_argument("--problems", type=words, help="names between commas; all of the first folder without it")
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3], help="such as 1,2,3 or 1-3")
    parser.add_argument("--peer", action="append", choices=PEERS, default=[], help="measured as well; may be repeated")
    parser.add_argument(
        "--peer-python", action="append", default=[], help="interpreter of each --peer; this one without it"
    )
    parser.add_argument("--peers-only", action="store_true", help="leave surrogate out")
    parser.add_argument(
        "--ablate", nargs="?", const="", type=words, help="parts to leave out one at a time; all of them alone"
    )
    parser.add_argument("--max-evaluations", type=int, help="for every tool; each one's own default without it")
    parser.add_argument("--timeout", type=float, help="seconds after which a run is cut off")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at a time; CPU seconds suffer when the cores are full"
    )
    parser.add_argument("--output", type=Path, help="keeps every run, as .csv, .json or, after earlier ones, .jsonl")
    parser.add_argument(
        "--explore", default="normal", choices=("fast", "normal", "thorough"), help="how long ours looks for more modes"
    )
    found = parser.parse_args(arguments)
    if len(found.peer_python) not in (0, 1, len(found.peer)):
        parser.error(f"expected one --peer-python, or one for each --peer, got {len(found.peer_python)}")
    return found


def interpreters(found: argparse.Namespace) -> dict[str, str]:
    given = found.peer_python or [sys.executable]
    peers = dict(zip(found.peer, given * len(found.peer) if len(given) == 1 else given, strict=False))
    return peers if found.peers_only else {OWN: sys.executable, **peers}


def tasks_of(found: argparse.Namespace, problems: Sequence[tuple[Suite, Any]], setting: Setting) -> list[Task]:
    """All runs: of all tools, or of ours as it is and without each of some parts."""
    if found.ablate is None:
        return [Task(*pair, tool, seed) for pair in problems for tool in setting.pythons for seed in found.seeds]
    without = ["nothing", *(found.ablate or parts())]
    return [Task(*pair, OWN, seed, name) for pair in problems for name in without for seed in found.seeds]


def parts() -> tuple[str, ...]:
    """Names of all parts that can be left out, from this checkout."""
    sys.path.insert(0, str(WORKERS.parents[1]))
    from surrogate.inference import ablation

    return ablation.parts()


def main(arguments: Sequence[str] | None = None) -> int:
    found = parse(arguments)
    suites = [Suite.of(folder.resolve()) for folder in (*found.suite, TARGETS)]
    setting = Setting(interpreters(found), found.max_evaluations, found.timeout, found.explore)
    problems = chosen(suites, found.problems)
    tasks = tasks_of(found, problems, setting)
    runs = []
    with ThreadPoolExecutor(found.jobs) as pool:
        for run in pool.map(lambda task: measure(setting, task), tasks):
            print(line(run), flush=True)
            runs.append(run)
            if found.output:
                keep(found.output, runs)
    print("\nMedians over the seeds, of dlogz without its sign:\n\n" + table(runs))
    if any(kind(run.problem) for run in runs):
        generated = [run for run in runs if kind(run.problem)]
        print("\nGenerated problems by kind:\n\n" + by_kind(generated))
        print("\nClaims by the probability of a further mode that they state:\n\n" + calibration(generated))
    if found.ablate is not None:
        print("\nAll problems and seeds:\n\n" + worth(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
