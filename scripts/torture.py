"""Treats runs and their files as badly as the world does, and reports what was lost, touched or raised.

    scripts/torture.py [kills=20] [disks=10] [doubles=5] [foreign=1] [fuzz=60] [--seed 0]

kills: runs that are killed at random moments and resumed; the journal must be that of a run without a kill.
disks: runs that may write few bytes, as on a full disk; resumed without the limit, they must end like the others.
doubles: two processes in one folder; one is refused and the other ends like the others.
foreign: runs in folders with files of others; no byte of these changes.
fuzz: seconds for which each reader gets damaged files; only ValueError and OSError may be raised, each within seconds.
The numbers are how many, or seconds; 0 leaves a part out. The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from damage import damage

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"kills": 20, "disks": 10, "doubles": 5, "foreign": 1, "fuzz": 60}
BUDGET = 14
PROGRAM = """
import sys, time, surrogate
def log_likelihood(x):
    time.sleep(0.02)
    return -0.5 * float(x[0] ** 2 / 0.6 + (x[1] - 0.2 * x[0] ** 2) ** 2 / 0.3)
surrogate.infer(log_likelihood, {"a": (-4, 4), "b": (-3, 3)}, output=sys.argv[1], seed=5,
                max_evaluations=int(sys.argv[2]), n_samples=200, progress=False, into=True)
"""


def start(folder, limit=None):
    """A run in a process of its own; ``limit`` is the largest size of a file in bytes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(BUDGET)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=None if limit is None else limited,  # noqa: PLW1509
    )


def finish(folder):
    """What is wrong with the last run in a folder; empty if it ends well."""
    process = start(folder)
    error = process.communicate(timeout=600)[1].decode()
    return "" if process.returncode == 0 else error.strip().splitlines()[-1]


def points(folder):
    """The evaluated points of a run, in order."""
    from surrogate.storage.journal import Journal

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
            time.sleep(rng.uniform(0.5, 6.0))
            process.kill()
            process.communicate()
        yield verdict(place, whole)


def disks(n, folder, whole, rng):
    """Lets no file grow beyond a random size."""
    for i in range(n):
        place = folder / f"disk{i}"
        process = start(place, int(rng.integers(100, 40_000)))
        process.communicate(timeout=600)
        yield verdict(place, whole)


def doubles(n, folder, whole, rng):  # noqa: ARG001
    """Starts two processes in one folder."""
    for i in range(n):
        place = folder / f"double{i}"
        both = [start(place), start(place)]
        errors = [process.communicate(timeout=600)[1].decode() for process in both]
        refused = sum("is in use by" in error for error in errors)
        if refused > 1 or any(p.returncode and "is in use by" not in e for p, e in zip(both, errors, strict=True)):
            yield errors[0][-300:] + errors[1][-300:]
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


def readers(whole_run):
    """Files of a finished run, and what reads each."""
    from surrogate.cli.config import read_config
    from surrogate.inference.driving.saved import load_prior, load_state
    from surrogate.storage.arrays import load_arrays
    from surrogate.storage.documents import read_document
    from surrogate.storage.folder import RunFolder
    from surrogate.storage.journal import Journal

    prior = load_prior(RunFolder(whole_run))
    text = b"likelihood: math:exp\nparameters: {a: [0, 1], b: {prior: {dist: norm, loc: 0}}}\noptions: {seed: 1}\n"
    state = (whole_run / "state.npz").read_bytes()
    return [
        ("evaluations.jsonl", (whole_run / "evaluations.jsonl").read_bytes(), lambda path: Journal(path).read()),
        ("state.npz", state, load_arrays),
        ("state.npz", state, lambda path: load_state(RunFolder(path.parent), prior, 5)),
        ("run.yaml", text, read_document),
        ("run.yaml", text, read_config),
    ]


def fuzz(seconds, folder, whole_run, rng):
    """Gives each reader damaged files for so many seconds."""
    place = folder / "fuzz"
    place.mkdir()
    for name, content, read in readers(whole_run):
        end, problem, trials = time.monotonic() + seconds, "", 0
        while time.monotonic() < end and not problem:
            (place / name).write_bytes(damage(content, rng))
            began, trials = time.monotonic(), trials + 1
            try:
                read(place / name)
            except (ValueError, OSError):
                pass
            except BaseException as error:
                problem = f"{name}: {type(error).__name__}: {error}"
            if time.monotonic() - began > 10.0:
                problem = f"{name}: took {time.monotonic() - began:.0f} s"
        print(f"fuzz {name}: {trials} files", flush=True)
        yield problem


def main():
    words = [word for word in sys.argv[1:] if "=" in word]
    seed = int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 0
    asked = {name: int(number) for name, number in (word.split("=") for word in words)}
    if unknown := set(asked) - set(PARTS):
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    wrong = 0
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
