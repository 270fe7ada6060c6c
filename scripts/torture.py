"""Treats runs and their files as badly as the world does, and reports what was lost, touched or raised.

    scripts/torture.py [kills=20] [disks=10] [doubles=5] [foreign=1] [fuzz=60] [--seed 0]

kills: runs that are killed at random moments and resumed; the journal must be that of a run without a kill.
disks: runs that may write few bytes, as on a full disk; resumed without the limit, they must end like the others.
doubles: two processes in one folder; one is refused and the other ends like the others.
foreign: runs in folders with files of others; no byte of these changes.
fuzz: seconds for which each reader gets damaged files: only ValueError and OSError may be raised, each within 10 s and
    with less than a further gigabyte.
The numbers are how many, or seconds; 0 leaves a part out. The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from damaged_readers import limit_memory, read_damaged, readers_of_exports, readers_of_runs, readers_of_tables

import surrogate
from surrogate.storage.journal import Journal

PARTS = {"kills": 20, "disks": 10, "doubles": 5, "foreign": 1, "fuzz": 60}
BUDGET = 14


def log_likelihood(x):
    """A bent ridge, 20 ms a call, so that accidents can fall between calls."""
    time.sleep(0.02)
    return -0.5 * float(x[0] ** 2 / 0.6 + (x[1] - 0.2 * x[0] ** 2) ** 2 / 0.3)


def run(folder):
    """The run that every trial starts or continues."""
    surrogate.infer(
        log_likelihood,
        {"a": (-4, 4), "b": (-3, 3)},
        output=folder,
        seed=5,
        max_evaluations=BUDGET,
        n_samples=200,
        progress=False,
        into=folder is not None,
    )


class Trial:
    """A forked process, in which everything is imported already; what it prints goes to a file."""

    def __init__(self, work, limit=None):
        """Starts ``work()``; ``limit`` is the largest size of a file in bytes."""
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            self._work(work, limit)

    def _work(self, work, limit):
        os.dup2(self.errors.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
        try:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            work()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)

    def kill(self):
        """Kills the process at once."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def end(self, seconds=600):
        """The exit status, and what was printed as an error."""
        last = time.monotonic() + seconds
        while (ended := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > last:
                self.kill()
                return -1, f"still running after {seconds} s"
            time.sleep(0.01)
        self.errors.seek(0)
        return os.waitstatus_to_exitcode(ended[1]), self.errors.read().decode(errors="replace")


def start(folder, limit=None):
    """The run, in a process of its own."""
    return Trial(partial(run, folder), limit)


def finish(folder):
    """What is wrong with the last run in a folder; empty if it ends well."""
    status, error = start(folder).end()
    return "" if status == 0 else error.strip().splitlines()[-1]


def points(folder):
    """The evaluated points of a run, in order."""
    return [(entry.x.tobytes(), entry.evaluation.y) for entry in Journal(folder / "evaluations.jsonl").read()]


def verdict(folder, whole):
    """What is wrong with a folder after its run has been finished."""
    problem = finish(folder)
    if problem:
        return problem
    return "" if points(folder) == whole else "the journal is not that of a run without an accident"


def kills(n, folder, whole, rng):
    """Kills each run one to three times."""
    for i in range(n):
        place = folder / f"kill{i}"
        for _ in range(rng.integers(1, 4)):
            process = start(place)
            time.sleep(rng.uniform(0.05, 2.0))
            process.kill()
        yield verdict(place, whole)


def disks(n, folder, whole, rng):
    """Lets no file grow beyond a random size."""
    for i in range(n):
        place = folder / f"disk{i}"
        start(place, int(rng.integers(100, 40_000))).end()
        yield verdict(place, whole)


def doubles(n, folder, whole, rng):  # noqa: ARG001
    """Starts two processes in one folder."""
    for i in range(n):
        place = folder / f"double{i}"
        both = [start(place), start(place)]
        ends = [process.end() for process in both]
        refused = sum("is in use by" in error for _, error in ends)
        if refused > 1 or any(status and "is in use by" not in error for status, error in ends):
            yield ends[0][1][-300:] + ends[1][1][-300:]
        else:
            yield verdict(place, whole)


def foreign(n, folder, whole, rng):
    """Runs in folders that hold files of others, links among them."""
    for i in range(n):
        place = folder / f"foreign{i}"
        place.mkdir()
        names = ("chain.py", "samples.csv", ".chain.txt.tmp", "notes.tex", ".notes.12.tmp", "evaluations.txt")
        contents = {place / name: rng.bytes(50) for name in names}
        for path, content in contents.items():
            path.write_bytes(content)
        problem = verdict(place, whole)
        changed = [path.name for path, content in contents.items() if path.read_bytes() != content]
        yield problem or (f"changed: {', '.join(changed)}" if changed else "")


def fuzz(seconds, folder, whole, rng):
    """Gives each reader damaged files for so many seconds, in a process that may take a further gigabyte."""
    place = folder / "fuzz"
    place.mkdir()
    shutil.copytree(whole, place / "run")
    found = [*readers_of_runs(place / "run"), *readers_of_exports(place), *readers_of_tables(place)]
    for i, reader in enumerate(found):
        report = place / f"report{i}"

        def work(reader=reader, report=report):
            limit_memory()
            trials, problem = read_damaged(reader, seconds, rng)
            report.write_text(f"{trials} files{': ' * bool(problem)}{problem}")
            sys.exit(bool(problem))

        status, error = Trial(work).end(seconds + 60)
        text = report.read_text() if report.exists() else error.strip()[-300:]
        print(f"fuzz {i} {reader.path.name}: {text}", flush=True)
        yield f"{reader.path.name}: {text}" if status else ""


def main():
    words = [word for word in sys.argv[1:] if "=" in word]
    seed = int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 0
    asked = {name: int(number) for name, number in (word.split("=") for word in words)}
    if unknown := set(asked) - set(PARTS):
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    wrong = 0
    run(None)  # imports everything, so that the forked runs start at once
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if problem := finish(folder / "whole"):
            sys.exit(f"a run without an accident failed: {problem}")
        whole = points(folder / "whole")
        for part, number in (PARTS | asked).items():
            truth = folder / "whole" if part == "fuzz" else whole
            trials = list(globals()[part](number, folder, truth, np.random.default_rng(seed))) if number else []
            problems = [problem for problem in trials if problem]
            wrong += len(problems)
            print(f"{part}: {len(trials) - len(problems)} of {len(trials)} as they should be", flush=True)
            for problem in problems:
                print(f"  {problem}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
