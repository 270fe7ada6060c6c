"""What reads files in this package, each with a whole file to damage, for scripts/torture.py."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from damage import damage, damage_arrays

import surrogate
from surrogate.cli.config import read_config
from surrogate.cli.main import facts_of_run
from surrogate.inference.driving.saved import load_origin, load_prior, load_state
from surrogate.labelling.answers import read_answers
from surrogate.labelling.opening import new_run, open_run
from surrogate.labelling.settings import LabelSettings
from surrogate.labelling.table import read_table
from surrogate.log_density.composite.emulator import load_observables
from surrogate.networks.export import load_network, save_network
from surrogate.output.outcome import read_outcome
from surrogate.storage.arrays import load_arrays
from surrogate.storage.documents import read_document
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Journal
from surrogate.svm.libsvm import read_libsvm, read_machine, write_libsvm, write_machine

SLOWEST = 10.0  # seconds that a damaged file may take
MEMORY = 1 << 30  # bytes that reading may add


class Reader(NamedTuple):
    """A function that reads a file, and the file as the package writes it."""

    path: Path
    read: Callable[[Path], Any]


def readers_of_runs(whole: Path) -> list[Reader]:
    """What reads the files of a finished run in a folder."""
    run = RunFolder(whole)
    prior = load_prior(run)
    show = lambda path: facts_of_run(RunFolder(path.parent))  # noqa: E731 - what `surrogate status` says
    return [
        Reader(whole / "evaluations.jsonl", lambda path: Journal(path).read()),
        Reader(whole / "state.npz", load_arrays),
        Reader(whole / "state.npz", lambda path: load_state(RunFolder(path.parent), prior, 5)),
        Reader(whole / "state.npz", lambda path: load_prior(RunFolder(path.parent))),
        Reader(whole / "state.npz", lambda path: load_origin(RunFolder(path.parent))),
        Reader(whole / "state.npz", lambda path: surrogate.load_result(path.parent, n_samples=20)),
        Reader(whole / "result.json", read_outcome),
        *(Reader(whole / name, show) for name in ("evaluations.jsonl", "state.npz", "trace.csv", "result.json")),
    ]


def readers_of_exports(folder: Path) -> list[Reader]:
    """What reads exported surrogates, networks and machines, made in a folder."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 2))
    y = np.sign(x[:, 0])
    quick: dict[str, Any] = {"max_evaluations": 9, "n_samples": 100, "seed": 5, "progress": False}
    surrogate.infer(lambda x: -0.5 * float(x @ x), [(-4, 4)] * 2, **quick).export(folder / "predictor.npz")
    target = surrogate.Observables(
        lambda x: np.array([x[0], x[1], x[0] * x[1]]), surrogate.GaussianData(np.ones(3), np.full(3, 0.1))
    )
    surrogate.infer(target, [(-2, 2)] * 2, **quick).observables().save(folder / "observables.npz")
    network = surrogate.NetworkRegressor(hidden=(8,), epochs=5, random_state=0).fit(x, y)
    save_network(network, folder / "network.npz")
    write_machine(folder / "machine.model", surrogate.LSSVC().fit(x, y).to_file())
    write_libsvm(folder / "rows.libsvm", x, y)
    return [
        Reader(folder / "predictor.npz", surrogate.load_predictor),
        Reader(folder / "observables.npz", load_observables),
        Reader(folder / "network.npz", load_network),
        Reader(folder / "machine.model", read_machine),
        Reader(folder / "rows.libsvm", read_libsvm),
    ]


def readers_of_tables(folder: Path) -> list[Reader]:
    """What reads tables, answers, documents and the files of a labelling run, made in a folder."""
    x = np.random.default_rng(2).normal(size=(60, 2))
    labels = [f"{a + b:.3f}" if i < 20 else "" for i, (a, b) in enumerate(x)]
    rows = [f"{i},{a:.3f},{'red' if b > 0 else 'blue'},{labels[i]}" for i, (a, b) in enumerate(x)]
    (folder / "table.csv").write_text("\n".join(["id,a,colour,y", *rows]) + "\n")
    (folder / "answers.csv").write_text("id,y\n" + "".join(f"{i},{0.5 * i}\n" for i in range(30, 40)))
    (folder / "run.yaml").write_text(
        "likelihood: math:exp\nparameters: {a: [0, 1], b: {prior: {dist: norm, loc: 0}}}\noptions: {seed: 1}\n"
    )
    run = folder / "labelling"
    with new_run(folder / "table.csv", "y", {"id": "id"}, LabelSettings(), output=run) as started:
        pool = started.pool
        batch = started.ask(8)
        started.tell(batch.rows[:6], np.arange(6.0))
    opened = partial(open_run, writing=False)
    return [
        Reader(folder / "table.csv", read_table),
        Reader(folder / "answers.csv", partial(read_answers, pool=pool)),
        Reader(folder / "run.yaml", read_document),
        Reader(folder / "run.yaml", read_config),
        Reader(run / "labels.jsonl", lambda path: opened(path.parent)),
        Reader(run / "config.yaml", lambda path: opened(path.parent)),
        Reader(run / "state.npz", lambda path: opened(path.parent)),
    ]


def read_damaged(reader: Reader, seconds: float, rng: np.random.Generator) -> tuple[int, str]:
    """How many damaged files a reader was given in so many seconds, and what is wrong with it; empty if nothing is."""
    whole, end, trials, problem = reader.path.read_bytes(), time.monotonic() + seconds, 0, ""
    while time.monotonic() < end and not problem:
        if reader.path.suffix == ".npz" and rng.random() < 0.7:
            damage_arrays(reader.path, whole, rng)
        else:
            reader.path.write_bytes(damage(whole, rng))
        problem, trials = _problem(reader), trials + 1
    reader.path.write_bytes(whole)
    return trials, problem


def _problem(reader: Reader) -> str:
    began = time.monotonic()
    try:
        reader.read(reader.path)
    except (ValueError, OSError):
        pass
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    took = time.monotonic() - began
    return f"took {took:.0f} s" if took > SLOWEST else ""


def limit_memory() -> None:
    """Lets this process take a further gigabyte; what needs more raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
